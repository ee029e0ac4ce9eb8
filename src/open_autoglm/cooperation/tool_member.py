"""Tools as members of a team: one is given what a model has answered, and computes it anew, or says nothing.

Invariants: a tool is called through the desk alone, and only one that its team may use and that changes nothing; no
tool is opened before the first one is wanted; a call that was begun is paid for, however it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.settings import TOOL_PREFIX
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.tool import ToolCall, ToolError

ABSTAINED: Final = "abstained"
"""The `finish_reason` of a tool that has nothing to say, and the flag of its candidate."""

SAMPLE: Final = {"question": "6 * 7?", "answer": "42", "reasoning": "6 * 7 = 42"}
"""What a tool is given looks like this; one whose schema does not take it cannot be a member."""

_UNDER: Final = ("result", "body")
"""Where servers of the context protocol and HTTP services put the value."""

Paid = Callable[[Reply], None]
"""Told, before a call is made, the empty reply that it costs."""


class Computing(Protocol):
    """Has tools compute; `ToolMembers` does."""

    async def compute(
        self,
        member: str,
        question: str,
        shown: Reply,
        *,
        deadline_s: float,
        paid: Paid,
        observe: Callable[[dict[str, Any]], None],
    ) -> Reply:
        """Give a tool the question and a model's answer to it; return what it makes of them.

        Args:
            member: `tool:` and the tool's name.
            question: what the client asks.
            shown: a model's answer.
            deadline_s: monotonic seconds by which it must be over.
            paid: see `Paid`.
            observe: see `ToolDesk.call`.

        Returns:
            Its text, with the confidence of the settings; with `ABSTAINED` as finish reason where it says nothing.

        Raises:
            ToolError: the call gave no text.
            AutoGLMError: there are no tools.
        """


class ToolMembers:
    """See the module.

    Args:
        desk: opens the desk, when it is first wanted.
        allowed: names of the tools that the team may use.
        confidence: chance that what they compute is right; None where nothing is known.
    """

    def __init__(
        self, desk: Callable[[], Awaitable[ToolDesk]], allowed: Collection[str], confidence: float | None
    ) -> None:
        self._desk = desk
        self._allowed = frozenset(allowed)
        self._confidence = confidence

    async def compute(
        self,
        member: str,
        question: str,
        shown: Reply,
        *,
        deadline_s: float,
        paid: Paid,
        observe: Callable[[dict[str, Any]], None],
    ) -> Reply:
        """See `Computing.compute`."""
        name = member.removeprefix(TOOL_PREFIX)
        desk = await self._desk()
        # The configuration was checked, but the tools are those of the server's start.
        if any(tool.name == name and tool.kind != "read" for tool in desk.tools()):
            raise ToolError("tool_not_allowed", f"{name!r} changes something; a member of a team may only read")
        spent = 0.0

        def charge(_: str, cost: float) -> None:
            nonlocal spent
            spent = cost
            paid(Reply("", cost=cost))

        arguments = {"question": question, "answer": shown.text, "reasoning": shown.reasoning}
        result = await desk.call(
            ToolCall(name, arguments, deadline_s), allowed=self._allowed, charge=charge, observe=observe
        )
        text = _text(result)
        if text is None:
            return Reply("", ABSTAINED, cost=spent)
        return Reply(text, cost=spent, confidence=self._confidence)


def _text(result: Any) -> str | None:
    """The text that a tool gives, or None for none.

    Raises:
        ToolError: `invalid_result`: it gives something else.
    """
    if isinstance(result, Mapping):
        result = next((result[key] for key in _UNDER if key in result), result)
    if result is None or isinstance(result, str):
        return result
    raise ToolError("invalid_result", "a tool that is a member of a team answers with a text or null")
