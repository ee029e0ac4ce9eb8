"""One run of cooperation as it was written down, and the newest of them in memory.

| event | when | what its data holds beside `at_ms` |
|---|---|---|
| `asked` | a member is asked | `number`, `member`, `purpose` |
| `candidate` | what became of it | the fields of `voting.candidate.Candidate` |
| `failed` | an ask was cancelled or came too late to count | `number`, `member`, `failure` |
| `decided` | the end of the vote | the fields of `voting.candidate.Decision` |
| `plan`, `task_started`, `task_done`, `task_failed` | a task graph | `tasks`, or `id` and what became of it |
| `course` | a run that plans | `step`, and what its course follows from, see `cooperation.plan_replay` |
| `tool_called`, `approval`, `budget` | what they say | see each |

Invariant: all of it is JSON, prepared by `run_privacy`; the audit's records of a run, read back, give an equal value.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.telemetry.audit_chain import UNREADABLE
from open_autoglm.telemetry.audit_reader import Told
from open_autoglm.voting.replay import Recording

EVENTS_MAX: Final = 10_000
"""Of one run; what comes after is counted, not kept."""

BYTES_KEPT_MAX: Final = 64 * 2**20
"""Of all runs in memory, as they are written down."""


class Label(Struct, frozen=True):
    """Somebody says which answer was right.

    Attributes:
        by: `human` or `verifier`.
        right: whether the decision was right; None where only the answer was said.
        answer: the right one, canonical, as it is written down; empty where it was not said.
        time: ISO 8601.
    """

    by: str
    right: bool | None
    answer: str
    time: str


class RunRecord(Struct):
    """What is known of one run.

    Attributes:
        run: its id, which is the id of the request.
        time: when it began, ISO 8601.
        header: `model`, `strategy`, `settings`, `members`, `knowledge`, `seed`; what it began with.
        events: in order, each with `kind` and `at_ms` from the start of the run on.
        end: `decision`, `stopped` (why it was told to stop), `failure`, `ms`, `cost`, `answers`; empty while it runs,
            or where its end was lost.
        labels: what was said of it later; one at most.
        events_lost: those beyond `EVENTS_MAX`.
        size: bytes, as written down.
    """

    run: str
    time: str
    header: dict[str, Any]
    events: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    labels: list[Label] = []
    events_lost: int = 0
    size: int = 0

    @property
    def decision(self) -> dict[str, Any]:
        """The fields of `voting.candidate.Decision`, as it was written down; empty where there is none."""
        decision = self.end.get("decision")
        return decision if isinstance(decision, dict) else {}


def record_of(told: Iterable[Told]) -> RunRecord | None:
    """Put the audit's records of one run together; None when its beginning is not among them.

    Raises:
        ValueError: a record's data is not what its kind says.
    """
    try:
        return _put_together(told)
    except UNREADABLE as error:
        raise ValueError(f"one of its records was changed: {error}") from error


def _put_together(told: Iterable[Told]) -> RunRecord | None:
    record: RunRecord | None = None
    for each in told:
        data = msgspec.json.decode(each.data, type=dict[str, Any])
        if each.kind == "begin":
            record = RunRecord(each.run, each.time, data)
        elif record is None:
            continue
        elif each.kind == "end":
            record.end = data
        elif each.kind == "label":
            record.labels.append(msgspec.convert({**data, "time": each.time}, Label))
        elif len(record.events) < EVENTS_MAX:
            record.events.append({"kind": each.kind, **data})
        else:
            record.events_lost += 1
    return record


def recording_of(record: RunRecord) -> Recording:
    """Return what `voting.replay` needs of a run.

    Raises:
        ValueError: nothing was decided by a strategy, or its record is not whole; says what is missing.
    """
    if not record.decision:
        raise ValueError("nothing was decided")
    if record.events_lost or record.end.get("events_lost"):
        raise ValueError("it had more events than are kept")
    told = {kind: [event for event in record.events if event["kind"] == kind] for kind in ("asked", "candidate")}
    candidates = [{**event, "text": ""} for event in told["candidate"]]
    try:
        return msgspec.convert(
            {
                **{name: record.header[name] for name in ("strategy", "members", "settings", "knowledge", "seed")},
                "asked": told["asked"],
                "candidates": candidates,
                "decision": record.decision,
                "stopped": record.end.get("stopped") or _stopped(record.decision),
                "answers": record.end.get("answers", []),
            },
            Recording,
        )
    except (KeyError, msgspec.ValidationError) as error:
        raise ValueError(f"the record is not one of a strategy: {error}") from error


def _stopped(decision: dict[str, Any]) -> str:
    """Why a strategy was told to stop, by what it says itself."""
    said = [decision.get("reason"), *decision.get("notes", [])]
    return next((str(word) for word in said if word in _STOPS), "")


_STOPS: Final = ("deadline", "budget_exhausted", "nobody_left")


class RunStore:
    """The newest runs, in memory; the oldest go when there are too many or they are too large.

    Args:
        keep: how many; 0 keeps none.
        bytes_max: of all together.
    """

    __slots__ = ("_bytes_max", "_keep", "_runs", "_size")

    def __init__(self, keep: int, bytes_max: int = BYTES_KEPT_MAX) -> None:
        self._keep = keep
        self._bytes_max = bytes_max
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._size = 0

    def put(self, record: RunRecord) -> None:
        """Keep a run that begins; an earlier one of the same id goes."""
        self._drop(record.run)
        self._runs[record.run] = record
        self._size += record.size
        self._trim()

    def grow(self, record: RunRecord, size: int) -> None:
        """A run that is kept holds so many bytes more."""
        record.size += size
        if self._runs.get(record.run) is record:
            self._size += size
            self._trim()

    def free(self, run: str) -> str:
        """A name for a new run: its id, unless there is one of that name already."""
        number, name = 1, run
        while name in self._runs:
            number += 1
            name = f"{run}~{number}"
        return name

    def get(self, run: str) -> RunRecord | None:
        """The run of this id."""
        return self._runs.get(run)

    def _drop(self, run: str) -> None:
        if (old := self._runs.pop(run, None)) is not None:
            self._size -= old.size

    def _trim(self) -> None:
        while self._runs and (len(self._runs) > self._keep or self._size > self._bytes_max):
            self._drop(next(iter(self._runs)))
