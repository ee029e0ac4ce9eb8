"""The desk through which every tool is called: what is asked is checked, what happens is bounded and told.

In this order: is there such a tool; may the caller use it; do the arguments fit its schema; is it dangerous, and did a
person agree to this very call; can it be paid; is there room; then the call, under its limit of time; then the result:
is it JSON, is it short enough, are there secrets in it. Invariants: a tool is called only when all of that holds; every
call that is asked for, refused ones too, is told once; of arguments and results only digests are told, unless the desk
was made to tell texts; what looks like a key leaves neither in an event, nor in an error, nor in a result.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from open_autoglm import clock
from open_autoglm.telemetry.redact import clean, redact
from open_autoglm.tools.argument_check import problems
from open_autoglm.tools.tool import TOOL_NAME, Arguments, ConfirmationNeededError, Tool, ToolCall, ToolError

_log = logging.getLogger(__name__)

Charge = Callable[[str, float], None]
"""Told a tool's name and the cost of one call before each call; refuses by raising, and what it raises is passed on."""

Observe = Callable[[dict[str, Any]], None]
"""Told each call when it is over, see `ToolDesk.call`."""


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """What bounds the calls of a desk.

    Attributes:
        argument_bytes_max: of the arguments as JSON.
        result_bytes_max: of a result as JSON; it may become part of a prompt.
        concurrency: calls of one tool at once.
        concurrency_of: the same for single tools, by name.
        waiting_max: calls of one tool that wait for their turn.
    """

    argument_bytes_max: int = 256 * 2**10
    result_bytes_max: int = 256 * 2**10
    concurrency: int = 8
    concurrency_of: Mapping[str, int] = field(default_factory=dict)
    waiting_max: int = 64


class _Place:
    """One tool at the desk, and the room for its calls."""

    __slots__ = ("room", "schema_digest", "tool", "waiting")

    def __init__(self, tool: Tool, concurrency: int) -> None:
        self.tool = tool
        self.room = asyncio.Semaphore(concurrency)
        self.waiting = 0
        self.schema_digest = digest_of([tool.description, tool.schema])


