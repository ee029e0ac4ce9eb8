"""What an answer in OpenAI's dialect has said so far.

Shared by the relay that passes an answer on and the decoder that translates it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from open_autoglm.dialects.openai_chunk import (
    Answer,
    Chunk,
    NotAnAnswer,
    UsageFigures,
    error_in,
    plain_value,
    read_answer,
    read_chunk,
)
from open_autoglm.dialects.refusal import Refusal, classify_in_band
from open_autoglm.dialects.sse import EventReader, ServerEvent

_INDEX_MAX: Final = 127
"""Of a choice: far above what is asked for, and small enough for a bit mask."""
_HEADS_MAX: Final = 16
"""Events without known content after which an answer counts as begun: its content may be of a kind not known here."""
_UNFINISHED: Final = "the stream ended without a finish reason"
_PLAIN_BYTES_MAX: Final = 16 * 2**10
"""Of a body that is no event stream, kept to see whether it is an error."""


class OpenAIReading:
    """The state of one answer; see `Relay` for its public attributes.

    Args:
        choices: answers that were asked for.
        structured: whether the answer is JSON, so that its first piece is stage 3.
    """

    __slots__ = (
        "_choices",
        "_finished",
        "_heads",
        "_over",
        "_plain",
        "_reader",
        "_seen",
        "_text_stage",
        "_usage",
        "completion_tokens",
        "delivered_chars",
        "failure",
        "finish_reason",
        "prompt_tokens",
        "stage",
    )

    def __init__(self, *, choices: int, structured: bool) -> None:
        self._choices = choices
        self._text_stage = 3 if structured else 2
        self._finished = 0  # a bit for each choice that has a finish reason
        self._seen = 1  # a bit for each choice that has appeared; the first always counts
        self._heads = 0
        self._over = False
        self._reader: EventReader | None = None
        self._plain: bytes | None = b""  # the beginning of a body that is JSON instead of events; None when it is not
        self._usage: UsageFigures | None = None
        self.stage = 0
        self.failure: Refusal | None = None
        self.finish_reason = ""
        self.prompt_tokens = -1
        self.completion_tokens = -1
        self.delivered_chars = 0

    @property
    def _complete(self) -> bool:
        """Whether every choice that appeared has its finish reason."""
        return self._finished & self._seen == self._seen

    def _cut_events(self, payload: bytes) -> list[ServerEvent]:
        """The events that a payload completes, by the careful reader."""
        if self._reader is None:
            self._reader = EventReader(begun=self.stage > 0)
        if self._plain is not None and len(self._plain) < _PLAIN_BYTES_MAX:
            plain = (self._plain + payload[:_PLAIN_BYTES_MAX]).lstrip()[:_PLAIN_BYTES_MAX]
            self._plain = plain if plain[:1] in (b"{", b"") else None
        return self._reader.feed(payload)

    def _check_reader(self) -> None:
        """Give up when the careful reader did, once the events before that have been taken."""
        if self._reader is not None and self._reader.failure and not self._over:
            self._fail(Refusal("malformed", f"the stream holds {self._reader.failure}"))

    def _last_events(self) -> list[ServerEvent]:
        return self._reader.end() if self._reader is not None else []

    def _read(self, name: bytes, data: bytes) -> Chunk | None:
        """Take one event; None when it is the end or a failure."""
        if data.strip() == b"[DONE]":
            self._over = True
            if not self._complete:
                self._fail(Refusal("malformed", _UNFINISHED))
            return None
        try:
            chunk = read_chunk(data)
        except NotAnAnswer as error:
            self._fail(Refusal("malformed", f"the stream holds {error}"))
            return None
        if chunk.error or name == b"error":
            self._fail(classify_in_band(chunk.error or plain_value(data)))
            return None
        if chunk.choices is None and chunk.usage is None:
            told = error_in(data, None)
            nothing = Refusal("malformed", "the stream holds an event without choices")
            self._fail(classify_in_band(told) if told else nothing)
            return None
        self._absorb(chunk)
        return None if self._over else chunk

    def _absorb(self, chunk: Chunk) -> None:
        """Note what a chunk says."""
        for choice in chunk.choices or ():
            if choice.index and not self._note_index(choice.index):
                return
            delta = choice.delta
            if delta is not None:
                text = delta.content
                if delta.tool_calls or has_value(delta.function_call):
                    self.stage = max(self.stage, 3)
                elif delta.reasoning_content or delta.reasoning or delta.refusal or has_value(delta.audio):
                    self.stage = max(self.stage, 2)
            else:
                text = choice.text
            if text:
                self.delivered_chars += len(text)
                self.stage = max(self.stage, self._text_stage)
            if choice.finish_reason:
                self._note_finish(choice.index, choice.finish_reason)
        if chunk.usage is not None:
            self._note_usage(chunk.usage)
        if self.stage < 2 and chunk.choices:
            self._heads += 1
            self.stage = 2 if self._heads > _HEADS_MAX else 1

    def _note_index(self, index: int) -> bool:
        """Note that a choice exists; False when that cannot be."""
        if 0 < index <= _INDEX_MAX:
            self._seen |= 1 << index
            return True
        self._fail(Refusal("malformed", "the stream holds a choice with an impossible index"))
        return False

    def _note_finish(self, index: int, reason: str) -> None:
        self._finished |= 1 << index
        if not self.finish_reason or index == 0:
            self.finish_reason = reason
        if self._finished.bit_count() >= self._choices:
            self.stage = 4

    def _note_usage(self, usage: UsageFigures) -> None:
        self._usage = usage
        if usage.prompt_tokens is not None and usage.prompt_tokens >= 0:
            self.prompt_tokens = usage.prompt_tokens
        if usage.completion_tokens is not None and usage.completion_tokens >= 0:
            self.completion_tokens = usage.completion_tokens

    def _fail(self, refusal: Refusal) -> None:
        """Give up; but what goes wrong after the finish reason does not make an answer less whole."""
        self._over = True
        if self._finished and self._complete and self.stage == 4:
            return
        self.failure = Refusal("interrupted", refusal.message) if self.stage >= 2 else refusal

    def _close(self) -> bool:
        """The upstream's answer has ended. Return whether that makes it whole; if not, it is a failure."""
        if self._over:
            return False
        if self._complete:
            self._over = True
            return True
        self._fail(self._judge_plain() if self._plain and self.stage == 0 else Refusal("malformed", _UNFINISHED))
        return False

    def _judge_plain(self) -> Refusal:
        """A stream was asked for, and a JSON object came: mostly an error."""
        body = self._plain or b""
        try:
            answer = read_answer(body)
        except NotAnAnswer:
            return Refusal("malformed", "the answer is no event stream")
        error = error_in(body, answer.error)
        if error:
            return classify_in_band(error)
        return Refusal("malformed", "the answer is one JSON object, though a stream was asked for")

    def _read_whole(self, body: bytes, content_type: str) -> Answer | None:
        """Take a unary answer; None on failure."""
        self._over = True
        answer = read_whole(body, content_type)
        if isinstance(answer, Refusal):
            self.failure = answer
            return None
        if answer.usage is not None:
            self._note_usage(answer.usage)
        for choice in answer.choices or ():
            message = choice.message
            text = message.content if message is not None else choice.text
            if text:
                self.delivered_chars += len(text)
            if not self.finish_reason and choice.finish_reason:
                self.finish_reason = choice.finish_reason
        return answer


def read_whole(body: bytes, content_type: str) -> Answer | Refusal:
    """Read a unary answer, or say why it is none."""
    try:
        answer = read_answer(body)
    except NotAnAnswer as error:
        said = content_type.partition(";")[0].strip()[:40]
        return Refusal("malformed", f"the answer ({said or 'no content type'}) is {error}")
    if answer.error or (answer.choices is None and answer.data is None):
        told = error_in(body, answer.error)
        return classify_in_band(told) if told else Refusal("malformed", "the answer is JSON without choices")
    return answer


def has_value(field: object) -> bool:
    """Whether a field that is kept raw was given and is not null."""
    return field is not msgspec.UNSET and bytes(field) != b"null"  # type: ignore[call-overload]
