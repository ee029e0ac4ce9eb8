"""Functions as tools: what is read from type hints, how they run, what is refused."""

from __future__ import annotations

import asyncio
import enum
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from open_autoglm import clock
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.python_tool import FunctionPool, PythonTool, calculator_tool, load_function
from open_autoglm.tools.settings import PythonToolEntry
from open_autoglm.tools.tool import ToolCall, ToolError


class Unit(enum.Enum):
    METRES = "m"
    FEET = "ft"


@dataclass
class Place:
    name: str
    height: float = 0.0


def highest(places: list[Place], unit: Unit = Unit.METRES) -> Place:
    """Find the highest place.

    More that models need not read.
    """
    assert unit is Unit.METRES or unit is Unit.FEET
    return max(places, key=lambda place: place.height)


async def greet(name: Annotated[str, msgspec.Meta(max_length=5, description="of a person")]) -> str:
    await asyncio.sleep(0)
    return f"hello {name}"


def entry(name: str = "tool", **more: Any) -> PythonToolEntry:
    return PythonToolEntry(name, "module:function", **more)


@pytest.fixture
def pool() -> Iterator[FunctionPool]:
    made = FunctionPool(2)
    yield made
    made.close()


def asked(tool: str, **arguments: Any) -> ToolCall:
    return ToolCall(tool, arguments, clock.monotonic() + 10)


async def test_hints_become_a_schema_and_convert_arguments(pool: FunctionPool) -> None:
    tool = PythonTool(entry(), highest, pool)
    assert tool.description == "Find the highest place."
    assert tool.kind == "write"
    assert tool.schema["required"] == ["places"]
    assert tool.schema["$defs"]["Unit"]["enum"] == ["ft", "m"]
    desk = ToolDesk([tool])
    places = [{"name": "Ben Nevis", "height": 1345}, {"name": "Snowdon", "height": 1085.5}]
    assert await desk.call(asked("tool", places=places, unit="ft")) == {"name": "Ben Nevis", "height": 1345.0}
    for wrong in ({}, {"places": [{"name": 4}]}, {"places": places, "unit": "miles"}, {"places": places, "more": 1}):
        with pytest.raises(ToolError) as caught:
            await desk.call(asked("tool", **wrong))
        assert caught.value.code == "invalid_arguments"


async def test_async_functions_run_in_the_loop(pool: FunctionPool) -> None:
    tool = PythonTool(entry(), greet, pool)
    assert tool.schema["properties"]["name"] == {"type": "string", "maxLength": 5, "description": "of a person"}
    assert await ToolDesk([tool]).call(asked("tool", name="Ada")) == "hello Ada"


async def test_threads_are_as_many_as_the_pool_has(pool: FunctionPool) -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def wait(n: int) -> int:
        begun.release()
        assert gate.wait(30)
        return n

    desk = ToolDesk([PythonTool(entry(), wait, pool)])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(desk.call(asked("tool", n=n))) for n in range(2)]
        for _ in tasks:
            await asyncio.to_thread(begun.acquire)
        with pytest.raises(ToolError) as caught:
            await desk.call(asked("tool", n=9))
        assert (caught.value.code, caught.value.retryable) == ("tool_overloaded", True)
        gate.set()
    assert [task.result() for task in tasks] == [0, 1]
    assert await desk.call(asked("tool", n=5)) == 5


def test_a_function_that_never_ends_keeps_no_process_from_its_end() -> None:
    program = (
        "import asyncio, threading\n"
        "from open_autoglm.tools.python_tool import FunctionPool\n"
        "async def main():\n"
        "    begun = threading.Event()\n"
        "    def hang():\n"
        "        begun.set()\n"
        "        threading.Event().wait()\n"
        "    pool = FunctionPool(1)\n"
        "    asyncio.ensure_future(pool.run(hang, {}))\n"
        "    while not begun.is_set():\n"
        "        await asyncio.sleep(0)\n"
        "    pool.close()\n"
        "asyncio.run(main())\n"
    )
    environ = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environ, timeout=30, check=False).returncode == 0


async def test_what_a_function_does_wrong_ends_its_call_only(pool: FunctionPool) -> None:
    def broken(kind: str) -> Any:
        if kind == "refusal":
            raise ToolError("tool_failed", "not today", retryable=True)
        if kind == "error":
            raise KeyError(kind)
        if kind == "exit":
            sys.exit(3)
        if kind == "stop":
            raise StopIteration
        return object()

    desk = ToolDesk([PythonTool(entry(), broken, pool)])
    broken_ones = ((kind, "tool_broken") for kind in ("error", "exit", "stop"))
    for kind, code in (("refusal", "tool_failed"), *broken_ones, ("object", "invalid_result")):
        with pytest.raises(ToolError) as caught:
            await desk.call(asked("tool", kind=kind))
        assert caught.value.code == code


def test_mutable_defaults_are_made_anew(pool: FunctionPool) -> None:
    def collect(item: int, seen: list[int] = []) -> list[int]:  # noqa: B006 - it is what is tested
        seen.append(item)
        return seen

    async def scene() -> None:
        desk = ToolDesk([PythonTool(entry(), collect, pool)])
        assert await desk.call(asked("tool", item=1)) == [1]
        assert await desk.call(asked("tool", item=2)) == [2]

    asyncio.run(scene())


def test_parameters_must_be_named_and_typed(pool: FunctionPool) -> None:
    def untyped(n) -> int:  # type: ignore[no-untyped-def]
        return int(n)

    def many(*numbers: int) -> int:
        return sum(numbers)

    def strange(gate: threading.Event) -> None: ...

    for function, message in ((untyped, "'n' has no type"), (many, "have names"), (strange, "JSON")):
        with pytest.raises(ValueError, match=message):
            PythonTool(entry(), function, pool)


def test_functions_are_found_by_name() -> None:
    assert load_function("json:dumps")({"a": 1}) == '{"a": 1}'
    assert load_function("json:JSONDecoder.decode")
    for name, message in (("no_such_module:f", "cannot import"), ("json:nothing", "has no function")):
        with pytest.raises(ValueError, match=message):
            load_function(name)


async def test_the_calculator_computes_exactly(pool: FunctionPool) -> None:
    desk = ToolDesk([calculator_tool(pool)])
    for expression, result in (
        ("123456789012345678901234567890 * 3", "370370367037037036703703703670"),
        ("0.1 + 0.2", "0.3"),
        ("2+3", "5"),
        ("12.5 * -3 + 4", "-33.5"),
        ("1 / 3", "0.333333"),
    ):
        assert await desk.call(asked("calculator", expression=expression)) == {"result": result}
    for expression in ("1/0", "(1+2)*3", "the answer", "9" * 41 + "+1", "+".join("1" * 17)):
        with pytest.raises(ToolError) as caught:
            await desk.call(asked("calculator", expression=expression))
        assert caught.value.code == "tool_failed"
