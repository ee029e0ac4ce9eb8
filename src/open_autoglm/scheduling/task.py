"""One vertex of a task graph, as plans write it and as the journal keeps it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

OnFailure = Literal["stop_dependants", "skip", "replan", "fallback"]
"""What becomes of a graph when a task has failed for good: those that need it are not run; they run with null in its
place; the planner is asked again; the task's `fallback` takes the place of its result."""


class Task(Struct, frozen=True, omit_defaults=True):
    """One step.

    Attributes:
        id: unique in its graph; a result is referred to as `$id` or `${id}`, one of its fields as `${id.field}`.
        tool: name of a tool; or `model:NAME` for a model, virtual ones too; or `approval` for a person's word.
        args: JSON object; strings in it may hold references.
        depends_on: ids, beyond those that the references name.
        priority: higher first among those that are ready.
        estimate_s: how long it is expected to take, seconds; the critical path goes by it.
        timeout_s: longest time of one try; 0 for the tool's own.
        retries: further tries after a failure that may be repeated.
        on_failure: see `OnFailure`.
        fallback: JSON value, for `on_failure: fallback`.
        idempotency_key: for steps with effects outside; made from the run and the id when left empty.
    """

    id: str
    tool: str
    args: dict[str, Any] = {}
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    estimate_s: float = 1.0
    timeout_s: float = 0.0
    retries: int = 0
    on_failure: OnFailure = "stop_dependants"
    fallback: Any = None
    idempotency_key: str = ""
