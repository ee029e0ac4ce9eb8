"""Relays an OpenAI answer to an OpenAI client: the bytes go on as they came, once they have been read.

The hot path of streaming. A payload that consists of whole events in the common form (`data: {...}` and a blank line,
LF only) is decoded and passed as it is; anything else goes through the careful reader and out in the common form.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from open_autoglm.dialects.canonical import Kind, estimate_tokens
from open_autoglm.dialects.openai_chunk import CHUNKS, Answer, Chunk
from open_autoglm.dialects.openai_reading import OpenAIReading
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.sse import ServerEvent

DONE: Final = b"data: [DONE]\n\n"

_BETWEEN: Final = b"}\n\ndata: {"
_LINE: Final = b"}\n{"
_SHRUNK: Final = len(_BETWEEN) - len(_LINE)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_decode = CHUNKS.decode
_decode_lines = CHUNKS.decode_lines


class OpenAIRelay(OpenAIReading):
    """See the module, and `Relay`.

    Args:
        kind: of the request.
        choices: answers that were asked for.
        structured: whether the answer is JSON.
        drop_usage: the client did not ask for usage, so the event that carries nothing else is kept from it.
        prompt_bytes: of a client that did ask: size of its prompt, for an estimate where a stream ends without
            usage and we close it; -1 for none.
    """

    __slots__ = ("_busy", "_drop_usage", "_kind", "_last", "_prompt_bytes")

    def __init__(
        self,
        kind: Kind,
        *,
        choices: int = 1,
        structured: bool = False,
        drop_usage: bool = False,
        prompt_bytes: int = -1,
    ) -> None:
        super().__init__(choices=choices, structured=structured)
        self._kind = kind
        self._drop_usage = drop_usage
        self._prompt_bytes = prompt_bytes
        self._busy = False  # the careful reader holds part of an event
        self._last = b""

    def feed(self, payload: bytes) -> bytes:
        """See `Relay.feed`."""
        if self._over:
            return b""
        if payload[:7] == b"data: {" and payload[-2:] == b"\n\n" and not self._busy and b"\r" not in payload:
            if payload.find(b"\n") == len(payload) - 2:
                try:
                    chunk = _decode(payload[6:-2])
                    if not payload.isascii():
                        payload.decode()
                except _UNREADABLE:
                    return self._feed_carefully(payload)
                choices = chunk.choices
                if choices and not chunk.error:
                    self._last = payload
                    choice = choices[0]
                    delta = choice.delta
                    if (
                        self.stage == self._text_stage
                        and delta is not None
                        and delta.content
                        and delta.tool_calls is None
                        and choice.finish_reason is None
                        and not choice.index
                        and chunk.usage is None
                        and len(choices) == 1
                    ):
                        self.delivered_chars += len(delta.content)
                        return payload
                    self._absorb(chunk)
                    return self._close_early() if self._over else payload
            else:
                out = self._feed_burst(payload)
                if out is not None:
                    return out
        return self._feed_carefully(payload)

    def end(self) -> bytes:
        """See `Relay.end`."""
        if self._over:
            return b""
        out = self._pass_on(self._last_events())
        return out + self._closing() if self._close() else out

    def whole(self, body: bytes, content_type: str) -> bytes:
        """See `Relay.whole`."""
        answer = self._read_whole(body, content_type)
        if answer is None:
            return b""
        if not _is_whole(answer, self._kind):
            missing = "data" if self._kind == "embedding" else "choices"
            self.failure = Refusal("malformed", f"the answer is JSON without {missing}")
            return b""
        self.stage = 4
        return body

    def cut(self) -> bytes:
        """See `Relay.cut`."""
        self._over = True
        self.stage = 4
        self.finish_reason = "length"
        event = self._last_event()
        empty: dict[str, Any] = {"text": ""} if self._kind == "completion" else {"delta": {}}
        event["choices"] = [
            {"index": index, **empty, "finish_reason": "length"}
            for index in range(self._seen.bit_length())
            if self._seen >> index & 1 and not self._finished >> index & 1
        ]
        return b"data: " + msgspec.json.encode(event) + b"\n\n" + self._closing()

    def _closing(self) -> bytes:
        """What ends a stream that we close: the usage that the client asked for and the upstream left out, `[DONE]`."""
        if self._prompt_bytes < 0 or self._usage is not None or not self._last:
            return DONE
        prompt, completion = estimate_tokens(self._prompt_bytes), estimate_tokens(self.delivered_chars)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        event = self._last_event() | {"choices": [], "usage": usage | {"estimated": True}}
        return b"data: " + msgspec.json.encode(event) + b"\n\n" + DONE

    def _last_event(self) -> dict[str, Any]:
        """The last event that was passed on, for its id and model; without its usage."""
        last = self._last
        event: dict[str, Any] = msgspec.json.decode(last[last.rfind(b"data: {") + 6 :]) if last else {}
        event.pop("usage", None)
        return event

    def _feed_burst(self, payload: bytes) -> bytes | None:
        """Take several events at once; None, and nothing taken, when they are not in the common form.

        Each event becomes a line that begins with `{` and ends with `}`. Between two such lines no JSON value can
        go on, so as many values as lines means one value in each.
        """
        done = payload.endswith(b"\n\n" + DONE)
        lines = payload[6 : -len(DONE) - 2 if done else -2].replace(_BETWEEN, _LINE)
        count = (len(payload) - 8 - (len(DONE) if done else 0) - len(lines)) // _SHRUNK + 1
        if len(lines) - len(lines.replace(b"\n", b"")) != count - 1:
            return None
        try:
            chunks = _decode_lines(lines)
            if not payload.isascii():
                payload.decode()
        except _UNREADABLE:
            return None
        if len(chunks) != count:
            return None
        taken = self._absorb_burst(chunks)
        if taken < count:
            at = _event_start(payload, taken, count)
            return payload[:at] + (self._close_early() if self._over else self._feed_carefully(payload[at:]))
        if not done:
            self._last = payload
            return payload
        self._last = payload[: -len(DONE)]
        return payload if self._close() else self._last

    def _absorb_burst(self, chunks: list[Chunk]) -> int:
        """Note chunks; return how many could be passed on before one that needs a closer look."""
        characters = taken = 0
        for chunk in chunks:
            choices = chunk.choices
            if not choices or chunk.error:
                break
            choice = choices[0]
            delta = choice.delta
            if (
                delta is not None
                and delta.content
                and delta.tool_calls is None
                and choice.finish_reason is None
                and not choice.index
                and chunk.usage is None
                and len(choices) == 1
            ):
                characters += len(delta.content)
                taken += 1
                continue
            self._note_text(characters)
            characters = 0
            self._absorb(chunk)
            if self._over:
                break
            taken += 1
        self._note_text(characters)
        return taken

    def _note_text(self, characters: int) -> None:
        if characters:
            self.delivered_chars += characters
            self.stage = max(self.stage, self._text_stage)

    def _feed_carefully(self, payload: bytes) -> bytes:
        out = self._pass_on(self._cut_events(payload))
        self._busy = self._reader is not None and not self._reader.idle
        return out

    def _pass_on(self, events: list[ServerEvent]) -> bytes:
        """Read events one by one and write those that are for the client."""
        out = []
        for name, data in events:
            chunk = self._read(name, data)
            if chunk is None:
                break
            if self._drop_usage and not chunk.choices and chunk.usage is not None:
                continue
            # A line feed between the data lines of an event can only be white space of its JSON.
            self._last = b"data: " + data.replace(b"\n", b" ") + b"\n\n"
            out.append(self._last)
        self._check_reader()
        if self._over:
            out.append(self._close_early())
        return b"".join(out)

    def _close_early(self) -> bytes:
        """What ends the client's stream when reading stopped: its answer may be whole all the same."""
        return DONE if self.failure is None else b""


def _event_start(payload: bytes, number: int, count: int) -> int:
    """Where event `number` of `count` in the common form begins."""
    if number == count - 1:
        return payload.rfind(_BETWEEN) + 3 if number else 0
    at = 0
    for _ in range(number):
        at = payload.index(_BETWEEN, at) + 3
    return at


def _is_whole(answer: Answer, kind: Kind) -> bool:
    if kind == "embedding":
        return bool(answer.data)
    if not answer.choices:
        return False
    return not [choice for choice in answer.choices if (choice.message if kind == "chat" else choice.text) is None]
