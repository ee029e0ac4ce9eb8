"""Hearing a model while it writes: each piece at once, whole at the end, and its bill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.gateway.test_member_call import ASKED, ORIGIN, Stage

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall
from open_autoglm.backends.caller import Reply
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.testing.loop import START_S


def chunk(text: str, **more: Any) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


USAGE = (
    b'data: {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10, "cost": 0.5}}\n\ndata: [DONE]\n\n'
)


class Streamer:
    """A backend that writes one payload each tenth of a second; `None` ends the answer, a text breaks it."""

    dialect_name = "openai"

    def __init__(self, *payloads: bytes | str | None) -> None:
        self.payloads = list(payloads)
        self.calls: list[ModelCall] = []
        self.cancelled = 0

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        self.calls.append(call)
        attempt.handle = self
        self._later(attempt, call)

    def _later(self, attempt: Attempt, call: ModelCall) -> None:
        asyncio.get_running_loop().call_later(0.1, self._write, attempt, call)

    def _write(self, attempt: Attempt, call: ModelCall) -> None:
        if self.cancelled:
            return
        payload = self.payloads.pop(0)
        if payload is None:
            call.exchange.ended(attempt, b"", clock.monotonic())
        elif isinstance(payload, str):
            call.exchange.failed(attempt, payload, "it broke off", clock.monotonic())
        else:
            attempt.head_s = attempt.head_s or clock.monotonic()
            call.exchange.content(attempt, payload, 2, clock.monotonic())
            self._later(attempt, call)

    def cancel(self) -> None:
        self.cancelled += 1

    def finish(self) -> bytes:
        self.cancelled += 1
        return b""


def heard(*payloads: bytes | str | None) -> tuple[Stage, list[tuple[float, str]], Callable[..., Reply]]:
    """A stage whose model writes this, what is heard of it and when, and what asks it."""
    stage = Stage("a", a=Streamer(*payloads))  # type: ignore[arg-type]
    pieces: list[tuple[float, str]] = []

    def hear(piece: str) -> None:
        pieces.append((round(clock.monotonic() - START_S, 3), piece))

    async def play(caller: Any, _: Any) -> Reply:
        reply: Reply = await caller.ask_streamed("m", ASKED, hear, deadline_s=START_S + 60.0, max_tokens=7)
        return reply

    return stage, pieces, lambda: stage.run(play, ORIGIN)


def test_each_piece_is_heard_at_once_and_the_reply_is_all_of_them() -> None:
    whole = chunk("né")
    stage, pieces, ask = heard(whole[:-9], whole[-9:] + chunk("4"), chunk("2", finish_reason="length"), USAGE, None)
    reply = ask()
    assert pieces == [(0.2, "né4"), (0.3, "2")]
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (
        "né42",
        "length",
        100,
        10,
    )
    [call] = stage.speakers["a"].calls
    body = json.loads(call.body)
    assert (body["stream"], body["stream_options"], body["max_tokens"]) == (True, {"include_usage": True}, 7)
    [record] = stage.records
    assert (record.route, record.status) == ("member", 200)


def test_the_bill_of_a_virtual_model_is_its_own() -> None:
    stage, _, ask = heard(chunk("x"), USAGE, None)
    stage.speakers["a"].dialect_name = "cooperation"
    assert ask().cost == 0.5


def test_without_usage_tokens_are_estimated() -> None:
    _, _, ask = heard(chunk("12345678"), None)
    assert ask().completion_tokens == 2


def test_a_stream_that_breaks_off_is_an_error_after_what_was_heard() -> None:
    stage, pieces, ask = heard(chunk("4"), "broken")
    with pytest.raises(AutoGLMError):
        ask()
    assert [piece for _, piece in pieces] == ["4"]
    assert stage.records[0].code


def test_a_stream_of_something_else_is_an_error() -> None:
    _, _, ask = heard(b"data: [1]\n\n", None)
    with pytest.raises(AutoGLMError, match="no chat completion"):
        ask()


def test_who_no_longer_listens_ends_it() -> None:
    stage = Stage("a", a=Streamer(chunk("1"), chunk("2"), chunk("3"), None))  # type: ignore[arg-type]
    pieces: list[str] = []

    async def play(caller: Any, _: Any) -> None:
        asking = asyncio.ensure_future(caller.ask_streamed("m", ASKED, pieces.append, deadline_s=START_S + 60.0))
        await asyncio.sleep(0.25)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

    stage.run(play)
    assert (pieces, stage.speakers["a"].cancelled) == (["1", "2"], 1)
    assert [record.status for record in stage.records] == [499]
