"""Task graphs as people write them: JSON of `{"tasks": [{"id", "tool", "args", "depends_on", …}]}`.

`task_id` and `type` are other names of `id` and `tool`; ids may be numbers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.task import Task

_OTHER_NAMES: Final = {"task_id": "id", "type": "tool"}
_FIELDS: Final = Task.__struct_fields__


class GraphDocument(Struct, frozen=True):
    """What was written.

    Attributes:
        tasks: in the order of writing.
        name: for people.
        timeout_s: longest time of the run, seconds; None for the server's own.
    """

    tasks: tuple[Task, ...]
    name: str = ""
    timeout_s: float | None = None


class _Written(Struct, frozen=True, forbid_unknown_fields=True):
    tasks: list[dict[str, Any]]
    name: str = ""
    timeout_s: float | None = None


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
    return GraphDocument(tasks, written.name, written.timeout_s)


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
