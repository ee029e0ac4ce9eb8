"""Relays a unary OpenAI answer to an OpenAI client: the bytes go on as they came, once they have been read."""

from __future__ import annotations

from open_autoglm.dialects.canonical import Kind
from open_autoglm.dialects.openai_reading import read_whole
from open_autoglm.dialects.refusal import Refusal


class OpenAIUnaryRelay:
    """See the module, and `Relay`. An answer that does not come in pieces has nothing to feed, to end or to cut.

    Args:
        kind: of the request.
    """

    __slots__ = (
        "_kind",
        "completion_tokens",
        "delivered_chars",
        "failure",
        "finish_reason",
        "prompt_tokens",
        "stage",
    )

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.stage = self.delivered_chars = 0
        self.failure: Refusal | None = None
        self.finish_reason = ""
        self.prompt_tokens = self.completion_tokens = -1

    def whole(self, body: bytes, content_type: str) -> bytes:
        """See `Relay.whole`."""
        answer = read_whole(body, content_type)
        if isinstance(answer, Refusal):
            self.failure = answer
            return b""
        kind = self._kind
        choices = answer.choices or ()
        if not (answer.data if kind == "embedding" else choices):
            return self._miss("data" if kind == "embedding" else "choices")
        for choice in choices:
            message = choice.message
            if kind != "embedding" and (message if kind == "chat" else choice.text) is None:
                return self._miss("choices")
            text = message.content if message is not None else choice.text
            if text:
                self.delivered_chars += len(text)
            reason = choice.finish_reason
            if reason and not self.finish_reason:
                self.finish_reason = reason
        usage = answer.usage
        if usage is not None:
            prompt, completion = usage.prompt_tokens, usage.completion_tokens
            if prompt is not None and prompt >= 0:
                self.prompt_tokens = prompt
            if completion is not None and completion >= 0:
                self.completion_tokens = completion
        self.stage = 4
        return body

    def _miss(self, what: str) -> bytes:
        self.failure = Refusal("malformed", f"the answer is JSON without {what}")
        return b""

    def feed(self, payload: bytes) -> bytes:
        """See `Relay.feed`."""
        return b""

    def end(self) -> bytes:
        """See `Relay.end`."""
        return b""

    def cut(self) -> bytes:
        """See `Relay.cut`."""
        return b""
