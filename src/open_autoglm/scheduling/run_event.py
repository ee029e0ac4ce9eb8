"""What happens to a run, as its machine takes it and as its journal keeps it.

Each is a JSON object with `kind`, and `at_ms` since the start of the run. The same events in the same order make the
same run: nothing else is needed to go on with one after the process was killed.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from open_autoglm.scheduling.task import Task

Word = Literal["approved", "refused", "done"]
"""What a person may say of a step: do it (or: go on), do not, or that it was done already."""


class Planned(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="plan"):
    """Tasks were added.

    Attributes:
        tasks: they may need each other and earlier ones.
        more: whether the plan goes on; the run does not end before its last part came.
        answers: id of the failed task in whose place they come; with no tasks, the planner knows no other way.
        at_ms: since the start of the run, milliseconds.
    """

    tasks: tuple[Task, ...]
    more: bool = False
    answers: str = ""
    at_ms: int = 0


class TaskStarted(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="task_started"):
    """A try is about to be made; kept before it is made.

    Attributes:
        task: id.
        attempt: from 1.
        at_ms: since the start of the run, milliseconds.
        tokens, money: what it may spend at most; spent, unless its end says less.
    """

    task: str
    attempt: int = 1
    at_ms: int = 0
    tokens: int = 0
    money: float = 0.0


class TaskDone(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="task_done"):
    """A try gave a result.

    Attributes:
        task: id.
        result: JSON value.
        at_ms: since the start of the run, milliseconds.
        tokens, money: what the try has spent, as far as anybody knows.
    """

    task: str
    result: Any = None
    at_ms: int = 0
    tokens: int = 0
    money: float = 0.0


class TaskFailed(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="task_failed"):
    """A try gave none.

    Attributes:
        task: id.
        code: stable word, as in `errors.CODES`.
        message: for people; no secrets.
        again: whether another try may succeed.
        unclear: whether it may have taken effect all the same, as after a timeout.
        at_ms: since the start of the run, milliseconds.
        tokens, money: what the try has spent, as far as anybody knows.
    """

    task: str
    code: str
    message: str = ""
    again: bool = False
    unclear: bool = False
    at_ms: int = 0
    tokens: int = 0
    money: float = 0.0


class Held(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="held"):
    """A try was refused before it did anything: a person must agree to this very call first.

    Attributes:
        task: id.
        confirmation: what the call must bring once a person has agreed.
        at_ms: since the start of the run, milliseconds.
        tokens, money: what the try has spent, as far as anybody knows.
    """

    task: str
    confirmation: str
    at_ms: int = 0
    tokens: int = 0
    money: float = 0.0


class Approval(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="approval"):
    """A person gave word.

    Attributes:
        task: id.
        word: see `Word`.
        by: who.
        note: why, for those who read the record.
        at_ms: since the start of the run, milliseconds.
    """

    task: str
    word: Word
    by: str = ""
    note: str = ""
    at_ms: int = 0


class Stopped(Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="stopped"):
    """The run is to end now.

    Attributes:
        reason: stable word: `cancelled`, `deadline_exceeded`, `budget_exhausted`.
        at_ms: since the start of the run, milliseconds.
    """

    reason: str
    at_ms: int = 0


RunEvent = Planned | TaskStarted | TaskDone | TaskFailed | Held | Approval | Stopped
