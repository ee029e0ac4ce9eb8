"""Task graphs as people write them: JSON of `{"tasks": [{"id", "tool", "args", "depends_on", …}]}`, with
a `budget` of `tokens`, `money` and `time` if they want one.

`task_id` and `type` are other names of `id` and `tool`; ids may be numbers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.errors import RequestError
from open_autoglm.quantities import parse_duration
from open_autoglm.scheduling.run_account import RunBudget
from open_autoglm.scheduling.task import Task

_OTHER_NAMES: Final = {"task_id": "id", "type": "tool"}
_FIELDS: Final = Task.__struct_fields__
_BUDGET_FIELDS: Final = RunBudget.__struct_encode_fields__


class GraphDocument(Struct, frozen=True):
    """What was written.

    Attributes:
        tasks: in the order of writing.
        name: for people.
        timeout_s: longest time of the run, seconds; None for the server's own.
        budget: what the run may spend; the server's own where it sets no limit.
    """

    tasks: tuple[Task, ...]
    name: str = ""
    timeout_s: float | None = None
    budget: RunBudget = RunBudget()


class _Written(Struct, frozen=True, forbid_unknown_fields=True):
    tasks: list[dict[str, Any]]
    name: str = ""
    timeout_s: float | None = None
    budget: dict[str, Any] = {}


def read_graph(text: str | bytes) -> GraphDocument:
    """Read a document.

    Raises:
        RequestError: it is no JSON, or not of this form; `param` says where. The graph itself is not checked yet.
    """
    try:
        written = msgspec.json.decode(text, type=_Written)
    except (msgspec.DecodeError, RecursionError) as error:
        form = 'write {"tasks": [{"id", "tool", "args", "depends_on"}]}'
        raise RequestError("invalid_request", f"this is no task graph: {error}; {form}", param="tasks") from error
    if len(written.name) > 200:
        raise RequestError("invalid_request", "name: at most 200 characters", param="name")
    if written.timeout_s is not None and written.timeout_s <= 0:
        raise RequestError("invalid_request", f"timeout_s: {written.timeout_s} is not above 0", param="timeout_s")
    tasks = tuple(_task(fields, f"tasks[{place}]") for place, fields in enumerate(written.tasks))
    return GraphDocument(tasks, written.name, written.timeout_s, _budget(written.budget))


def _budget(written: dict[str, Any]) -> RunBudget:
    for name, value in written.items():
        where = f"budget.{name[:80]}"
        if name not in _BUDGET_FIELDS:
            raise _wrong(where, f"a budget has no such field; its fields are {', '.join(_BUDGET_FIELDS)}")
        if name == "time" and isinstance(value, str):
            try:
                value = parse_duration(value)
            except ValueError as error:
                raise _wrong(where, str(error)) from error
        if value == 0 or value is None:
            raise _wrong(where, f"{value} is no limit; leave it out for none, or write one above 0")
        try:
            msgspec.convert({name: value}, RunBudget)
        except msgspec.ValidationError as error:
            raise _wrong(where, str(error).partition(" - at ")[0]) from error
    times = {"time": parse_duration(written["time"])} if isinstance(written.get("time"), str) else {}
    return msgspec.convert({**written, **times}, RunBudget)


def _task(written: dict[str, Any], where: str) -> Task:
    fields: dict[str, Any] = {}
    for name, value in written.items():
        own = _OTHER_NAMES.get(name, name)
        if own in fields:
            raise _wrong(where, f"{own!r} is written twice")
        if own not in _FIELDS:
            raise _wrong(where, f"a task has no field {name[:80]!r}; its fields are {', '.join(_FIELDS)}")
        fields[own] = value
    fields["id"] = _as_id(fields.get("id"))
    if isinstance(fields.get("depends_on"), list):
        fields["depends_on"] = [_as_id(each) for each in fields["depends_on"]]
    try:
        return msgspec.convert(fields, Task)
    except msgspec.ValidationError as error:
        raise _wrong(where, str(error)) from error


def _as_id(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _wrong(where: str, message: str) -> RequestError:
    return RequestError("invalid_request", f"{where}: {message}", param=where)
