"""What becomes of a node's frames for an exchange that asked in another dialect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from open_autoglm.backends.node_answer import NodeAnswer
from open_autoglm.dialects.mcp import McpFace
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.protocol.codecs import JSON
from open_autoglm.protocol.opcodes import REASONING
from open_autoglm.protocol.preambles import write_response


class Exchange:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def whole(self, attempt: object, body: bytes, now_s: float) -> None:
        self.told.append(("whole", JSON.decode(body)["payload"]))

    def content(self, attempt: object, payload: bytes, stage: int, now_s: float) -> None:
        self.told.append(("content", JSON.decode(payload.removeprefix(b"data: "))["payload"]))

    def ended(self, attempt: object, payload: bytes, now_s: float) -> None:
        self.told.append(("ended", JSON.decode(payload.removeprefix(b"data: "))["payload"]))

    def failed(
        self,
        attempt: object,
        outcome: str,
        detail: str,
        now_s: float,
        error: AutoGLMError | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        self.told.append((outcome, (error.code if error is not None else "", retry_after_s)))


class Link:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.consumed = 0
        self.cancelled: list[int] = []

    def consume(self, stream: int, size: int) -> None:
        self.consumed += size

    def cancel(self, stream: int) -> None:
        self.cancelled.append(stream)


class Stage:
    """An answer with everything around it."""

    def __init__(self, *, stream: bool = False) -> None:
        face = McpFace()
        view = face.read(b'{"type":"INFER_REQUEST","payload":{"prompt":"hi"}}')
        view.stream = stream
        self.exchange, self.link = Exchange(), Link()
        self.record = RequestRecord("r", 0.0, 1)
        call = SimpleNamespace(
            exchange=self.exchange,
            record=self.record,
            face=face,
            view=view,
            request_id="req-1",
            model="m",
            created_s=0,
        )
        self.attempt = SimpleNamespace(first_s=0.0, head_s=0.0, status=0)
        self.answer = NodeAnswer(cast(Any, self.attempt), cast(Any, call), JSON)
        self.answer.link, self.answer.stream = cast(Any, self.link), 5


def response(finish: str = "stop", **body: Any) -> bytes:
    return write_response(3, 4, finish, 0, "v1", "node") + JSON.encode(body)


def test_a_whole_answer() -> None:
    stage = Stage()
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}, {"id": "d", "name": "g", "arguments": ""}]
    stage.answer.on_response(0, 0, response("tool_calls", text="yes", reasoning="hm", tool_calls=calls))
    [(kind, payload)] = stage.exchange.told
    assert kind == "whole"
    assert (payload["text"], payload["reasoning"], payload["finish_reason"]) == ("yes", "hm", "tool_calls")
    assert [call["name"] for call in payload["tool_calls"]] == ["f", "g"]
    assert (stage.record.prompt_tokens, stage.record.completion_tokens) == (3, 4)
    assert stage.attempt.status == 200


def test_how_likely_tokens_were_is_passed_on() -> None:
    other = {"token": "n", "logprob": -1.5, "bytes": [110]}
    entries = [{"token": "yes", "logprob": -0.25, "bytes": list(b"yes"), "top_logprobs": [other]}]
    stage = Stage()
    stage.answer.on_response(0, 0, response(text="yes", logprobs={"content": entries}))
    assert stage.exchange.told[0][1]["logprobs"] == {"content": entries, "refusal": None}


@pytest.mark.parametrize("told", [[], {"content": 5}, {"content": [{"token": 1}]}, {"content": [3]}])
def test_figures_that_cannot_be_read_are_left_out(told: Any) -> None:
    stage = Stage()
    stage.answer.on_response(0, 0, response(text="yes", logprobs=told))
    [(kind, payload)] = stage.exchange.told
    assert kind == "whole"
    assert "logprobs" not in payload


def test_a_stream_gives_credit_back_unless_its_reader_is_slow() -> None:
    stage = Stage(stream=True)
    stage.answer.on_chunk(REASONING, 0, 0, b"hm")
    stage.answer.on_chunk(0, 0, 1, "é".encode())
    assert stage.link.consumed == 4
    stage.answer.pause()
    stage.answer.on_chunk(0, 0, 2, b"abc")
    assert stage.link.consumed == 4
    stage.answer.resume()
    assert stage.link.consumed == 7
    stage.answer.on_response(0, 3, response())
    assert [kind for kind, _ in stage.exchange.told] == ["content"] * 3 + ["ended"]
    assert stage.exchange.told[-1][1]["text"] == "éabc"
    assert stage.record.delivered_chars == 4


@pytest.mark.parametrize(
    ("status", "code", "outcome", "told"),
    [
        (503, "overloaded", "unavailable", ""),
        (500, "internal_error", "failed", ""),
        (429, "rate_limit_exceeded", "throttled", "rate_limit_exceeded"),
        (401, "invalid_api_key", "misconfigured", ""),
        (400, "invalid_request", "refused", "invalid_request"),
    ],
)
def test_refusals(status: int, code: str, outcome: str, told: str) -> None:
    stage = Stage()
    stage.answer.on_error(status, 0, 1500, JSON.encode({"code": code, "message": "no"}))
    assert stage.exchange.told == [(outcome, (told, 1.5))]


@pytest.mark.parametrize(
    "payload", [b"", b"\0" * 11, response(""), response() + b"x", response(tool_calls=[7]), response(tool_calls=[{}])]
)
def test_what_is_no_answer_is_a_failure(payload: bytes) -> None:
    stage = Stage()
    stage.answer.on_response(0, 0, payload)
    assert [outcome for outcome, _ in stage.exchange.told] == ["malformed"]


def test_half_a_character_is_a_failure() -> None:
    stage = Stage(stream=True)
    stage.answer.on_chunk(0, 0, 0, "é".encode()[:1])
    assert [outcome for outcome, _ in stage.exchange.told] == ["malformed"]
    assert stage.link.cancelled == [5]


def test_a_lost_link_before_and_after_the_first_word() -> None:
    stage = Stage()
    stage.answer.on_lost("gone")
    assert stage.exchange.told == [("connect", ("", None))]
    stage = Stage(stream=True)
    stage.answer.on_chunk(0, 0, 0, b"a")
    stage.answer.on_lost("gone")
    assert stage.exchange.told[-1] == ("malformed", ("", None))


def test_after_its_end_nothing_is_told() -> None:
    stage = Stage(stream=True)
    stage.answer.cancel()
    stage.answer.cancel()
    stage.answer.on_chunk(0, 0, 0, b"a")
    stage.answer.on_response(0, 0, response())
    stage.answer.on_error(500, 0, 0, b"{}")
    stage.answer.on_lost("gone")
    assert stage.exchange.told == []
    assert stage.link.cancelled == [5]
