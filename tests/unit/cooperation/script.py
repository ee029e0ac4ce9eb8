"""Members that say what a test wants, after as long as it wants, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from open_autoglm import clock
from open_autoglm.cooperation.caller import Reply
from open_autoglm.dialects.canonical import Message


class Line:
    """What one member says: a text or an error, after some seconds."""

    def __init__(self, said: str | BaseException, after_s: float = 0.1, tokens: int = 10, **more: Any) -> None:
        self.said = said
        self.after_s = after_s
        self.tokens = tokens
        self.more = more


class Script:
    """Answers asks; see `cooperation.caller.ModelCaller`. A member's last line is said again and again.

    Attributes:
        asked: member and conversation, in order.
        arguments: of each call, by name.
        running: asks under way; `cancelled` those that were cancelled.
    """

    def __init__(self, **lines: list[Line]) -> None:
        self._lines = lines
        self.asked: list[tuple[str, list[Message]]] = []
        self.arguments: list[dict[str, Any]] = []
        self.running = 0
        self.cancelled: list[str] = []

    async def ask(self, member: str, messages: list[Message], **arguments: Any) -> Reply:
        """See `ModelCaller.ask`."""
        self.asked.append((member, messages))
        self.arguments.append(arguments)
        lines = self._lines[member]
        line = lines.pop(0) if len(lines) > 1 else lines[0]
        self.running += 1
        try:
            await asyncio.sleep(line.after_s)
        except asyncio.CancelledError:
            self.cancelled.append(member)
            raise
        finally:
            self.running -= 1
        assert clock.monotonic() <= arguments["deadline_s"] + 1e-6
        if isinstance(line.said, BaseException):
            raise line.said
        return Reply(line.said, prompt_tokens=5, completion_tokens=line.tokens, cost=line.tokens / 1000, **line.more)
