"""Reads the answers of OpenAI's dialect as events, for clients that speak another one."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from open_autoglm.dialects.canonical import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from open_autoglm.dialects.openai_chunk import CALL_PIECES, AnswerChoice, CallFunction, ChunkChoice, Delta
from open_autoglm.dialects.openai_reading import OpenAIReading, has_value
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.sse import ServerEvent


class OpenAIDecoder(OpenAIReading):
    """See `Decoder`. The usage comes last, from `end`."""

    __slots__ = ()

    def __init__(self, *, choices: int = 1) -> None:
        super().__init__(choices=choices, structured=False)

    def feed(self, payload: bytes) -> list[Event]:
        """See `Decoder.feed`."""
        if self._over:
            return []
        events = self._events(self._cut_events(payload))
        self._check_reader()
        return events

    def end(self) -> list[Event]:
        """See `Decoder.end`."""
        events = [] if self._over else self._events(self._last_events())
        self._close()
        return events + self._usage_events() if self.failure is None else events

    def whole(self, body: bytes, content_type: str) -> list[Event]:
        """See `Decoder.whole`."""
        answer = self._read_whole(body, content_type)
        if answer is None:
            return []
        if not answer.choices:
            self.failure = Refusal("malformed", "the answer is JSON without choices")
            return []
        events = [event for choice in answer.choices for event in self._of_choice(choice, choice.message)]
        return events + self._usage_events() if self.failure is None else []

    def _events(self, read: list[ServerEvent]) -> list[Event]:
        events: list[Event] = []
        for name, data in read:
            chunk = self._read(name, data)
            if chunk is None:
                break
            for choice in chunk.choices or ():
                events += self._of_choice(choice, choice.delta)
        return events

    def _of_choice(self, choice: ChunkChoice | AnswerChoice, delta: Delta | None) -> Iterator[Event]:
        index = choice.index
        if delta is not None:
            reasoning = delta.reasoning_content or delta.reasoning
            if reasoning:
                yield ReasoningDelta(reasoning, index)
            text = delta.content or delta.refusal
            if text:
                yield TextDelta(text, index)
            yield from self._of_calls(delta, index)
        elif choice.text:
            yield TextDelta(choice.text, index)
        if choice.finish_reason or isinstance(choice, AnswerChoice):
            yield Finish(choice.finish_reason or "stop", index)

    def _of_calls(self, delta: Delta, index: int) -> Iterator[Event]:
        for number, raw in enumerate(delta.tool_calls or ()):
            try:
                call = CALL_PIECES.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self._fail(Refusal("malformed", "the answer holds a tool call of an unknown form"))
                return
            function = call.function or CallFunction()
            place = number if call.index is None else call.index
            yield ToolCallDelta(place, call.id or "", function.name or "", function.arguments or "", index)

    def _usage_events(self) -> list[Event]:
        usage = self._usage
        if usage is None or usage.prompt_tokens is None:
            return []
        details = {
            name: raw
            for name in ("prompt_tokens_details", "completion_tokens_details")
            if has_value(raw := getattr(usage, name))
        }
        return [Usage(max(0, usage.prompt_tokens), max(0, usage.completion_tokens or 0), details=details or None)]
