"""Keys and addresses that behave unlike others, or unlike themselves: flagged, and slowed until they behave again.

| source | is flagged | and then | until |
|---|---|---|---|
| address | for 10 failed authentications in a minute | must wait 10 s with new keys, each time twice as long | then |
| key | for 90 % of 100 requests a minute answered 4xx but 429 | is sheddable, at most 100/min | a minute below half |
| key | for a rate above 50/s and 10 times its mean | is sheddable, at most at that rate | likewise |

A key's counts fade with a time constant (60 s, for the mean 1 h) instead of being kept one by one, so each source is a
few numbers. The table of addresses is bounded: the one that failed least recently is forgotten first. Keys are those
of the configuration.
"""

from __future__ import annotations

from collections import OrderedDict
from math import exp
from typing import Final, Literal

from open_autoglm.admission.settings import SourceSettings

Rule = Literal["refused", "rate"]

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0
_KNOWN_AFTER_S: Final = 600.0
"""A key has no mean to be compared with before it has been seen for so long."""
_CALM_S: Final = 60.0
_CALM_SHARE: Final = 0.5
_ADDRESSES_MAX: Final = 4096
_WAIT_S: Final = 10.0
_WAIT_MAX_S: Final = 600.0


class _Address:
    __slots__ = ("blocked_until_s", "episodes", "failures", "seen_s", "since_s")

    def __init__(self, now_s: float) -> None:
        self.since_s = self.seen_s = now_s
        self.failures = 0
        self.episodes = 0
        self.blocked_until_s = 0.0


class AddressWatch:
    """Addresses that guess keys.

    Args:
        settings: limits.

    Attributes:
        settings: may be changed at any time.
    """

    __slots__ = ("_addresses", "settings")

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address has to wait before it may try another key; 0.0 when it need not."""
        state = self._addresses.get(address)
        return 0.0 if state is None else max(0.0, state.blocked_until_s - now_s)

    def failed(self, address: str, now_s: float) -> bool:
        """An address showed no valid key; return whether it is flagged now and was not before."""
        state = self._addresses.get(address)
        if state is None or now_s - state.seen_s > _HOUR_S:
            if len(self._addresses) >= _ADDRESSES_MAX:
                self._addresses.popitem(last=False)
            state = self._addresses[address] = _Address(now_s)
        self._addresses.move_to_end(address)
        state.seen_s = now_s
        if now_s - state.since_s > _MINUTE_S:
            state.since_s, state.failures = now_s, 0
        state.failures += 1
        if state.failures < self.settings.failures:
            return False
        state.blocked_until_s = now_s + min(_WAIT_S * 2.0**state.episodes, _WAIT_MAX_S)
        state.episodes += 1
        state.since_s, state.failures = state.blocked_until_s, 0
        return True

    def flagged(self, now_s: float) -> dict[str, float]:
        """The addresses that have to wait, and for how many seconds still."""
        return {
            address: state.blocked_until_s - now_s
            for address, state in self._addresses.items()
            if state.blocked_until_s > now_s
        }


class KeyWatch:
    """One key.

    Args:
        now_s: monotonic seconds.

    Attributes:
        rule: why it is flagged; None when it is not.
        rate: requests per second that it is held to while flagged.
    """

    __slots__ = ("_calm_s", "_looked_s", "_mean", "_refused", "_requests", "_since_s", "rate", "rule")

    def __init__(self, now_s: float) -> None:
        self._since_s = self._looked_s = now_s
        self._requests = 0.0
        self._refused = 0.0
        self._mean = 0.0
        self._calm_s = 0.0
        self.rule: Rule | None = None
        self.rate = 0.0

    def look(self, requests: int, refused: int, now_s: float, settings: SourceSettings) -> bool:
        """Take in what came since the last look; return whether it has been flagged or released.

        Args:
            requests: since the last look.
            refused: of those, answered with a status of 400 to 498 but 429. Who is held to limits, ours among them, and
                does not heed them must not stay flagged for that.
            now_s: monotonic seconds.
            settings: limits.
        """
        passed_s = max(now_s - self._looked_s, 1e-3)
        self._looked_s = now_s
        fading = exp(-passed_s / _MINUTE_S)
        self._requests = self._requests * fading + requests
        self._refused = self._refused * fading + refused
        # The mean of a young key is that of its life: a fading one would start from zero and call everything unusual.
        age_s = max(now_s - self._since_s, passed_s)
        share = min(1.0, passed_s / min(age_s, _HOUR_S))
        usual = self._mean
        self._mean += (requests / passed_s - self._mean) * share
        rule = self._broken(settings, usual, age_s, 1.0)
        if self.rule is None:
            if rule is None:
                return False
            self.rule = rule
            refusable = settings.refused_requests / _MINUTE_S
            self.rate = refusable if rule == "refused" else max(settings.rate_min, settings.rate_factor * usual)
            self._calm_s = now_s
            return True
        if self._broken(settings, usual, age_s, _CALM_SHARE) is not None:
            self._calm_s = now_s
        elif now_s - self._calm_s >= _CALM_S:
            self.rule = None
            return True
        return False

    def _broken(self, settings: SourceSettings, usual: float, age_s: float, scale: float) -> Rule | None:
        """Which rule is broken, with limits scaled."""
        least = settings.refused_requests * scale
        if self._requests >= least and self._refused >= settings.refused_share * scale * self._requests:
            return "refused"
        rate = self._requests / _MINUTE_S
        if age_s >= _KNOWN_AFTER_S and rate > scale * max(settings.rate_min, settings.rate_factor * usual):
            return "rate"
        return None
