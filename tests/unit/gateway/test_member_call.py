"""Asking models from inside the server: on the path of every request, and cancelled at once."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from math import log
from typing import Any, cast

import pytest
from msgspec.structs import replace
from tests.unit.exchange.harness import Rig

from open_autoglm import clock
from open_autoglm.admission.settings import SourceSettings
from open_autoglm.backends.backend import ModelCall
from open_autoglm.backends.caller import ModelCaller, Origin, Reply
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.member_call import MemberDesk
from open_autoglm.gateway.snapshot import Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.scheduling.budget import Ledger
from open_autoglm.security.keys import Principal
from open_autoglm.server.dialects import PLAIN_FACE
from open_autoglm.testing.loop import START_S, VirtualLoop

ORIGIN = Origin(trace_id="0af7651916cd43dd8448eb211c80319c", key="somebody", client="10.0.0.1")
ASKED = [Message("user", (TextPart("6 * 7?"),))]


def answer(text: str | None = "42", usage: bool = True, **choice: Any) -> bytes:
    """A chat completion."""
    made: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop", **choice}]}
    if usage:
        made["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
    return json.dumps(made).encode()


class Speaker:
    """A backend that says one thing after some time; its attempts' handle as well."""

    dialect_name = "openai"

    def __init__(self, said: bytes | str, after_s: float = 0.1) -> None:
        self.said = said
        self.after_s = after_s
        self.calls: list[ModelCall] = []
        self.cancelled = 0

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        if self.said == "defect":
            raise ZeroDivisionError
        self.calls.append(call)
        attempt.handle = self
        asyncio.get_running_loop().call_later(self.after_s, self._speak, attempt, call)

    def _speak(self, attempt: Attempt, call: ModelCall) -> None:
        if isinstance(self.said, bytes):
            call.exchange.whole(attempt, self.said, clock.monotonic())
        else:
            call.exchange.failed(attempt, self.said, "it failed", clock.monotonic())

    def cancel(self) -> None:
        self.cancelled += 1


class Stage:
    """A gateway over endpoints that speak; `a,b | c` are two legs of the model `m`."""

    def __init__(self, legs: str, **speakers: Speaker) -> None:
        self.rig = Rig(legs, start=False, at_s=START_S)
        self.speakers = speakers
        for name, speaker in speakers.items():
            self.rig.endpoints[name].extra = speaker
        self.records: list[RequestRecord] = []

    def settle(self, record: RequestRecord) -> None:
        self.records.append(record)

    def run(self, play: Callable[[ModelCaller, Gateway], Any], origin: Origin = ORIGIN) -> Any:
        """Let something be asked, in virtual time."""

        async def scene() -> Any:
            snapshot = Snapshot(
                1, "", {}, {"m": self.rig.plan}, "m", keys=None, anonymous=Principal("anonymous", None, None)
            )
            gateway = Gateway(
                snapshot,
                self,
                asyncio.get_running_loop(),
                PLAIN_FACE,
                ready=str,
                rng=random.Random(1),
                sources=SourceWatch(SourceSettings(), cast(Any, None)),
            )
            gateway.start()
            try:
                return await play(MemberDesk(gateway, random.Random(1)).caller(origin), gateway)
            finally:
                assert not gateway.active
                gateway.stop()

        return VirtualLoop().run(scene())


async def ask(caller: ModelCaller, _: Gateway, **more: Any) -> Reply:
    return await caller.ask("m", ASKED, **{"deadline_s": START_S + 60.0, **more})


def test_a_member_is_asked_as_a_client_would_and_is_a_request_of_its_own() -> None:
    stage = Stage("a", a=Speaker(answer()))
    stage.rig.endpoints["a"].price_in, stage.rig.endpoints["a"].price_out = 1000.0, 3000.0

    async def play(caller: ModelCaller, gateway: Gateway) -> Reply:
        return await ask(caller, gateway, temperature=0.5, seed=3, max_tokens=9, tenant="t", priority=1)

    reply = stage.run(play, replace(ORIGIN, parameters={"top_p": 0.9}, hops=3))
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == ("42", "stop", 100, 10)
    assert (reply.cost, reply.endpoint, reply.confidence) == (pytest.approx(0.13), "a", None)
    [call] = stage.speakers["a"].calls
    assert json.loads(call.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "6 * 7?"}],
        "top_p": 0.9,
        "temperature": 0.5,
        "seed": 3,
        "max_tokens": 9,
    }
    assert (call.exchange.tenant, call.exchange.priority, call.hops) == ("t", 1, 3)
    [record] = stage.records
    assert (record.route, record.model, record.status, record.key) == ("member", "m", 200, "somebody")
    assert (record.trace_id, record.client) == (ORIGIN.trace_id, "10.0.0.1")


