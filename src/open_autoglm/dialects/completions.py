"""OpenAI's completions: the client's side. Answers follow the object `text_completion` of OpenAI's API reference.

A completion is text only: thinking and tool calls of a model are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import msgspec

from open_autoglm.dialects.canonical import Event, Finish, InferRequest, Kind, Notice, TextDelta
from open_autoglm.dialects.chat import (
    DONE,
    failover_field,
    fingerprint_field,
    notice_event,
    resumed_head,
    usage_fields,
)
from open_autoglm.dialects.face import Failover, RequestView
from open_autoglm.dialects.gathering import Choice, Gathering, Tally
from open_autoglm.dialects.openai_reader import OpenAIReader
from open_autoglm.dialects.openai_view import CompletionView, OpenAIErrors

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

    __slots__ = ("_failover", "_head", "_tail", "_tally", "_view")

    def __init__(self, view: RequestView, request_id: str, model: str, created_s: int) -> None:
        self._view = view
        self._tally = Tally()
        head = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created_s, "model": model}
        self._head = _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if view.include_usage else b"]}\n\n"
        self._failover = b""

    @classmethod
    def resumed(cls, view: RequestView, event: bytes) -> Self:
        """See `ChatEncoder.resumed`."""
        encoder = cls(view, "", "", 0)
        encoder._head = resumed_head(event)
        return encoder

    def stream(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.stream`."""
        self._tally.add(events)
        pieces = []
        for event in events:
            tail = self._tail
            match event:
                case TextDelta(text, index):
                    choice = _choice_fields(index, text, None)
                case Finish(reason, index, version=version):
                    choice = _choice_fields(index, "", reason)
                    tail = b"]" + self._failover + fingerprint_field(version) + tail[1:]
                case Notice():
                    pieces.append(notice_event(event))
                    continue
                case _:
                    continue
            pieces.append(b"data: " + self._head + _encode(choice) + tail)
        return b"".join(pieces)

    def end(self) -> bytes:
        """The usage, when the client asked for it, and `[DONE]`."""
        if not self._view.include_usage:
            return DONE
        return b"data: " + self._head + b'],"usage":' + self._usage() + self._failover + b"}\n\n" + DONE

    def failed_over(self, failover: Failover) -> None:
        """See `ChatEncoder.failed_over`."""
        self._failover = failover_field(failover)

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        self._tally.add(events)
        gathering = Gathering(events)
        choices = sorted(gathering.choices.items()) or [(0, Choice())]
        written = [
            _choice_fields(index, "".join(choice.text), choice.finish_reason or "stop") for index, choice in choices
        ]
        fingerprint = fingerprint_field(gathering.version)
        return self._head + _encode(written)[1:-1] + b'],"usage":' + self._usage() + fingerprint + b"}"

    def _usage(self) -> bytes:
        return _encode(usage_fields(self._tally.usage_or_estimate(self._view.prompt_bytes)))


def _choice_fields(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}
