"""Whether a task of a plan can be run here: its tool is there, and its arguments fit as far as they are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from open_autoglm.cooperation.plan_prompts import MODEL_SCHEMA
from open_autoglm.errors import RequestError
from open_autoglm.scheduling.references import needed
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import MODEL_PREFIX
from open_autoglm.tools.argument_check import problems
from open_autoglm.tools.tool import Tool


class TaskCheck:
    """See the module.

    Args:
        tools: that tasks may use.
        models: that tasks may ask.

    Attributes:
        parameters: names of each tool's arguments, the required ones first, for calls that do not write them.
    """

    def __init__(self, tools: Sequence[Tool], models: Collection[str]) -> None:
        self._schemas = {tool.name: tool.schema for tool in tools}
        self._schemas |= {MODEL_PREFIX + model: MODEL_SCHEMA for model in models}
        self.parameters = {name: _parameters(schema) for name, schema in self._schemas.items()}

    def check(self, task: Task) -> None:
        """Look at one task.

        Raises:
            RequestError: it cannot be run.
        """
        schema = self._schemas.get(task.tool)
        if schema is None:
            there = ", ".join(sorted(self._schemas)) or "none"
            raise RequestError(
                "invalid_request", f"task {task.id!r}: there is no {task.tool[:80]!r}; there are: {there}"
            )
        later = list(_places(task.args, "$"))
        for problem in problems(schema, task.args):
            place = problem.partition(":")[0]
            if _is_certain(problem) or not any(_touch(place, each) for each in later):
                raise RequestError("invalid_request", f"task {task.id!r}: {problem}")


def _parameters(schema: dict[str, Any]) -> list[str]:
    required = [name for name in schema.get("required") or () if isinstance(name, str)]
    return list(dict.fromkeys([*required, *(schema.get("properties") or {})]))


def _is_certain(problem: str) -> bool:
    """Whether no result that is filled in later could mend it."""
    return "is missing" in problem or "is not known" in problem


def _places(value: Any, path: str) -> Iterator[str]:
    """Where references stand, as `argument_check` writes places."""
    if isinstance(value, str) and needed(value):
        yield path
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _places(each, f"{path}.{name}")
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _places(each, f"{path}[{at}]")


def _touch(place: str, later: str) -> bool:
    """Whether what is wrong at one place may come of a value that is not there yet."""
    return place.startswith(later) or later.startswith(place)
