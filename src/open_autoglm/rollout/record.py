"""What the servers of a cluster tell each other of one rollout, and what counts when several wrote at once.

Invariant: which record counts follows from the records alone, so whoever knows the same ones acts the same way. A
rollback counts before whatever was written at the same time: it takes work from a version that somebody distrusts,
and to repeat the other step costs a command. Of other steps the one of the highest rank counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from open_autoglm.rollout.plan import RolloutRules, State
from open_autoglm.rollout.weights import VersionWeights

WHY_CHARACTERS_MAX: Final = 96
RECORD_BYTES_MAX: Final = 1024
"""As long as a fact may be."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class RolloutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """See the module.

    Attributes:
        model: its name.
        run: drawn at the start; a later rollout of the same versions has another one.
        state: see `rollout.plan`.
        stable, candidate: versions.
        share: of the requests that the candidate gets, 0 to 1.
        rules: when it goes by itself.
        why: of the newest step, up to 96 characters.
    """

    model: _Name
    run: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    state: State
    stable: _Name
    candidate: _Name
    share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    rules: RolloutRules = RolloutRules()
    why: Annotated[str, msgspec.Meta(max_length=WHY_CHARACTERS_MAX)] = ""

    @property
    def weights(self) -> VersionWeights:
        """Which request gets which version."""
        return VersionWeights(self.model, self.stable, self.candidate, self.share)

    @property
    def wanted(self) -> str:
        """The version that every node is to serve once the rollout is over."""
        return self.candidate if self.state == "promoted" else self.stable

    def wants(self, version: str) -> bool:
        """Whether nodes are to serve a version as things stand."""
        return version == self.wanted or (self.state == "running" and version == self.candidate)

    def with_step(self, state: State, share: float, why: str) -> RolloutRecord:
        """Return the record after a step."""
        return msgspec.structs.replace(self, state=state, share=share, why=why[:WHY_CHARACTERS_MAX])


def write_record(record: RolloutRecord) -> bytes:
    """Return a record as a fact.

    Raises:
        ValueError: its names are too long for one.
    """
    data = msgspec.json.encode(record)
    if len(data) > RECORD_BYTES_MAX:
        raise ValueError(f"a rollout with these names takes {len(data)} bytes; {RECORD_BYTES_MAX} are the most")
    return data


def read_record(data: bytes) -> RolloutRecord | None:
    """Return a record that another server wrote; None when it is none, as one of a later version of this program."""
    try:
        record = msgspec.json.decode(data, type=RolloutRecord)
    except (ValueError, RecursionError):  # what msgspec, UTF-8 and the rules raise are all of them
        return None
    return None if record.stable == record.candidate else record


def counting(values: Iterable[bytes | None]) -> RolloutRecord | None:
    """Return the record that counts of what was written at once.

    Args:
        values: of the highest rank first; None for a removal, which anything else counts before.
    """
    records = [record for value in values if value is not None and (record := read_record(value)) is not None]
    taken_back = [record for record in records if record.state == "rolled_back"]
    return next(iter(taken_back or records), None)