def test_failures_are_tried_again_and_fall_back_as_for_a_client() -> None:
    stage = Stage("a | b", a=Speaker("unavailable"), b=Speaker(answer("41")))
    assert stage.run(ask).text == "41"
    assert [attempt.endpoint for attempt in stage.records[0].attempts][-1] == "b"


def test_without_usage_tokens_are_estimated() -> None:
    reply = Stage("a", a=Speaker(answer("x" * 40, usage=False))).run(ask)
    assert (reply.prompt_tokens > 0, reply.completion_tokens) == (True, 10)


def test_confidence_is_the_mean_probability_of_the_tokens() -> None:
    scores = {"content": [{"logprob": log(0.5)}, {"logprob": log(0.25)}, {"logprob": None}, {"logprob": 3.0}]}
    assert Stage("a", a=Speaker(answer(logprobs=scores))).run(ask).confidence == pytest.approx((0.5 + 0.25 + 1) / 3)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices": []}', b'{"choices": 3}'])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        Stage("a", a=Speaker(body)).run(ask)


def test_an_answer_without_text_is_empty() -> None:
    assert Stage("a", a=Speaker(answer(None))).run(ask).text == ""


def test_errors_are_those_that_a_client_would_hear() -> None:
    stage = Stage("a", a=Speaker("refused"))
    with pytest.raises(UpstreamError) as caught:
        stage.run(ask)
    assert caught.value.code == "invalid_request"
    assert stage.records[0].code == "invalid_request"
    with pytest.raises(RequestError) as unknown:
        stage.run(lambda caller, _: caller.ask("nobody", ASKED, deadline_s=START_S + 60.0))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(ServerError) as crashed:
        Stage("a", a=Speaker("defect")).run(ask)
    assert crashed.value.code == "internal_error"


def test_a_deadline_ends_it_and_the_attempt() -> None:
    stage = Stage("a", a=Speaker(answer(), after_s=30.0))
    with pytest.raises(AutoGLMError) as caught:
        stage.run(lambda caller, gateway: ask(caller, gateway, deadline_s=START_S + 1.0))
    assert caught.value.code == "deadline_exceeded"
    assert stage.speakers["a"].cancelled == 1


def test_a_coroutine_that_is_cancelled_has_its_attempt_cancelled_before_it_ends() -> None:
    stage = Stage("a", a=Speaker(answer(), after_s=30.0))

    async def play(caller: ModelCaller, gateway: Gateway) -> None:
        task = asyncio.ensure_future(ask(caller, gateway))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.speakers["a"].cancelled == 1
        await asyncio.sleep(60.0)

    stage.run(play)
    [record] = stage.records
    assert (record.status, record.code) == (499, "client_closed")
    assert [attempt.outcome for attempt in record.attempts] == ["cancelled"]
    assert stage.rig.endpoints["a"].in_flight == 0


def test_a_gateway_that_stops_ends_its_own_questions_too() -> None:
    stage = Stage("a", a=Speaker(answer(), after_s=30.0))

    async def play(caller: ModelCaller, gateway: Gateway) -> None:
        task = asyncio.ensure_future(ask(caller, gateway))
        await asyncio.sleep(1.0)
        gateway.stop()
        with pytest.raises(asyncio.CancelledError):
            await task

    stage.run(play)
    assert stage.speakers["a"].cancelled == 1


@pytest.mark.parametrize(
    ("dialect", "ledger", "cost", "drawn"),
    [
        ("openai", Ledger(), 0.13, False),
        ("cooperation", Ledger(), 0.5, True),
        ("cooperation", None, 0.5, False),
    ],
)
def test_a_team_is_given_the_ledger_that_pays_and_its_answer_says_so(
    dialect: str, ledger: Ledger | None, cost: float, drawn: bool
) -> None:
    said = json.loads(answer())
    said["usage"]["cost"] = 0.5
    stage = Stage("a", a=Speaker(json.dumps(said).encode()))
    stage.speakers["a"].dialect_name = dialect
    stage.rig.endpoints["a"].price_in, stage.rig.endpoints["a"].price_out = 1000.0, 3000.0
    reply = stage.run(ask, replace(ORIGIN, ledger=ledger))
    assert (reply.cost, reply.drawn) == (pytest.approx(cost), drawn)
    assert stage.speakers["a"].calls[0].ledger is ledger
