"""One attempt's answer, from the upstream's bytes to the client's.

| stage | the client could have seen |
|---|---|
| 0 | nothing |
| 1 | a head: role, empty pieces |
| 2 | text or thinking |
| 3 | part of a tool call or of a structured answer |
| 4 | the finish reason |

Invariants: a relay never raises on what an upstream sends, it notes a `failure`; what it returns consists of whole
events that were read and understood; after a failure, or after the end, nothing more comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from open_autoglm.dialects.canonical import (
    Event,
    Finish,
    InferRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from open_autoglm.dialects.face import AnswerEncoder, Face, RequestView, passes
from open_autoglm.dialects.openai_relay import OpenAIRelay
from open_autoglm.dialects.openai_unary import OpenAIUnaryRelay
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.upstream import Decoder, UpstreamDialect

RelayFailure = Refusal
"""Why a relay gave up: an outcome, a message, and a code and field where the client is to hear them."""


class Relay(Protocol):
    """See the module.

    Attributes:
        stage: see the table; never falls.
        failure: set instead of raising. Its outcome is `interrupted` from stage 2 on.
        finish_reason: as the upstream said, empty until then.
        prompt_tokens, completion_tokens: as the upstream said, -1 when it did not.
        delivered_chars: characters of answer text in what was returned.
    """

    stage: int
    failure: Refusal | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    delivered_chars: int

    def feed(self, payload: bytes) -> bytes:
        """Take bytes of a streamed answer; return what goes to the client, maybe nothing."""

    def end(self) -> bytes:
        """The upstream's answer has ended cleanly; return what is left to send."""

    def whole(self, body: bytes, content_type: str) -> bytes:
        """Take a unary answer; return the client's body, or nothing on failure."""

    def cut(self) -> bytes:
        """The answer has reached a limit: what ends the client's stream with the finish reason `length`."""


class EventRelay:
    """Relays events that are made in this process; see `Relay` for its attributes.

    Args:
        encoder: writes the answer.
        structured: the answer is JSON, so that its first piece is stage 3.

    Attributes:
        version: of the model that computed it, empty until somebody says it.
    """

    __slots__ = (
        "_encoder",
        "_text_stage",
        "completion_tokens",
        "delivered_chars",
        "estimated",
        "failure",
        "finish_reason",
        "prompt_tokens",
        "stage",
        "version",
    )

    def __init__(self, encoder: AnswerEncoder, *, structured: bool = False) -> None:
        self._encoder = encoder
        self._text_stage = 3 if structured else 2
        self.stage = 0
        self.failure: Refusal | None = None
        self.finish_reason = self.version = ""
        self.prompt_tokens = -1
        self.completion_tokens = -1
        self.estimated = False
        self.delivered_chars = 0

    def deliver(self, events: Sequence[Event]) -> bytes:
        """Count events and write them for the client's stream."""
        self._note(events)
        return self._encoder.stream(events)

    def finish(self) -> bytes:
        """What closes the client's stream."""
        return self._encoder.end()

    def deliver_whole(self, events: Sequence[Event]) -> bytes:
        """Count all events of an answer and write it as one body."""
        self._note(events)
        return self._encoder.whole(events)

    def cut(self) -> bytes:
        """See `Relay.cut`."""
        return self.deliver([Finish("length")]) + self.finish()

    def _note(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case TextDelta(text):
                    self.delivered_chars += len(text)
                    self.stage = max(self.stage, self._text_stage)
                case ReasoningDelta():
                    self.stage = max(self.stage, 2)
                case ToolCallDelta():
                    self.stage = max(self.stage, 3)
                case Finish(reason, version=version):
                    self.stage = 4
                    self.version = version or self.version
                    self.finish_reason = self.finish_reason or reason
                case Usage(prompt, completion, estimated):
                    self.estimated = estimated
                    self.prompt_tokens = prompt
                    self.completion_tokens = completion


class TranslatingRelay(EventRelay):
    """Relays an upstream of another dialect; see `Relay`.

    Args:
        decoder: reads the upstream's bytes.
        encoder: writes the answer.
        structured: see `EventRelay`.
    """

    __slots__ = ("_decoder", "_over")

    def __init__(self, decoder: Decoder, encoder: AnswerEncoder, *, structured: bool = False) -> None:
        super().__init__(encoder, structured=structured)
        self._decoder = decoder
        self._over = False

    def feed(self, payload: bytes) -> bytes:
        """See `Relay.feed`."""
        if self._over:
            return b""
        out = self.deliver(self._decoder.feed(payload))
        self._judge()
        return out

    def end(self) -> bytes:
        """See `Relay.end`."""
        if self._over:
            return b""
        out = self.deliver(self._decoder.end())
        self._judge()
        self._over = True
        return out if self.failure is not None else out + self.finish()

    def cut(self) -> bytes:
        """See `Relay.cut`."""
        self._over = True
        return super().cut()

    def whole(self, body: bytes, content_type: str) -> bytes:
        """See `Relay.whole`."""
        self._over = True
        events = self._decoder.whole(body, content_type)
        self.failure = self._decoder.failure
        return b"" if self.failure is not None else self.deliver_whole(events)

    def _judge(self) -> None:
        """A failure is an interruption from the first content on that the client could see, and never before."""
        failure = self._decoder.failure
        if self.stage == 4:
            failure = None  # what goes wrong after the finish reason does not make the answer less whole
        elif failure is not None and self.stage >= 2:
            failure = Refusal("interrupted", failure.message)
        elif failure is not None and failure.outcome == "interrupted":
            failure = Refusal("malformed", failure.message)
        self.failure = failure
        self._over = failure is not None


def open_relay(
    face: Face,
    dialect: UpstreamDialect,
    view: RequestView,
    request_id: str,
    model: str,
    created_s: int,
    *,
    request: InferRequest | None = None,
) -> Relay:
    """Return the relay for one attempt.

    Args:
        face: of the client's route.
        dialect: of the endpoint.
        view: of the request.
        request_id: for the answer's id where we make it.
        model: the name that the client knows.
        created_s: wall seconds.
        request: what was sent, where it had to be translated; lets `generate` drop an echo of the prompt.
    """
    if passes(face.name, dialect.name):
        return open_stream_relay(face, view) if view.stream else OpenAIUnaryRelay(face.kind)
    encoder = face.encoder(view, request_id, model, created_s)
    decoder = dialect.decoder(view.stream is True, request)
    return TranslatingRelay(decoder, encoder, structured=view.structured)


def open_stream_relay(face: Face, view: RequestView, make: Callable[..., OpenAIRelay] = OpenAIRelay) -> OpenAIRelay:
    """Return the relay for a stream that passes as it is; see `passes`. `make` makes it."""
    return make(
        face.kind,
        choices=view.choices,
        structured=view.structured,
        drop_usage=not view.include_usage,
        prompt_bytes=view.prompt_bytes if view.include_usage else -1,
    )
