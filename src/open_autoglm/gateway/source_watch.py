"""Carries the rules of `admission.sources` out: who is flagged is slowed, and people are told.

A flag costs the request path nothing: it lowers the class that a key's principal has, and the rate of its limiter.
Invariant: each flag and each release is one line in the log, and each source that is flagged is shown by `flagged`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from open_autoglm.admission.classes import SHEDDABLE
from open_autoglm.admission.networks import Networks, one_for_its_network
from open_autoglm.admission.settings import SourceSettings
from open_autoglm.admission.sources import AddressWatch, KeyWatch
from open_autoglm.security.keys import Principal

_log = logging.getLogger(__name__)
_RULES: Final = {"refused": "most of its requests are refused", "rate": "its rate is far above its own mean"}
_LOOPBACK: Final = Networks(("127.0.0.0/8", "::1", "unix"))


class SourceWatch:
    """See the module.

    Args:
        settings: of the rules.
        pace: holds a key to a rate, in requests per second; None: to what the configuration says.

    Attributes:
        flags: sources flagged so far, by kind (`address`, `key`).
    """

    def __init__(self, settings: SourceSettings, pace: Callable[[str, float | None], None]) -> None:
        self._settings = settings
        self._pace = pace
        self._addresses = AddressWatch(settings)
        self._proxies = Networks(())
        self._keys: dict[str, KeyWatch] = {}
        self._principals: dict[str, Principal] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.flags = {"address": 0, "key": 0}

    def adopt(self, settings: SourceSettings, principals: Iterable[Principal], proxies: Networks, now_s: float) -> None:
        """Look after the keys of another configuration; those that stay keep their flags, unless that is switched off.

        Their limiters have been set to what the configuration says.
        """
        self._settings = self._addresses.settings = settings
        if not settings.enabled:
            self._forget()
        self._proxies = proxies
        self._principals = {principal.name: principal for principal in principals}
        self._seen = {}
        self._keys = {name: self._keys.get(name) or KeyWatch(now_s) for name in self._principals}
        for name, watch in self._keys.items():
            if watch.rule is not None:
                self._slow(name, watch)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long an address has to wait before it may show a key."""
        return self._addresses.wait_s(one_for_its_network(address), now_s)

    def failed(self, address: str, now_s: float) -> None:
        """An address showed no valid key."""
        settings = self._settings
        if not settings.enabled or address in self._proxies or (not settings.loopback and address in _LOOPBACK):
            return
        address = one_for_its_network(address)
        if self._addresses.failed(address, now_s):
            self.flags["address"] += 1
            wait_s = self._addresses.wait_s(address, now_s)
            _log.warning("source flagged: address %s, failed authentications; it waits %.0f s", address, wait_s)

    def look(self, now_s: float) -> None:
        """Look at what each key has done since the last look."""
        if not self._settings.enabled:
            return
        for name, principal in self._principals.items():
            watch = self._keys[name]
            requests, refused = self._seen.get(name, (0, 0))
            self._seen[name] = principal.requests, principal.refused
            if watch.look(principal.requests - requests, principal.refused - refused, now_s, self._settings):
                if watch.rule is not None:
                    self.flags["key"] += 1
                    self._slow(name, watch)
                    _log.warning(
                        "source flagged: key %s, %s; class sheddable, %.3g/s", name, _RULES[watch.rule], watch.rate
                    )
                else:
                    principal.priority = principal.ceiling
                    self._pace(name, None)
                    _log.warning("source released: key %s", name)

    def flagged(self, now_s: float) -> list[dict[str, Any]]:
        """The sources that are flagged now."""
        rows: list[dict[str, Any]] = [
            {"kind": "address", "name": address, "rule": "failed_authentications", "wait_s": round(wait_s, 1)}
            for address, wait_s in self._addresses.flagged(now_s).items()
        ]
        for name, watch in self._keys.items():
            if watch.rule is not None:
                rows.append({"kind": "key", "name": name, "rule": watch.rule, "requests_per_second": watch.rate})
        return rows

    def _forget(self) -> None:
        """Nobody is flagged any more."""
        self._addresses = AddressWatch(self._settings)
        for name, watch in self._keys.items():
            if watch.rule is not None:
                _log.warning("source released: key %s", name)
        self._keys = {}

    def _slow(self, name: str, watch: KeyWatch) -> None:
        principal = self._principals[name]
        principal.priority = min(SHEDDABLE, principal.ceiling)
        self._pace(name, watch.rate)
