"""OpenAI's completions: the client's side. Answers follow the object `text_completion` of OpenAI's API reference.

A completion is text only: thinking and tool calls of a model are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from open_autoglm.dialects.canonical import Event, Finish, InferRequest, Kind, TextDelta
from open_autoglm.dialects.chat import DONE, usage_fields
from open_autoglm.dialects.face import RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.openai_view import CompletionView, OpenAIErrors, OpenAIReader

_encode = msgspec.json.encode
_reader = OpenAIReader(CompletionView, "completion")


class CompletionsFace(OpenAIErrors):
    """`POST /v1/completions`; see `Face`."""

    __slots__ = ()
    name: ClassVar[str] = "completions"
    kind: ClassVar[Kind] = "completion"

    def read(self, body: bytes) -> RequestView:
        """See `Face.read`."""
        return _reader.read(body)

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`."""
        return _reader.infer(body)

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> CompletionsEncoder:
        """See `Face.encoder`."""
        return CompletionsEncoder(view, request_id, model, created_s)


class CompletionsEncoder:
    """Writes one completion; see `AnswerEncoder`."""

    __slots__ = ("_head", "_tail", "_tally", "_view")

    def __init__(self, view: RequestView, request_id: str, model: str, created_s: int) -> None:
        self._view = view
        self._tally = Tally()
        head = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created_s, "model": model}
        self._head = _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if view.include_usage else b"]}\n\n"

    def stream(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.stream`."""
        self._tally.add(events)
        pieces = []
        for event in events:
            match event:
                case TextDelta(text, index):
                    choice = _choice_fields(index, text, None)
                case Finish(reason, index):
                    choice = _choice_fields(index, "", reason)
                case _:
                    continue
            pieces.append(b"data: " + self._head + _encode(choice) + self._tail)
        return b"".join(pieces)

    def end(self) -> bytes:
        """The usage, when the client asked for it, and `[DONE]`."""
        if not self._view.include_usage:
            return DONE
        return b"data: " + self._head + b'],"usage":' + self._usage() + b"}\n\n" + DONE

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        self._tally.add(events)
        choices = sorted(Gathering(events).choices.items()) or [(0, Choice())]
        written = [
            _choice_fields(index, "".join(choice.text), choice.finish_reason or "stop") for index, choice in choices
        ]
        return self._head + _encode(written)[1:-1] + b'],"usage":' + self._usage() + b"}"

    def _usage(self) -> bytes:
        return _encode(usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes)))


def _choice_fields(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}
