"""Functions of this process as tools.

The schema is read from the type hints, and the same hints check and convert the arguments: a parameter may be a
dataclass, an enum, a list of msgspec structs. Invariants: a function is named in the configuration, never by a model;
no more threads run than the pool has, and none is waited for beyond its time.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, get_type_hints

import msgspec

from open_autoglm.engines.embedded.calculator import calculate
from open_autoglm.tools.settings import PythonToolEntry
from open_autoglm.tools.tool import Arguments, ToolError, ToolKind


class FunctionPool:
    """Threads for functions that are not async.

    Args:
        threads: how many at once; a call that finds none free is refused, since nobody knows when one will be. They do
            not keep the process from its end, as those of Python's own pools do.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._busy = 0
        self._lock = threading.Lock()
        self._closed = False

    async def run(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Call a function in a thread; when the caller is cancelled, the thread goes on and keeps its place.

        Raises:
            ToolError: `tool_overloaded`.
        """
        if self._closed:
            raise ToolError("tool_unavailable", "the server is stopping")
        if self._busy >= self._threads:
            raise ToolError("tool_overloaded", f"all {self._threads} threads for tools are busy", retryable=True)
        done: Future[Any] = Future()
        done.set_running_or_notify_cancel()  # from now on it cannot be cancelled: the thread keeps its place
        thread = threading.Thread(target=_perform, args=(done, function, arguments), name="tool", daemon=True)
        thread.start()
        with self._lock:
            self._busy += 1
        done.add_done_callback(self._free)
        return await asyncio.wrap_future(done)

    def _free(self, done: Future[Any]) -> None:
        with self._lock:  # it is called in the thread that has done the work
            self._busy -= 1

    def close(self) -> None:
        """Take no more calls; threads that run end with their function, which nobody waits for."""
        self._closed = True


def _perform(done: Future[Any], function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        result = function(**arguments)
    except BaseException as error:  # foreign code: neither its `sys.exit` nor a stray StopIteration is for the loop
        is_plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
        done.set_exception(error if is_plain else RuntimeError(f"it raised {type(error).__name__}"))
    else:
        done.set_result(result)


class PythonTool:
    """One function; implements `tools.tool.Tool`.

    Args:
        entry: how it is to be called.
        function: what is called.
        pool: threads for it, when it is not async.

    Raises:
        ValueError: a parameter has no type, or one that JSON cannot give.
    """

    def __init__(self, entry: PythonToolEntry, function: Callable[..., Any], pool: FunctionPool) -> None:
        self._function = function
        self._pool = pool
        self._is_async = inspect.iscoroutinefunction(function)
        self._form = _form(function)
        self.name = entry.name
        self.description = entry.description or (inspect.getdoc(function) or "").partition("\n\n")[0]
        self.schema = _schema(self._form)
        self.kind: ToolKind = entry.kind
        self.timeout_s = entry.timeout_s
        self.cost = entry.cost

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        """Call the function; see `Tool.call`. What it raises, a `ToolError` apart, makes the tool `tool_broken`."""
        try:
            given = msgspec.convert(arguments, self._form)
        except msgspec.ValidationError as error:
            raise ToolError("invalid_arguments", f"{self.name!r}: {error}") from error
        values = {name: getattr(given, name) for name in self._form.__struct_fields__}
        if self._is_async:
            result = await self._function(**values)
        else:
            result = await self._pool.run(self._function, values)
        try:
            return msgspec.to_builtins(result, str_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError("invalid_result", f"{self.name!r} returned a {type(result).__name__}") from error


def load_function(name: str) -> Callable[..., Any]:
    """Import `module:function`.

    Raises:
        ValueError: there is no such function; the message says which part is missing.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ValueError(f"cannot import {module_name!r}: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"{module_name!r} has no function {path!r}")
    return found  # type: ignore[no-any-return]


def calculator_tool(pool: FunctionPool) -> PythonTool:
    """The tool that computes exactly."""
    entry = PythonToolEntry("calculator", "", kind="read", timeout_s=5.0)
    return PythonTool(entry, calculator, pool)


def calculator(expression: str) -> dict[str, str]:
    """Compute one sum exactly: whole numbers and decimals with + - * /, as `12.5 * -3 + 4`; no parentheses."""
    try:
        return {"result": calculate(expression)}
    except (ValueError, ZeroDivisionError) as error:
        raise ToolError("tool_failed", str(error)) from error


def _form(function: Callable[..., Any]) -> type[msgspec.Struct]:
    """A struct whose fields are the function's parameters."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ValueError(f"the type hints of {name} cannot be read: {error}") from error
    fields: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(f"{name} takes {parameter}: a tool's parameters have names")
        if parameter.name not in hints:
            raise ValueError(f"{name}: the parameter {parameter.name!r} has no type")
        default = () if parameter.default is parameter.empty else (_default(parameter.default),)
        fields.append((parameter.name, hints[parameter.name], *default))
    try:
        return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _default(value: Any) -> Any:
    """A default that structs accept: mutable ones are made anew for each call."""
    return (
        msgspec.field(default_factory=lambda: copy.deepcopy(value)) if isinstance(value, list | dict | set) else value
    )


def _schema(form: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        (own,), parts = msgspec.json.schema_components((form,), ref_template="#/$defs/{name}")
    except TypeError as error:
        raise ValueError(f"a type is none that JSON can give: {error}") from error
    schema: dict[str, Any] = parts.pop(str(own["$ref"]).removeprefix("#/$defs/"))
    schema.pop("title", None)
    return {**schema, "$defs": parts} if parts else schema
