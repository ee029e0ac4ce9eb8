"""The receiving half of a parameter update: which chunks are here, and when the whole may be looked at.

| state | means | next |
|---|---|---|
| receiving | some chunk is missing | complete, refused |
| complete | every chunk is here and has its announced hash | the owner verifies the whole |
| refused | given up; every chunk that still comes is refused too | – |

Invariant: a chunk counts only when its decoded bytes have the hash that was announced, so order, repetition and damage
on the way change nothing but the time. What is announced is bound to the signed manifest by the hash over the whole,
which the owner takes when all is complete. Bytes are not kept here: the owner writes them and says so.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from open_autoglm.rollout import delta
from open_autoglm.rollout.chunks import ChunkPlan, Range, ranges
from open_autoglm.rollout.manifest import Manifest
from open_autoglm.rollout.refusal import UpdateRefused

DAMAGED_MAX: Final = 16
"""Damaged chunks after which an update is given up: a line that damages more is no line."""

State = Literal["receiving", "complete", "refused"]


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What UPDATE_BEGIN carries.

    Attributes:
        manifest: the version, as the text of its file.
        config: the text of its `config.json`.
        plan: how the body is cut.
        parent: the version that differences are taken from, or None.
    """

    manifest: str
    config: str
    plan: ChunkPlan
    parent: str | None = None


class Reception:
    """See the module.

    Args:
        manifest: checked.
        plan: as offered.

    Raises:
        UpdateRefused: `chunk`, the plan is none or not that of the manifest's body.
    """

    __slots__ = ("_damaged", "_present", "manifest", "plan", "reason")

    def __init__(self, manifest: Manifest, plan: ChunkPlan) -> None:
        plan.check()
        if plan.body_bytes != manifest.weights_bytes:
            raise UpdateRefused(
                "chunk", f"chunks for {plan.body_bytes} bytes, the manifest says {manifest.weights_bytes}"
            )
        self.manifest = manifest
        self.plan = plan
        self.reason = ""
        self._present: set[int] = set()
        self._damaged = 0

    @property
    def state(self) -> State:
        """See the module."""
        if self.reason:
            return "refused"
        return "complete" if len(self._present) == self.plan.count else "receiving"

    @property
    def received(self) -> int:
        """Chunks that are here."""
        return len(self._present)

    @property
    def damaged(self) -> int:
        """Chunks that came and were not what was announced."""
        return self._damaged

    def chunk(self, index: int, codec: int, payload: bytes, parent: bytes | None) -> bytes | None:
        """Decode a chunk.

        Args:
            index, codec, payload: as they came.
            parent: the same span of the parent version, if that is here.

        Returns:
            The bytes to write at the chunk's span, after which `written` is to be called; None for one that is here.

        Raises:
            UpdateRefused: `chunk`, it is damaged and should be sent again, or, once `state` is refused, never.
        """
        if self.reason:
            raise UpdateRefused("chunk", self.reason)
        if not 0 <= index < self.plan.count:
            raise self._damage(f"there is no chunk {index!r} among {self.plan.count}")
        if index in self._present:
            return None
        start, end = self.plan.span(index)
        try:
            data = delta.decode(codec, payload, parent, end - start)
        except UpdateRefused as error:
            raise self._damage(error.message) from error
        if not self.plan.fits(index, data):
            raise self._damage(f"chunk {index} is not the one that was announced")
        return data

    def written(self, index: int) -> None:
        """Count a chunk whose bytes are where they belong."""
        if 0 <= index < self.plan.count:
            self._present.add(index)

    def recovered(self, index: int, data: bytes) -> None:
        """Count a chunk found from before a restart, if it is what was announced."""
        if self.plan.fits(index, data):
            self._present.add(index)

    def missing(self) -> list[Range]:
        """The first 64 ranges of chunks that are not here."""
        return ranges(self.plan.count, self._present)

    def _damage(self, message: str) -> UpdateRefused:
        self._damaged += 1
        if self._damaged >= DAMAGED_MAX:
            self.reason = f"{self._damaged} chunks came damaged, the last: {message}"
        return UpdateRefused("chunk", message)