class ToolDesk:
    """See the module.

    Args:
        tools: names are unique.
        limits: what bounds the calls.
        texts: whether events hold arguments and results (redacted and cut) beside their digests.

    Raises:
        ValueError: two tools have one name, or a name is none.
    """

    def __init__(self, tools: Iterable[Tool], limits: DeskLimits | None = None, *, texts: bool = False) -> None:
        self._limits = limits or DeskLimits()
        self._texts = texts
        self._places: dict[str, _Place] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool, concurrency: int | None = None) -> None:
        """Take one more tool.

        Args:
            tool: what it is.
            concurrency: calls of it at once; by the limits when left out.

        Raises:
            ValueError: its name is taken, or is none.
        """
        if TOOL_NAME.fullmatch(tool.name) is None:
            raise ValueError(f"{tool.name[:80]!r} is no name of a tool")
        if tool.name in self._places:
            raise ValueError(f"two tools are called {tool.name!r}")
        limits = self._limits
        room = concurrency or limits.concurrency_of.get(tool.name, limits.concurrency)
        self._places[tool.name] = _Place(tool, room)

    def remove(self, name: str) -> None:
        """Take a tool away; calls that run go on. Nothing happens when it is not there."""
        self._places.pop(name, None)

    def tools(self, allowed: Collection[str] | None = None) -> list[Tool]:
        """The tools that a caller may use, in the order of their coming; all when `allowed` is None."""
        return [place.tool for name, place in self._places.items() if allowed is None or name in allowed]

    def confirmation_of(self, call: ToolCall) -> str:
        """What a call must bring once a person has agreed to it: it fits this tool, these arguments and this step only.

        Raises:
            ToolError: `unknown_tool`.
        """
        place = self._place(call.tool)
        return digest_of([call.tool, place.schema_digest, call.arguments, call.idempotency_key])

    async def call(
        self,
        call: ToolCall,
        *,
        allowed: Collection[str] | None = None,
        charge: Charge | None = None,
        observe: Observe | None = None,
    ) -> Any:
        """Call a tool; return its result, a JSON value.

        Args:
            call: what is asked.
            allowed: names that the caller may use; all when None.
            charge: pays.
            observe: is told `{"kind": "tool_called", "tool", "class", "outcome", "ms", "cost", "arguments", "result",
                "result_bytes", "idempotency_key"}`: `outcome` is `ok`, a code of `TOOL_CODES`, `refused` (by `charge`)
                or `cancelled`; `arguments` and `result` are SHA-256 digests (hexadecimal; empty for none) of canonical
                JSON; with `texts` there are `arguments_text`, `result_text` and `message` too.

        Raises:
            ToolError: see its codes; `ConfirmationNeededError` says what must be agreed to.
        """
        event: dict[str, Any] = {
            "kind": "tool_called",
            "tool": clean(call.tool),
            "class": "",
            "outcome": "cancelled",
            "ms": 0.0,
            "cost": 0.0,
            "arguments": "",
            "result": "",
            "result_bytes": 0,
            "idempotency_key": clean(call.idempotency_key),
        }
        began_s = clock.monotonic()
        try:
            result = await self._checked(call, allowed, charge, event)
            event["outcome"] = "ok"
            return result
        except ToolError as error:
            event["outcome"] = error.code
            if self._texts:
                event["message"] = clean(error.message)
            raise
        finally:
            event["ms"] = round((clock.monotonic() - began_s) * 1000, 3)
            if observe is not None:
                observe(event)

    async def _checked(
        self, call: ToolCall, allowed: Collection[str] | None, charge: Charge | None, event: dict[str, Any]
    ) -> Any:
        place = self._place(call.tool)
        tool = place.tool
        event["class"] = tool.kind
        if allowed is not None and call.tool not in allowed:
            raise ToolError("tool_not_allowed", f"{call.tool!r} is not among the tools that may be used here")
        arguments = self._arguments(tool, call.arguments, event)
        if tool.kind == "dangerous":
            wanted = self.confirmation_of(call)
            if not hmac.compare_digest(call.confirmation.encode(), wanted.encode()):
                raise ConfirmationNeededError(call.tool, wanted)
        if charge is not None:
            event["outcome"] = "refused"
            charge(call.tool, tool.cost)
            event["outcome"] = "cancelled"
        event["cost"] = tool.cost
        return self._result(tool, await self._timed(place, call, arguments), event)

    async def _timed(self, place: _Place, call: ToolCall, arguments: Arguments) -> Any:
        tool = place.tool
        allowed_s = min(tool.timeout_s, call.deadline_s - clock.monotonic())
        late = ToolError(
            "tool_timeout", f"{tool.name!r} was not done in {max(allowed_s, 0.0):.3g} s", retryable=tool.kind == "read"
        )
        if allowed_s <= 0:
            raise late
        try:
            async with asyncio.timeout(allowed_s) as limit:
                return await self._with_room(place, call, arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise ToolError("tool_broken", f"{tool.name!r} let a time limit of its own escape") from error
            raise late from None

    async def _with_room(self, place: _Place, call: ToolCall, arguments: Arguments) -> Any:
        tool = place.tool
        if place.room.locked() and place.waiting >= self._limits.waiting_max:
            raise ToolError("tool_overloaded", f"{place.waiting} calls of {tool.name!r} wait already", retryable=True)
        place.waiting += 1
        try:
            await place.room.acquire()
        finally:
            place.waiting -= 1
        try:
            deadline_s = min(call.deadline_s, clock.monotonic() + tool.timeout_s)
            return await tool.call(arguments, deadline_s=deadline_s, idempotency_key=call.idempotency_key)
        except ToolError as error:
            raise ToolError(error.code, clean(error.message), retryable=error.retryable) from error
        except TimeoutError:
            raise
        except Exception as error:  # foreign code: whatever it raises must end this one call and nothing else
            _log.exception("the tool %s is broken", tool.name)
            raise ToolError("tool_broken", clean(f"{tool.name!r} failed: {type(error).__name__}")) from error
        finally:
            place.room.release()

    def _place(self, name: str) -> _Place:
        place = self._places.get(name)
        if place is None:
            raise ToolError("unknown_tool", f"there is no tool {clean(name)[:128]!r}")
        return place

    def _arguments(self, tool: Tool, arguments: Arguments, event: dict[str, Any]) -> Arguments:
        """A copy of the arguments, which fit the schema."""
        try:
            encoded = msgspec.json.encode(arguments, order="deterministic")
            own = msgspec.json.decode(encoded)
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError("invalid_arguments", f"the arguments of {tool.name!r} are no JSON object") from error
        event["arguments"] = hashlib.sha256(encoded).hexdigest()
        if self._texts:
            event["arguments_text"] = clean(encoded.decode())
        if not isinstance(own, dict):
            raise ToolError("invalid_arguments", f"the arguments of {tool.name!r} are no JSON object")
        if len(encoded) > self._limits.argument_bytes_max:
            raise ToolError("invalid_arguments", f"the arguments of {tool.name!r} are {len(encoded)} bytes long")
        wrong = problems(tool.schema, own)
        if wrong:
            raise ToolError("invalid_arguments", clean(f"{tool.name!r}: {'; '.join(wrong)}"))
        return own

    def _result(self, tool: Tool, result: Any, event: dict[str, Any]) -> Any:
        try:
            encoded = msgspec.json.encode(result, order="deterministic")
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError("invalid_result", f"{tool.name!r} answered with what is no JSON value") from error
        if len(encoded) > self._limits.result_bytes_max:
            raise ToolError(
                "result_too_large",
                f"{tool.name!r} answered {len(encoded)} bytes, more than {self._limits.result_bytes_max}",
            )
        text = redact(encoded.decode())
        encoded = text.encode()
        event["result"] = hashlib.sha256(encoded).hexdigest()
        event["result_bytes"] = len(encoded)
        if self._texts:
            event["result_text"] = clean(text)
        return msgspec.json.decode(encoded)


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (keys sorted), hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
