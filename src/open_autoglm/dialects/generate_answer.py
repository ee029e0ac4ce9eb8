"""Reading the answers of the plain dialect, which has as many forms as servers.

| form | where it comes from |
|---|---|
| `{"text": "…"}`, `{"response": "…"}`, `{"generated_text": "…"}`, or a list of one | small servers, Ollama, pipelines |
| `{"text": ["…"]}` | vLLM's demonstration server: the prompt stands before the text, and is taken off |
| `{"token": {"text": "…"}}` | a streamed piece of text-generation-inference |

Streams come as server-sent events, or as JSON objects each on a line (or ended by a zero byte). In a stream, a text in
a list and a text beside `meta_info` (SGLang) is the whole text so far; any other text is the next piece. Guessing from
the texts themselves is not tried: it could not tell the pieces `1`, `11` from a text that grows.

A stream that ends cleanly is complete, since the dialect has no other sign. A finish reason and counts are used where
they come (`finish_reason`, `done_reason`; `prompt_eval_count`, `eval_count`); else it is `stop` and an estimate.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from open_autoglm.dialects.canonical import Event, Finish, TextDelta, Usage, estimate_tokens
from open_autoglm.dialects.refusal import Refusal, classify_in_band
from open_autoglm.dialects.sse import LINE_BYTES_MAX, EventReader

_TEXT_FIELDS: Final = ("text", "response", "generated_text")
_REASONS: Final = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
}
"""Finish reasons that are kept; `stop`, `eos_token`, `stop_sequence` and what is not known are `stop`."""

_any = msgspec.json.Decoder()


class GenerateDecoder:
    """See `Decoder`.

    Args:
        prompt: what was sent; empty when it is not known.
    """

    __slots__ = (
        "_answered",
        "_counts",
        "_line",
        "_over",
        "_prompt",
        "_reader",
        "_reason",
        "_sent_bytes",
        "_sent_chars",
        "_started",
        "failure",
    )

    def __init__(self, prompt: str = "") -> None:
        self._prompt = prompt
        self._reader: EventReader | None = None
        self._line = bytearray()
        self._started = False
        self._answered = False
        self._over = False
        self._sent_chars = 0
        self._sent_bytes = 0
        self._reason = "stop"
        self._counts: tuple[int, int] | None = None
        self.failure: Refusal | None = None

    def feed(self, payload: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        if self._over:
            return []
        if not self._started:
            payload = payload.lstrip()
            if not payload:
                return []
            self._started = True
            if payload[:1] not in (b"{", b"["):
                self._reader = EventReader()
        if self._reader is None:
            return self._take_all(self._cut_lines(payload))
        events = self._take_all([data for _, data in self._reader.feed(payload)])
        if self._reader.failure:
            self._fail(f"the stream holds {self._reader.failure}")
        return events

    def end(self) -> list[Event]:
        """See `Decoder.end`."""
        events: list[Event] = []
        if not self._over:
            rest = [data for _, data in self._reader.end()] if self._reader is not None else [bytes(self._line)]
            events = self._take_all(rest)
        if not self._answered and self.failure is None:
            self._fail("the stream ended without an answer")
        return events if self.failure is not None else events + self._closing()

    def whole(self, body: bytes, content_type: str) -> list[Event]:
        """See `Decoder.whole`."""
        events = self._take_all([body])
        if self.failure is None and not self._answered:
            said = content_type.partition(";")[0].strip()[:40]
            self._fail(f"the answer ({said or 'no content type'}) holds no text")
        return events + self._closing() if self.failure is None else []

    def _cut_lines(self, payload: bytes) -> list[bytes]:
        """The lines that a payload completes."""
        *whole, rest = payload.replace(b"\0", b"\n").split(b"\n")
        lines = []
        for piece in whole:
            self._line += piece
            lines.append(bytes(self._line))
            self._line.clear()
        self._line += rest
        if len(self._line) > LINE_BYTES_MAX:
            self._fail(f"the stream holds a line of more than {LINE_BYTES_MAX} bytes")
        return lines

    def _take_all(self, documents: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for document in documents:
            if self._over:
                break
            if not document.strip():
                continue
            if document.strip() == b"[DONE]":
                self._over = True
                break
            events += self._take(document)
        return events

    def _take(self, document: bytes) -> list[Event]:
        """Take one JSON document."""
        try:
            value = _any.decode(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._fail("the answer is not JSON")
            return []
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            self._fail("the answer is JSON of an unknown form")
            return []
        if value.get("error"):
            self.failure = classify_in_band(value["error"])
            self._over = True
            return []
        self._note_end(value)
        text = self._new_text(value)
        if text is None:
            return []
        self._answered = True
        if not text:
            return []
        self._sent_chars += len(text)
        self._sent_bytes += len(text.encode("utf-8", "replace"))
        return [TextDelta(text)]

    def _new_text(self, value: dict[str, Any]) -> str | None:
        """What a document adds to the text; None when it holds none, which only the last one may."""
        token = value.get("token")
        if isinstance(token, dict) and isinstance(token.get("text"), str):
            return str(token["text"])
        given = next((value[name] for name in _TEXT_FIELDS if value.get(name) is not None), None)
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):
            return self._grown(given[0].removeprefix(self._prompt))
        if isinstance(given, str):
            return self._grown(given) if "meta_info" in value else given
        if given is not None or not (self._answered or value.get("done") is True):
            self._fail("the answer holds no text")
        return None

    def _grown(self, text: str) -> str:
        """What a text has more than was sent before."""
        if len(text) < self._sent_chars:
            self._fail("the answer became shorter")
            return ""
        return text[self._sent_chars :]

    def _note_end(self, value: dict[str, Any]) -> None:
        """Note finish reason and counts, where a document has them."""
        meta = value.get("meta_info")
        for source in (value, meta if isinstance(meta, dict) else {}):
            reason = source.get("finish_reason") or source.get("done_reason")
            if isinstance(reason, dict):
                reason = reason.get("type")
            if isinstance(reason, str):
                self._reason = _REASONS.get(reason, "stop")
            for names in (("prompt_eval_count", "eval_count"), ("prompt_tokens", "completion_tokens")):
                counts = [source.get(name) for name in names]
                if all(type(count) is int and count >= 0 for count in counts):
                    self._counts = (int(counts[0] or 0), int(counts[1] or 0))

    def _closing(self) -> list[Event]:
        if self._counts is not None:
            return [Finish(self._reason), Usage(*self._counts)]
        prompt_bytes = len(self._prompt.encode("utf-8", "replace"))
        estimate = Usage(estimate_tokens(prompt_bytes), estimate_tokens(self._sent_bytes), estimated=True)
        return [Finish(self._reason), estimate]

    def _fail(self, message: str) -> None:
        self._over = True
        self.failure = Refusal("malformed", message)
