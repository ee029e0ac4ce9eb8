"""Models that run in this process: between exchanges on the event loop and an engine in its own thread.

Invariant: nothing here waits for the engine, and the loop is woken at most once per forward pass, however many
requests that pass served.
"""

from __future__ import annotations

import asyncio
from collections import deque

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall, unsent
from open_autoglm.dialects import canonical
from open_autoglm.dialects.canonical import InferRequest
from open_autoglm.dialects.embedded import (
    embedded_messages,
    embedded_supports,
    embedded_tools,
    embedded_top_logprobs,
)
from open_autoglm.dialects.relay import EventRelay
from open_autoglm.engines.embedded.catalog import open_model
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import (
    Failed,
    Finish,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCall,
    Usage,
)
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.exchange.attempt import Attempt

_SLOTS = 8
_QUEUE_MAX = 256


def open_embedded(name: str, loop: asyncio.AbstractEventLoop) -> EmbeddedBackend:
    """Load a shipped model and start its engine.

    Args:
        name: as in the catalog.
        loop: on which answers are delivered.

    Raises:
        AutoGLMError: there is no such model, or its files are not what they should be.
    """
    engine = Engine(open_model(name), slots=_SLOTS, queue_max=_QUEUE_MAX)
    engine.start()
    return EmbeddedBackend(engine, loop)


class EmbeddedBackend:
    """One engine; see `backends.backend.Backend`."""

    dialect_name = "embedded"

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self._loop = loop
        self._arrived: deque[tuple[EmbeddedAnswer, list[GenerateEvent]]] = deque()
        self._woken = False

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        """Hand the request to the engine; one that it cannot serve fails as `unsupported`."""
        answer = EmbeddedAnswer(self, attempt, call)
        attempt.handle = answer
        try:
            request = call.face.infer(call.body, call.view)
            embedded_supports(request)
            answer.handle = self.engine.submit(_generate_request(request, call.deadline_s), answer.deliver)
        except AutoGLMError as error:
            answer.over = True
            outcome = "unavailable" if error.retryable else unsent(error)
            call.exchange.failed(attempt, outcome, error.message, clock.monotonic(), error)

    def post(self, answer: EmbeddedAnswer, events: list[GenerateEvent]) -> None:
        """Called in the engine's thread: queue events, and wake the loop unless it is awake already."""
        self._arrived.append((answer, events))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    @property
    def connections(self) -> int:
        """See `Backend`; there are none."""
        return 0

    async def reachable(self, timeout_s: float) -> bool:
        """See `Backend`; it is here."""
        return True

    def sweep(self, now_s: float) -> None:
        """See `Backend`; there is nothing that idles."""

    def close(self) -> None:
        """Engines outlive configurations; the server stops them by `stop`."""

    def stop(self) -> None:
        """Stop the engine; what still runs fails."""
        self.engine.close()

    def _drain(self) -> None:
        self._woken = False
        while self._arrived:
            answer, events = self._arrived.popleft()
            answer.take(events)


class EmbeddedAnswer:
    """One answer of an engine on its way to an exchange; also the attempt's handle."""

    __slots__ = ("_attempt", "_backend", "_call", "_calls", "_events", "_relay", "handle", "over")

    def __init__(self, backend: EmbeddedBackend, attempt: Attempt, call: ModelCall) -> None:
        self._backend = backend
        self._attempt = attempt
        self._call = call
        view = call.view
        encoder = call.face.encoder(view, call.request_id, call.model, call.created_s)
        self._relay = EventRelay(encoder, structured=view.structured)
        self._events: list[canonical.Event] = []
        self._calls = 0
        self.handle = 0
        self.over = False

    def deliver(self, events: list[GenerateEvent]) -> None:
        """Called in the engine's thread."""
        self._backend.post(self, events)

    def cancel(self) -> None:
        """Stop the generation."""
        if not self.over:
            self.over = True
            if self._attempt.first_s:
                # What the client never heard is not its answer.
                self._note_usage()
        self._backend.engine.cancel(self.handle)

    def finish(self) -> bytes:
        self.cancel()
        return self._relay.finish()

    def pause(self) -> None:
        """A slow reader: answers are short, so they are kept rather than held up."""

    def resume(self) -> None:
        """See `pause`."""

    def take(self, generated: list[GenerateEvent]) -> None:
        """Pass events on, on the loop."""
        if self.over:
            return
        now_s = clock.monotonic()
        attempt, call = self._attempt, self._call
        attempt.head_s = attempt.head_s or now_s
        events: list[canonical.Event] = []
        done = False
        for event in generated:
            if isinstance(event, Failed):
                self._fail(event, now_s)
                return
            events.append(self._translated(event))
            done = done or isinstance(event, Usage)
        relay = self._relay
        if not call.view.stream:
            self._events += events
            if done:
                self.over = True
                body = relay.deliver_whole(self._events)
                self._note_usage()
                call.exchange.whole(attempt, body, now_s)
            return
        payload = relay.deliver(events)
        if done:
            self.over = True
            self._note_usage()
            call.exchange.ended(attempt, payload + relay.finish(), now_s)
        else:
            if not attempt.first_s:  # the head goes out now, and says it
                relay.version = call.record.version = self._backend.engine.version
            call.exchange.content(attempt, payload, relay.stage, now_s)

    def _note_usage(self) -> None:
        relay, record = self._relay, self._call.record
        record.finish_reason, record.version = relay.finish_reason, relay.version
        record.prompt_tokens = relay.prompt_tokens
        record.completion_tokens = relay.completion_tokens
        record.delivered_chars = relay.delivered_chars

    def _fail(self, event: Failed, now_s: float) -> None:
        self.over = True
        self._note_usage()
        error = ServerError(event.code, event.message)
        outcome = "deadline" if event.code == "deadline_exceeded" else "unavailable"
        self._call.exchange.failed(self._attempt, outcome, event.message, now_s, error)

    def _translated(self, event: GenerateEvent) -> canonical.Event:
        match event:
            case ReasoningDelta(text):
                return canonical.ReasoningDelta(text)
            case TextDelta(text):
                return canonical.TextDelta(text)
            case ToolCall(id=call_id, name=name, arguments=arguments):
                self._calls += 1
                return canonical.ToolCallDelta(self._calls - 1, call_id, name, arguments)
            case TokenScore(spelled, logprob, top):
                return canonical.TokenScore(spelled, logprob, top)
            case Finish(reason):
                return canonical.Finish(reason, version=self._backend.engine.version)
            case Usage(prompt_tokens, completion_tokens):
                return canonical.Usage(prompt_tokens, completion_tokens)
            case _:
                raise TypeError(f"an engine does not make {type(event).__name__}")


def _generate_request(request: InferRequest, deadline_s: float) -> GenerateRequest:
    """Put a request into the engine's words. `embedded_supports` has accepted it."""
    return GenerateRequest(
        messages=embedded_messages(request),
        tools=embedded_tools(request),
        max_tokens=request.max_tokens,
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=request.seed,
        stop=request.stop,
        deadline_s=deadline_s,
        top_logprobs=embedded_top_logprobs(request),
    )
