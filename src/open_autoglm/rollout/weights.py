"""Which of two versions a request gets: by weight, and always the same one for the same key or session.

Invariant: a request's place in 0…1 follows from its affinity and the model's name alone, and the candidate has the
places below its share; so raising the share moves requests to the candidate only, lowering it back only, and whoever
was moved stays. Source of the mixing: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
"""

from __future__ import annotations

import hashlib
from typing import Final

_MASK: Final = (1 << 64) - 1


class VersionWeights:
    """Two versions of one model, and how much of the work the newer one gets.

    Args:
        model: its name.
        stable: the version that serves all that the candidate does not.
        candidate: the newer one.
        share: of the requests that the candidate gets, 0 to 1.

    Raises:
        ValueError: the share is none.
    """

    __slots__ = ("_bound", "_salt", "candidate", "share", "stable")

    def __init__(self, model: str, stable: str, candidate: str, share: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is {share!r}; it must be 0 to 1")
        self.stable = stable
        self.candidate = candidate
        self.share = share
        self._bound = int(share * (1 << 64))
        self._salt = int.from_bytes(hashlib.sha256(model.encode()).digest()[:8], "big")

    def choose(self, affinity: int) -> str:
        """Version for a request.

        Args:
            affinity: 64 bits that follow from the session or the key; of a request with neither, random bits.
        """
        return self.candidate if _mixed(affinity ^ self._salt) < self._bound else self.stable


def _mixed(bits: int) -> int:
    bits &= _MASK
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & _MASK
    return bits ^ (bits >> 31)
