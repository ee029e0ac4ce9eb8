"""One answer of an engine on its way into a framed connection.

Invariant: a stream gets one ending, INFER_RESPONSE or ERROR, or none when it was cancelled; chunks come before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from open_autoglm import clock
from open_autoglm.engines.events import (
    Failed,
    Finish,
    GenerateEvent,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCall,
    Usage,
)
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.protocol.opcodes import REASONING
from open_autoglm.protocol.preambles import write_response

if TYPE_CHECKING:
    import asyncio

    from open_autoglm.inference.service import NodeLine
    from open_autoglm.inference.ticket_ledger import TicketUse


class Taker(Protocol):
    """Whatever events are for."""

    def take(self, events: list[Any]) -> None:
        """Pass events on; on the loop."""


class Outbox:
    """Events on their way from engines' threads to the event loop, which is woken once per forward pass at most.

    Args:
        loop: where answers are.
    """

    __slots__ = ("_arrived", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[tuple[Taker, list[Any]]] = deque()
        self._woken = False

    def post(self, answer: Taker, events: list[Any]) -> None:
        """Called in an engine's thread."""
        self._arrived.append((answer, events))

    def flush(self) -> None:
        """Called in an engine's thread, behind a pass: wake the loop unless it is awake already."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """On the loop: hand everything on."""
        self._woken = False
        arrived = self._arrived
        while arrived:
            answer, events = arrived.popleft()
            answer.take(events)


class Answer:
    """See the module.

    Args:
        line: the connection.
        served: the model that is asked.
        stream: on that connection.
        streamed: whether it goes out in chunks.
        use: of the ticket that the request began under; None for a server's.
        began_s: when that was, monotonic seconds.

    Attributes:
        handle: for the engine's `cancel`.
        over: it has ended, or nobody wants it any more.
    """

    __slots__ = (
        "_began_s",
        "_calls",
        "_finish",
        "_line",
        "_reasoning",
        "_scores",
        "_served",
        "_stream",
        "_streamed",
        "_text",
        "_use",
        "handle",
        "over",
    )

    def __init__(
        self, line: NodeLine, served: ServedModel, stream: int, streamed: int, use: TicketUse | None, began_s: float
    ) -> None:
        self._line = line
        self._served = served
        self._stream = stream
        self._streamed = streamed
        self._use = use
        self._began_s = began_s
        self._text = ""
        self._reasoning = ""
        self._calls: list[dict[str, Any]] | None = None
        self._scores: list[TokenScore] = []
        self._finish = ""
        self.handle = 0
        self.over = False

    def post(self, events: list[GenerateEvent]) -> None:
        """Called in the engine's thread."""
        self._line.service.outbox.post(self, events)

    def take(self, events: list[GenerateEvent]) -> None:
        """Pass events on; on the loop."""
        if self.over:
            return
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                self._text += event.text  # type: ignore[union-attr]
            elif kind is ReasoningDelta:
                self._reasoning += event.text  # type: ignore[union-attr]
            elif kind is Finish:
                self._finish = event.reason  # type: ignore[union-attr]
            else:
                self._take_rare(event)
        if self._streamed and not self.over:
            self._send_chunks()

    def submitted(self, handle: int) -> None:
        """The engine has it, by this handle."""
        self.handle = handle
        if self.over:
            self._served.engine.cancel(handle)

    def refuse(self, error: AutoGLMError) -> None:
        """The engine does not take it, or has failed."""
        if not self.over:
            self.over = True
            self._served.failed(error.code)
            if self._use is not None:
                self._use.failed(clock.monotonic() - self._began_s, error.code)
            self._line.fail(self._stream, error)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if not self.over:
            self.over = True
            self._served.dropped()
            if self._use is not None:
                self._use.failed(clock.monotonic() - self._began_s, "client_closed")
            self._served.engine.cancel(self.handle)

    def _take_rare(self, event: GenerateEvent) -> None:
        if isinstance(event, Usage):
            self._respond(event)
        elif isinstance(event, TokenScore):
            self._scores.append(event)
        elif isinstance(event, ToolCall):
            call = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": event.arguments}}
            self._calls = [*(self._calls or ()), call]
        elif isinstance(event, Failed):
            self.refuse(ServerError(event.code, event.message))

    def _respond(self, usage: Usage) -> None:
        """The whole answer, or what the chunks have not said."""
        self.over = True
        served, line, use = self._served, self._line, self._use
        served.ended(usage)
        if use is not None:
            use.answered(usage, clock.monotonic() - self._began_s)
        if self._streamed:
            self._send_chunks()
            body: dict[str, Any] = {}
        else:
            body = {"text": self._text}
            if self._reasoning:
                body["reasoning"] = self._reasoning
        if self._calls is not None:
            body["tool_calls"] = self._calls
        if self._scores:
            body["logprobs"] = {"content": [_scored(score) for score in self._scores]}
        if usage.spans:
            body["x_mcp_versions"] = [[span.version, span.start, span.end] for span in usage.spans]
        preamble = write_response(
            usage.prompt_tokens, usage.completion_tokens, self._finish, 1, usage.version, served.name
        )
        line.respond(self._stream, preamble + line.encode(body))

    def _send_chunks(self) -> None:
        """What came since the last chunk; thinking comes before the answer."""
        chunk: Callable[..., int] = self._line.connection.chunk
        if self._reasoning:
            chunk(self._stream, self._reasoning.encode("utf-8", "replace"), REASONING)
            self._reasoning = ""
        if self._text:
            chunk(self._stream, self._text.encode("utf-8", "replace"))
            self._text = ""


def _scored(score: TokenScore) -> dict[str, Any]:
    """An entry as a chat completion's `logprobs.content` has it."""
    return {**_entry(score.spelled, score.logprob), "top_logprobs": [_entry(*other) for other in score.top]}


def _entry(spelled: bytes, logprob: float) -> dict[str, Any]:
    return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(spelled)}
