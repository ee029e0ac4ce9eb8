"""The desk: what is refused before a tool is called, what is bounded while it runs, what is told afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from open_autoglm import clock
from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.tools.desk import DeskLimits, ToolDesk, digest_of
from open_autoglm.tools.tool import ConfirmationNeededError, ToolCall, ToolError, ToolKind

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@dataclass
class Recorded:
    """A tool that does what it is told and remembers its calls."""

    do: Callable[[dict[str, Any]], Awaitable[Any]]
    name: str = "double"
    description: str = "twice the number"
    schema: dict[str, Any] = field(default_factory=lambda: SCHEMA)
    kind: ToolKind = "read"
    timeout_s: float = 5.0
    cost: float = 0.25
    calls: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, arguments: dict[str, Any], *, deadline_s: float, idempotency_key: str) -> Any:
        self.calls.append(arguments)
        return await self.do(arguments)


async def double(arguments: dict[str, Any]) -> Any:
    return arguments["n"] * 2


def asked(n: Any = 4, *, tool: str = "double", in_s: float = 60.0, **more: str) -> ToolCall:
    return ToolCall(tool, {"n": n}, clock.monotonic() + in_s, **more)


async def refused(desk: ToolDesk, call: ToolCall, **more: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await desk.call(call, **more)
    return caught.value


async def test_a_call_is_made_paid_and_told() -> None:
    desk = ToolDesk([Recorded(double)])
    told: list[dict[str, Any]] = []
    paid: list[tuple[str, float]] = []
    result = await desk.call(
        asked(idempotency_key="run-1/a"), charge=lambda *each: paid.append(each), observe=told.append
    )
    assert result == 8
    assert paid == [("double", 0.25)]
    assert told[0].pop("ms") >= 0
    assert told == [
        {
            "kind": "tool_called",
            "tool": "double",
            "class": "read",
            "outcome": "ok",
            "cost": 0.25,
            "arguments": digest_of({"n": 4}),
            "result": digest_of(8),
            "result_bytes": 1,
            "idempotency_key": "run-1/a",
        }
    ]


async def test_what_is_refused_never_reaches_the_tool() -> None:
    tool = Recorded(double)
    desk = ToolDesk([tool], DeskLimits(argument_bytes_max=20))
    told: list[dict[str, Any]] = []
    for call, allowed, code in [
        (asked(tool="treble"), None, "unknown_tool"),
        (asked(), ["treble"], "tool_not_allowed"),
        (asked("four"), None, "invalid_arguments"),
        (asked(10**30), None, "invalid_arguments"),
        (asked(object()), None, "invalid_arguments"),
        (ToolCall("double", [4], clock.monotonic() + 9), None, "invalid_arguments"),  # type: ignore[arg-type]
        (asked(in_s=-1), None, "tool_timeout"),
    ]:
        assert (await refused(desk, call, allowed=allowed, observe=told.append)).code == code
        assert told.pop()["outcome"] == code
    assert tool.calls == []


async def test_a_budget_that_is_spent_refuses_before_the_call() -> None:
    class SpentError(Exception):
        pass

    def charge(tool: str, cost: float) -> None:
        raise SpentError

    tool = Recorded(double)
    told: list[dict[str, Any]] = []
    with pytest.raises(SpentError):
        await ToolDesk([tool]).call(asked(), charge=charge, observe=told.append)
    assert (tool.calls, told[0]["outcome"], told[0]["cost"]) == ([], "refused", 0.0)


async def test_a_confirmation_fits_one_call_only() -> None:
    tool = Recorded(double, kind="dangerous")
    desk = ToolDesk([tool])
    call = asked(4, idempotency_key="step-1")
    error = await refused(desk, call)
    assert isinstance(error, ConfirmationNeededError)
    assert error.confirmation == desk.confirmation_of(call)
    word = error.confirmation
    for other in (asked(5, idempotency_key="step-1"), asked(4, idempotency_key="step-2"), asked(4)):
        wrong = ToolCall(other.tool, other.arguments, other.deadline_s, other.idempotency_key, word)
        assert (await refused(desk, wrong)).code == "confirmation_needed"
    assert tool.calls == []
    assert await desk.call(asked(4, idempotency_key="step-1", confirmation=word)) == 8

    tool.description = "deletes the number"
    other_desk = ToolDesk([tool])
    agreed = asked(4, idempotency_key="step-1", confirmation=word)
    assert (await refused(other_desk, agreed)).code == "confirmation_needed"


def test_time_is_bounded_by_tool_and_deadline() -> None:
    async def forever(arguments: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async def scene() -> None:
        desk = ToolDesk([Recorded(forever), Recorded(forever, name="writer", kind="write")])
        began_s = clock.monotonic()
        error = await refused(desk, asked())
        assert (error.code, error.retryable, clock.monotonic() - began_s) == ("tool_timeout", True, 5.0)
        began_s = clock.monotonic()
        error = await refused(desk, asked(tool="writer", in_s=1.5))
        assert (error.code, error.retryable, clock.monotonic() - began_s) == ("tool_timeout", False, 1.5)

    VirtualLoop().run(scene())


async def test_calls_beyond_the_room_wait_and_waiting_has_an_end() -> None:
    gate = asyncio.Event()
    running = 0
    most = 0

    async def gated(arguments: dict[str, Any]) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return 1

    desk = ToolDesk([Recorded(gated)], DeskLimits(concurrency=8, concurrency_of={"double": 2}, waiting_max=3))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(desk.call(asked(n))) for n in range(5)]
        await asyncio.sleep(0)
        error = await refused(desk, asked(99))
        assert (error.code, error.retryable) == ("tool_overloaded", True)
        gate.set()
    assert [task.result() for task in tasks] == [1] * 5
    assert most == 2


async def test_results_are_bounded_json_without_secrets() -> None:
    results: list[Any] = ["x" * 100, object(), {"token": "Bearer abcdefgh12345", "sk-abcdef123456": [1]}]
    results.append("the key is\nsk-abcdef123456")

    async def next_result(arguments: dict[str, Any]) -> Any:
        return results.pop(0)

    desk = ToolDesk([Recorded(next_result)], DeskLimits(result_bytes_max=80))
    assert (await refused(desk, asked())).code == "result_too_large"
    assert (await refused(desk, asked())).code == "invalid_result"
    assert await desk.call(asked()) == {"token": "Bearer ***", "sk-***": [1]}
    assert await desk.call(asked()) == "the key is\nsk-***"


async def test_foreign_failures_become_tool_errors_without_secrets() -> None:
    failures: list[Exception] = [
        ToolError("tool_failed", "no entry for sk-abcdef123456", retryable=True),
        RuntimeError("password is hunter2"),
        TimeoutError(),
    ]

    async def fail(arguments: dict[str, Any]) -> Any:
        raise failures.pop(0)

    desk = ToolDesk([Recorded(fail)], texts=True)
    told: list[dict[str, Any]] = []
    error = await refused(desk, asked(), observe=told.append)
    assert (error.code, error.retryable, error.message) == ("tool_failed", True, "no entry for sk-***")
    assert told[0]["message"] == "no entry for sk-***"
    assert told[0]["arguments_text"] == '{"n":4}'
    error = await refused(desk, asked())
    assert error.code == "tool_broken"
    assert "hunter2" not in error.message
    assert (await refused(desk, asked())).code == "tool_broken"


async def test_a_cancelled_call_is_told_and_leaves_its_room() -> None:
    async def forever(arguments: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    tool = Recorded(forever)
    desk = ToolDesk([tool], DeskLimits(concurrency=1))
    told: list[dict[str, Any]] = []
    task = asyncio.get_running_loop().create_task(desk.call(asked(), observe=told.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told[0]["outcome"] == "cancelled"
    tool.do = double
    assert await desk.call(asked()) == 8


async def test_the_tool_gets_a_copy_of_the_arguments() -> None:
    async def spoil(arguments: dict[str, Any]) -> Any:
        arguments["n"] = 0
        return 0

    call = asked(4)
    await ToolDesk([Recorded(spoil)]).call(call)
    assert call.arguments == {"n": 4}


def test_names_are_unique_and_plain() -> None:
    with pytest.raises(ValueError, match="two tools"):
        ToolDesk([Recorded(double), Recorded(double)])
    with pytest.raises(ValueError, match="no name"):
        ToolDesk([Recorded(double, name="a b")])


def test_only_allowed_tools_are_listed() -> None:
    desk = ToolDesk([Recorded(double), Recorded(double, name="other")])
    assert [tool.name for tool in desk.tools()] == ["double", "other"]
    assert [tool.name for tool in desk.tools(["other"])] == ["other"]
    desk.remove("other")
    assert [tool.name for tool in desk.tools()] == ["double"]
