"""The form of a tool: a function outside a model that a run may call, with a description that models can read.

A tool is called through the desk alone (`tools.desk`), which checks what is asked and bounds what happens; a tool
itself only does its work. Invariant: a tool that fails says so by a `ToolError`, whose code and `retryable` are all
that a run decides by; its message is for people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

ToolKind = Literal["read", "write", "dangerous"]
"""What a call does to the world: nothing; something that can be undone or repeated with the same idempotency key;
something that a person must have agreed to, for these very arguments."""

Arguments = dict[str, Any]
"""A JSON object."""

TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""What a tool may be called."""

TOOL_CODES: Final[dict[str, str]] = {
    "unknown_tool": "there is no tool of that name",
    "tool_not_allowed": "the caller may not use it",
    "invalid_arguments": "the arguments do not fit the tool's schema",
    "confirmation_needed": "a person must agree first",
    "tool_changed": "the tool is not the one that was first seen",
    "tool_overloaded": "too many calls of it are waiting",
    "tool_timeout": "it took too long",
    "tool_unavailable": "it could not be reached",
    "tool_failed": "it says that it failed",
    "tool_broken": "it failed in a way that it should not",
    "result_too_large": "its result is longer than may be",
    "invalid_result": "its result is no JSON value",
}
"""Stable words for what goes wrong with a call: in events, in audit records, and to those who decide by them."""


class ToolError(Exception):
    """A call of a tool did not give a result.

    Args:
        code: one of `TOOL_CODES`.
        message: what is wrong, and what to do. No secrets.
        retryable: whether the same call may succeed when it is made again, and does no harm by it.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        assert code in TOOL_CODES, code
        self.code = code
        self.message = message
        self.retryable = retryable


class ConfirmationNeededError(ToolError):
    """A dangerous tool was to be called without a person's word.

    Args:
        tool: its name.
        confirmation: what the call must bring once a person has agreed, see `tools.desk.confirmation_of`.
    """

    def __init__(self, tool: str, confirmation: str) -> None:
        super().__init__("confirmation_needed", f"{tool!r} is dangerous: a person must agree to this very call")
        self.tool = tool
        self.confirmation = confirmation


class Tool(Protocol):
    """See the module. All of it but `call` is fixed when a desk takes the tool."""

    @property
    def name(self) -> str:
        """Unique at a desk; see `TOOL_NAME`."""

    @property
    def description(self) -> str:
        """For models and people. Text of a foreign server is not to be believed."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, an object."""

    @property
    def kind(self) -> ToolKind:
        """See `ToolKind`."""

    @property
    def timeout_s(self) -> float:
        """Longest time of a call, seconds, > 0."""

    @property
    def cost(self) -> float:
        """Of one call, in the currency of the models' prices, >= 0; paid for failed calls too."""

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        """Do the work; return a JSON value.

        Args:
            arguments: fit the schema, as far as the desk checks; the tool may keep them, nobody else does.
            deadline_s: monotonic seconds by which it must be over. The desk cancels the call then.
            idempotency_key: the same for each try of one step; empty when there is none.

        Raises:
            ToolError: it did not work.
        """


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call, as it is asked of a desk.

    Attributes:
        tool: its name.
        arguments: JSON object; may come from a model.
        deadline_s: monotonic seconds by which it must be over.
        idempotency_key: the same for each try of one step; empty when there is none.
        confirmation: what a person agreed to, see `tools.desk.confirmation_of`; empty when nobody was asked.
    """

    tool: str
    arguments: Arguments
    deadline_s: float
    idempotency_key: str = ""
    confirmation: str = ""
