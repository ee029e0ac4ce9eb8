"""API keys: who a request comes from.

Keys are kept as HMAC-SHA-256 under a pepper and found by that digest, so that neither a memory dump nor the time of a
lookup gives one away. A ring is immutable; a reload builds another.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from open_autoglm.secret import Secret


class Limiter(Protocol):
    """Holds a key to its limits; see `resilience.key_limiter`."""

    @property
    def refused_by(self) -> str:
        """Which limit refused last."""

    def admit(self, now_s: float) -> float:
        """Return 0.0 when let in, else seconds to wait."""

    def release(self) -> None:
        """A request that was let in is over."""

    def remaining(self, now_s: float) -> int:
        """Return how many requests could come at once."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from, and what they may do.

    Attributes:
        name: of the key, for logs and metrics.
        models: names that may be used and seen; None for all.
        limiter: None when no limit applies. It outlives configurations.
        limit: requests that this configuration lets in at once, as answers announce it; 0 for no rate.
    """

    name: str
    models: frozenset[str] | None
    limiter: Limiter | None
    limit: int = 0

    def may_use(self, model: str) -> bool:
        """Whether this key may use a model."""
        return self.models is None or model in self.models


class KeyRing:
    """All keys of one configuration.

    Args:
        keys: each with its principal.
        pepper: at least 16 secret bytes, the same for as long as digests are kept.
    """

    def __init__(self, keys: Sequence[tuple[Secret, Principal]], pepper: bytes) -> None:
        if len(pepper) < 16:
            raise ValueError(f"the pepper has {len(pepper)} bytes; at least 16 are needed")
        self._pepper = pepper
        self._principals = {self._digest(key.reveal()): principal for key, principal in keys}

    def find(self, key: str) -> Principal | None:
        """Return whose key this is, or None."""
        return self._principals.get(self._digest(key))

    def principals(self) -> list[Principal]:
        """Everybody who holds a key."""
        return list(self._principals.values())

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode("utf-8", "surrogateescape"), "sha256")
