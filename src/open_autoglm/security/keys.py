"""API keys: who a request comes from.

Keys are kept as HMAC-SHA-256 under a pepper and found by that digest, so that neither a memory dump nor the time of a
lookup gives one away. A ring is immutable; a reload builds another.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from open_autoglm.secret import Secret
from open_autoglm.security.signature import SigningKey


class Limiter(Protocol):
    """Holds a key to its limits; see `resilience.key_limiter`."""

    @property
    def refused_by(self) -> str:
        """Which limit refused last."""

    def admit(self, now_s: float) -> float:
        """Return 0.0 when let in, else seconds to wait."""

    def release(self) -> None:
        """A request that was let in is over."""

    def lease(self, least: int, most: int, now_s: float) -> tuple[int, int]:
        """Let many requests in at once; return how many, and how many of them may be in flight, 0 for any number."""

    def end_lease(self, unused: int, places: int, now_s: float) -> None:
        """Take back what `lease` gave and nobody used."""

    def remaining(self, now_s: float) -> int:
        """Return how many requests could come at once."""


class Line(Protocol):
    """Where requests of a key wait for its rate; see `admission.key_line`."""

    waiting: int

    def __iter__(self) -> Iterator[Any]:
        """Those who wait, the next one first."""

    def join(self, item: Any, now_s: float, deadline_s: float) -> int:
        """Wait; return the position, 0 when there is no place."""

    def pump(self, now_s: float, admit: Callable[[float], float]) -> tuple[list[Any], list[Any]]:
        """Return who is let in, and who has waited too long."""

    def discard(self, item: Any) -> None:
        """One has left."""


class Principal:
    """Who a request comes from, and what they may do.

    Attributes:
        name: of the key, for logs and metrics.
        models: names that may be used and seen; None for all.
        limiter: None when no limit applies. It outlives configurations.
        limit: requests that this configuration lets in at once, as answers announce it; 0 for no rate.
        line: where requests wait that the limiter does not let in; None when they are refused. It outlives
            configurations too.
        ceiling: number of the highest priority class that the configuration gives it.
        priority: the same, or a lower one while it behaves unusually.
        requests, refused: answered so far, and of those with a status of 400 to 498, apart from 429.
    """

    __slots__ = (
        "ceiling",
        "limit",
        "limiter",
        "line",
        "models",
        "name",
        "priority",
        "refused",
        "requests",
    )

    def __init__(
        self,
        name: str,
        models: frozenset[str] | None,
        limiter: Limiter | None,
        limit: int = 0,
        line: Line | None = None,
        *,
        ceiling: int = 2,
    ) -> None:
        self.name = name
        self.models = models
        self.limiter = limiter
        self.limit = limit
        self.line = line
        self.ceiling = self.priority = ceiling
        self.requests = self.refused = 0

    def may_use(self, model: str) -> bool:
        """Whether this key may use a model."""
        return self.models is None or model in self.models


class KeyRing:
    """All keys of one configuration. Signing keys are kept too: they sign handshakes, and are no keys to show.

    Args:
        keys: each with its principal.
        pepper: at least 16 secret bytes, the same for as long as digests are kept.
        names: of certificates, as `dns:…` and `uri:…`, each with the principal that it stands for.
    """

    def __init__(
        self,
        keys: Sequence[tuple[Secret, Principal]],
        pepper: bytes,
        names: Mapping[str, Principal] = MappingProxyType({}),
    ) -> None:
        if len(pepper) < 16:
            raise ValueError(f"the pepper has {len(pepper)} bytes; at least 16 are needed")
        self._pepper = pepper
        self._principals = {self._digest(key.reveal()): principal for key, principal in keys}
        signers = [(SigningKey(key.reveal()), principal) for key, principal in keys]
        self._signers = {signer.id: (signer, principal) for signer, principal in signers}
        self._names = names

    def find(self, key: str) -> Principal | None:
        """Return whose key this is, or None."""
        return self._principals.get(self._digest(key))

    def find_signer(self, key_id: str) -> tuple[SigningKey, Principal] | None:
        """Return the key with an id and whose it is, or None. Knowing an id proves nothing."""
        return self._signers.get(key_id)

    def find_named(self, names: Sequence[str]) -> Principal | None:
        """Return for whom a checked certificate stands, by the first of its names that stands for somebody."""
        return next((self._names[name] for name in names if name in self._names), None)

    def principals(self) -> list[Principal]:
        """Everybody who holds a key."""
        return list(self._principals.values())

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode("utf-8", "surrogateescape"), "sha256")
