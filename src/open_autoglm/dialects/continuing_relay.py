"""Relays of streams that may be continued elsewhere: those that keep the text, and the one that goes on with it.

| relay | its attempt |
|---|---|
| `KeepingRelay`, `KeepingTranslation` | may be the one that breaks: notes what goes to the client |
| `ContinuingRelay` | goes on: the client sees one stream, of one id and model, with one role and one usage |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from open_autoglm.dialects.canonical import (
    Event,
    Finish,
    InferRequest,
    Kind,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    estimate_tokens,
)
from open_autoglm.dialects.chat import ChatEncoder
from open_autoglm.dialects.completions import CompletionsEncoder
from open_autoglm.dialects.continuation import Delivered, continued_request
from open_autoglm.dialects.face import AnswerEncoder, Face, Failover, RequestView
from open_autoglm.dialects.openai_relay import OpenAIRelay
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.relay import Relay, TranslatingRelay, open_stream_relay
from open_autoglm.dialects.seam import Seam
from open_autoglm.dialects.upstream import Decoder, UpstreamDialect


class KeepingRelay(OpenAIRelay):
    """An `OpenAIRelay` that notes what it returns from the first content on.

    Args:
        delivered: where.
        kind, choices, structured, drop_usage, prompt_bytes: see `OpenAIRelay`.
    """

    __slots__ = ("_delivered",)

    def __init__(
        self,
        delivered: Delivered,
        kind: Kind,
        *,
        choices: int = 1,
        structured: bool = False,
        drop_usage: bool = False,
        prompt_bytes: int = -1,
    ) -> None:
        super().__init__(kind, choices=choices, structured=structured, drop_usage=drop_usage, prompt_bytes=prompt_bytes)
        self._delivered = delivered

    def feed(self, payload: bytes) -> bytes:
        """See `Relay.feed`."""
        return self._kept(super().feed(payload))

    def end(self) -> bytes:
        """See `Relay.end`."""
        return self._kept(super().end())

    def _kept(self, out: bytes) -> bytes:
        if out and self.stage >= 2:
            self._delivered.take(out)
        return out


class KeepingTranslation(TranslatingRelay):
    """A `TranslatingRelay` that notes what it returns from the first content on.

    Args:
        delivered: where.
        decoder, encoder, structured: see `TranslatingRelay`.
    """

    __slots__ = ("_delivered",)

    def __init__(
        self, delivered: Delivered, decoder: Decoder, encoder: AnswerEncoder, *, structured: bool = False
    ) -> None:
        super().__init__(decoder, encoder, structured=structured)
        self._delivered = delivered

    def deliver(self, events: Sequence[Event]) -> bytes:
        """See `EventRelay.deliver`."""
        out = super().deliver(events)
        if self.stage >= 2:
            self._delivered.take_events(events, self._encoder)
        return out


class ContinuingRelay(TranslatingRelay):
    """Goes on with a stream; see the module, and `Relay`.

    Its stage is 0 until something new can be delivered, so that an attempt that fails before that was never seen.

    Args:
        delivered: what the client has.
        given: characters of it that the endpoint was given.
        decoder: reads the endpoint's bytes.
        encoder: goes on writing the client's stream.
        to: the endpoint, as `chat#2`.
        prompt_bytes: size of the client's prompt, to estimate its tokens where nobody counted them.
    """

    __slots__ = ("_delivered", "_new_bytes", "_prompt_bytes", "_seam", "_to", "_usage")

    def __init__(
        self, delivered: Delivered, given: int, decoder: Decoder, encoder: AnswerEncoder, *, to: str, prompt_bytes: int
    ) -> None:
        super().__init__(decoder, encoder)
        self._delivered = delivered
        self._seam = Seam(delivered.text, given)
        self._to = to
        self._prompt_bytes = prompt_bytes
        self._new_bytes = 0
        self._usage: Usage | None = None
        self.delivered_chars = delivered.chars
        self.prompt_tokens = delivered.prompt_tokens
        self.completion_tokens = delivered.completion_tokens

    def deliver(self, events: Sequence[Event]) -> bytes:
        """See `EventRelay.deliver`."""
        fresh: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text):
                    self._add(fresh, self._seam.feed(text))
                case Finish():
                    self._add(fresh, self._seam.end())
                    self._encoder.failed_over(Failover(self._delivered.source, self._to, self._delivered.chars))
                    fresh.append(event)
                case Usage():
                    self._usage = event
                case ReasoningDelta() | ToolCallDelta():
                    # It did not go on with the text but began something of its own.
                    said = "thought" if isinstance(event, ReasoningDelta) else "called a tool"
                    self.failure = Refusal("malformed", f"the endpoint {said} instead of going on with the text")
                    break
        return super().deliver(fresh)

    def finish(self) -> bytes:
        """See `EventRelay.finish`. The usage is that of the whole answer."""
        usage = self._whole_usage()
        return super().deliver([usage]) + super().finish()

    def _add(self, events: list[Event], text: str) -> None:
        if text:
            self._new_bytes += len(text.encode("utf-8", "replace"))
            events.append(TextDelta(text))

    def _judge(self) -> None:
        own = self.failure
        super()._judge()
        if self.failure is None and own is not None and self.stage < 4:
            self.failure = Refusal("interrupted", own.message) if self.stage >= 2 else own
            self._over = True

    def _whole_usage(self) -> Usage:
        """Tokens of the client's prompt and of the answer's two parts: estimated, since nobody counted them whole."""
        delivered, second = self._delivered, self._usage
        prompt, completion = delivered.prompt_tokens, delivered.tokens
        if prompt < 0:
            # The second endpoint read the first part of the answer as if it were part of the prompt.
            counted = second is not None and not second.estimated
            prompt = second.prompt_tokens - completion if second and counted else estimate_tokens(self._prompt_bytes)
        completion += second.completion_tokens if second is not None else estimate_tokens(self._new_bytes)
        return Usage(max(0, prompt), completion, estimated=True)


def open_keeping_relay(
    delivered: Delivered,
    face: Face,
    dialect: UpstreamDialect,
    view: RequestView,
    *,
    encoder: AnswerEncoder | None = None,
    request: InferRequest | None = None,
) -> Relay:
    """The relay for an attempt whose stream may be continued elsewhere.

    Args:
        delivered: where it notes what the client gets.
        face: of the client's route.
        dialect: of the endpoint.
        view: of the request.
        encoder, request: where the answer has to be translated: who writes it, and what was sent.
    """
    if encoder is None:
        return open_stream_relay(face, view, partial(KeepingRelay, delivered))
    return KeepingTranslation(delivered, dialect.decoder(True, request), encoder, structured=view.structured)


def open_continuing_relay(
    delivered: Delivered, view: RequestView, dialect: UpstreamDialect, continuation: str, *, to: str
) -> tuple[ContinuingRelay, InferRequest]:
    """The relay and the request for an attempt that goes on with a broken stream.

    Args:
        delivered: what the client has; `broke` has been called.
        view: of the request.
        dialect: of the endpoint that shall go on.
        continuation: what that endpoint can do: `prefill`, `vllm`, or anything else for plain prompts alone.
        to: the endpoint, as `chat#2`.

    Raises:
        RequestError: the endpoint cannot go on with this request.
    """
    request, given = continued_request(delivered, dialect.name, continuation)
    encoder = delivered.encoder
    if encoder is None:
        # Only these two dialects pass an upstream's stream on as it came.
        is_chat = delivered.request is not None and delivered.request.kind == "chat"
        encoder = (ChatEncoder if is_chat else CompletionsEncoder).resumed(view, delivered.event)
    decoder = dialect.decoder(True, request)
    relay = ContinuingRelay(delivered, given, decoder, encoder, to=to, prompt_bytes=view.prompt_bytes)
    return relay, request
