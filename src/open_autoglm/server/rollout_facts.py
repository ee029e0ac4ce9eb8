"""Rollouts as facts of the cluster: every server reads the same ones, and writes in place of what it has read only.

Invariant: what is read follows from the facts alone (`rollout.record.counting`), so servers that have heard the same
end with the same answer; what lost is kept in the conflict log.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from open_autoglm.dissemination import Entry, Reading, ReplicatedMap, WriteConflict
from open_autoglm.dissemination.entry import KEY_BYTES_MAX
from open_autoglm.errors import RequestError
from open_autoglm.rollout.record import RolloutRecord, counting, read_record, write_record

PREFIX: Final = "rollout/"


class SharedFacts(Protocol):
    """What is needed of `cluster.facts.ClusterFacts`."""

    @property
    def map(self) -> ReplicatedMap:
        """What is known."""

    def write(self, key: str, value: bytes | None, expected: dict[str, int], *, ttl_ms: int | None = None) -> Entry:
        """Write a fact and tell everybody."""


class Agreed(NamedTuple):
    """What is known of a model's rollout.

    Attributes:
        record: what counts; None when there is no rollout.
        by: the member that wrote it.
        seen: knows all that was read, and so may be written over.
    """

    record: RolloutRecord | None
    by: str
    seen: Mapping[str, int]


class RolloutFacts:
    """See the module."""

    def __init__(self, facts: SharedFacts) -> None:
        self._facts = facts

    def models(self) -> list[str]:
        """Models of which a rollout is known."""
        known = (self.model_of(key) for key in self._facts.map.keys())  # noqa: SIM118 - it is no dict
        return sorted({model for model in known if model is not None})

    def model_of(self, key: str) -> str | None:
        """Return the model whose rollout a fact is; None when it is none, or is gone."""
        record = counting(_values(self._facts.map.read(key))) if key.startswith(PREFIX) else None
        return None if record is None else record.model

    def read(self, model: str) -> Agreed:
        """Return what is known of a model's rollout."""
        reading = self._facts.map.read(key_of(model))
        record = counting(_values(reading))
        if record is None or record.model != model:
            return Agreed(None, "", reading.vector)
        by = next(entry.writer for entry in reading.entries if entry.value and read_record(entry.value) == record)
        return Agreed(record, by, reading.vector)

    def write(self, model: str, record: RolloutRecord | None, seen: Mapping[str, int]) -> None:
        """Tell everybody of a rollout's step; None forgets the rollout.

        Args:
            model: its name.
            record: what is to count.
            seen: of what it was decided on.

        Raises:
            RequestError: `conflict`: another server wrote meanwhile, or there is no room; nothing has changed.
        """
        try:
            self._facts.write(key_of(model), None if record is None else write_record(record), dict(seen))
        except WriteConflict as error:
            writers = ", ".join(sorted({entry.writer for entry in error.reading.entries}))
            raise RequestError(
                "conflict", f"the rollout of {model!r} was changed by {writers} meanwhile; look, and try again"
            ) from error
        except ValueError as error:
            raise RequestError("conflict", str(error)) from error

    def conflicts(self, model: str) -> list[dict[str, Any]]:
        """Pairs of steps that were written at once, oldest first: the one of the two that counts, and the other."""
        rows = []
        for pair in self._facts.map.conflicts.of(key_of(model)):
            kept, lost = pair.winner, pair.loser
            record = counting((kept.value, lost.value))
            if record is not None and lost.value is not None and read_record(lost.value) == record:
                kept, lost = lost, kept
            rows.append({"kept": _told(kept), "lost": _told(lost), "settled": pair.settled_by is not None})
        return rows


def key_of(model: str) -> str:
    """The model's name; of a name that is too long for a key, what follows from it."""
    key = PREFIX + model
    if len(key.encode()) <= KEY_BYTES_MAX:
        return key
    return PREFIX + "#" + sha256(model.encode()).hexdigest()


def _values(reading: Reading) -> list[bytes | None]:
    return [entry.value for entry in reading.entries]


def _told(entry: Entry) -> dict[str, Any]:
    record = None if entry.value is None else read_record(entry.value)
    if record is None:
        return {"by": entry.writer, "state": "forgotten", "share": 0.0, "candidate": ""}
    return {"by": entry.writer, "state": record.state, "share": record.share, "candidate": record.candidate}
