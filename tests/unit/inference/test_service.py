"""The framed service of a node: answers, refusals, cancels, commands, loads, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.engines.counting_model import CountingModel, expected
from tests.unit.inference.wired import Wired, greeting

from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Usage
from open_autoglm.errors import ServerError
from open_autoglm.inference.request_body import BodyReader
from open_autoglm.inference.service import LONG_BYTES, READING_MAX
from open_autoglm.protocol.codecs import JSON
from open_autoglm.protocol.opcodes import LOAD, NODE_COMMAND, NODE_RESULT, STREAM, TENSORS
from open_autoglm.secret import Secret

PROMPT = "3 1"


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@pytest.fixture
async def wired() -> AsyncIterator[Wired]:
    """An engine in a thread, and one that answers at once."""
    engine = Engine(CountingModel("1"), slots=2, queue_max=3)
    engine.start()
    yield Wired({"count": engine, "echo": EchoEngine()})
    await asyncio.to_thread(engine.close)


async def test_an_answer_in_one_piece(wired: Wired) -> None:
    stream = wired.ask("count", {"prompt": PROMPT, "max_tokens": 8})
    await wired.until_ended(stream)
    preamble, body = wired.heard.answers[stream]
    assert numbers(body["text"]) == expected((3, 1), 8, Usage(2, 8, "1"))
    assert (preamble.prompt_tokens, preamble.completion_tokens, preamble.finish) == (2, 8, "length")
    assert (preamble.version, preamble.model, preamble.attempts) == ("1", "count", 1)
    assert stream not in wired.heard.texts


@pytest.mark.parametrize("flags", [0, STREAM])
async def test_how_likely_the_tokens_were(flags: int) -> None:
    engine = Engine(catalog.open_model("glm-calc-s"))
    engine.start()
    wired = Wired({"sums": engine})
    stream = wired.ask("sums", {"prompt": "12 + 30", "logprobs": True, "top_logprobs": 1}, flags)
    await wired.until_ended(stream)
    await asyncio.to_thread(engine.close)
    preamble, body = wired.heard.answers[stream]
    content = body["logprobs"]["content"]
    assert len(content) == preamble.completion_tokens - 1
    assert (content[-1]["token"], content[-1]["bytes"]) == ("2", [50])
    assert content[-1]["top_logprobs"] == [{"token": "2", "logprob": content[-1]["logprob"], "bytes": [50]}]
    assert content[-1]["logprob"] <= 0.0


async def test_an_answer_in_chunks(wired: Wired) -> None:
    stream = wired.ask("count", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}, STREAM)
    await wired.until_ended(stream)
    assert numbers(wired.heard.texts[stream]) == expected((3, 1), 8, Usage(2, 8, "1"))
    assert wired.heard.answers[stream][1] == {}


async def test_an_engine_without_a_thread_answers_in_the_same_turn(wired: Wired) -> None:
    streams = [wired.ask("echo", {"prompt": f"say {n}"}, flags) for n, flags in enumerate((0, STREAM))]
    assert wired.heard.answers[streams[0]][1] == {"text": "say 0"}
    assert wired.heard.texts == {streams[1]: "say 1"}
    assert wired.service.in_flight == 0


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_every_codec_is_understood(codec: str) -> None:
    wired = Wired({"echo": EchoEngine()}, hello=greeting(codec))
    stream = wired.ask("", {"data_chunk": "三", "temperature": 0.5, "n": 1, "user": None})
    assert wired.heard.answers[stream][1] == {"text": "三"}


async def test_spans_of_versions_are_told(wired: Wired) -> None:
    engine = wired.models["count"].engine
    blocker = wired.ask("count", {"prompt": "1", "max_tokens": 60, "stop": []})
    stream = wired.ask("count", {"prompt": PROMPT, "max_tokens": 60})
    engine.publish(CountingModel("2"), "follow")
    await wired.until_ended(blocker, stream)
    for preamble, body in (wired.heard.answers[stream], wired.heard.answers[blocker]):
        spans = body.get("x_mcp_versions", [[preamble.version, 0, preamble.completion_tokens]])
        assert [spans[0][1], spans[-1][2]] == [0, preamble.completion_tokens]
        assert {version for version, _, _ in spans} <= {"1", "2"}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "prompt"),
        ({"prompt": "1", "messages": []}, "invalid_request", "prompt"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"prompt": 1}, "invalid_request", None),
        ({"prompt": "1", "n": 2}, "unsupported_parameter", "n"),
        ({"prompt": "1", "logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"prompt": "1", "top_logprobs": 2}, "invalid_request", "top_logprobs"),
        ({"prompt": "1", "tool_choice": "required"}, "unsupported_parameter", "tool_choice"),
        ({"prompt": "1", "strange": 5}, "unsupported_parameter", "strange"),
        ({"prompt": " ".join("1" * 80)}, "context_length_exceeded", None),
        ({"prompt": "no number"}, "internal_error", None),
    ],
)
async def test_what_cannot_be_served_is_refused_with_the_field(
    wired: Wired, body: dict[str, Any], code: str, param: str | None
) -> None:
    stream = wired.ask("count", body)
    error = wired.heard.errors[stream]
    assert error.code == code
    assert error.details.get("param") == param
    assert wired.service.in_flight == 0
    assert wired.heard.closed is None


async def test_an_unknown_model_is_named_with_those_that_are_here(wired: Wired) -> None:
    stream = wired.ask("cuont", {"prompt": "1"})
    assert wired.heard.errors[stream].code == "model_not_found"
    assert wired.heard.errors[stream].message == "this node has no model 'cuont'; it has: count, echo"


async def test_a_long_request_is_read_off_the_loop(wired: Wired) -> None:
    padding = [{"role": "system", "content": "x" * LONG_BYTES}]
    streams = [
        wired.ask("count", {"messages": [*padding, {"role": "user", "content": prompt}], "max_tokens": 8}, STREAM)
        for prompt in (PROMPT, "no number", " ".join("1" * 80))
    ]
    assert wired.service.in_flight == 3
    await wired.until_ended(*streams)
    assert numbers(wired.heard.texts[streams[0]]) == expected((3, 1), 8, Usage(2, 8, "1"))
    assert [wired.heard.errors[stream].code for stream in streams[1:]] == ["internal_error", "context_length_exceeded"]
    assert wired.service.in_flight == 0


async def test_a_long_request_that_is_cancelled_while_it_is_read_leaves_the_engine() -> None:
    engine = Engine(CountingModel("1"))
    wired = Wired({"count": engine})
    body = {"messages": [{"role": "system", "content": "x" * LONG_BYTES}, {"role": "user", "content": PROMPT}]}
    stream = wired.ask("count", body, STREAM)
    wired.client.cancel(stream)
    wired.turn()
    seen = False
    async with asyncio.timeout(20):
        while not seen or engine.load().queued:
            await asyncio.sleep(0.001)
            seen = seen or engine.load().queued == 1
            if seen:
                engine.turn()
    assert engine.load().running == 0
    assert stream not in wired.heard.texts


async def test_too_many_long_requests_are_turned_away() -> None:
    engine = Engine(CountingModel("1"), queue_max=256)
    wired = Wired({"count": engine})
    body = {"messages": [{"role": "system", "content": "x" * LONG_BYTES}, {"role": "user", "content": PROMPT}]}
    streams = [wired.ask("count", body) for _ in range(READING_MAX + 1)]
    assert wired.heard.errors[streams[-1]].code == "overloaded"
    async with asyncio.timeout(20):
        while wired.service.in_flight:
            engine.turn()
            await asyncio.sleep(0.001)
    assert wired.models["count"].answered == READING_MAX


async def test_a_request_whose_tensors_never_came_is_refused(wired: Wired) -> None:
    stream = wired.ask("echo", {"prompt": "1"}, TENSORS)
    assert wired.heard.errors[stream].code == "invalid_request"


async def test_a_deadline_travels_to_the_engine(wired: Wired) -> None:
    engine = Engine(CountingModel("1"))  # not started: nothing ends but by its own time
    late = Wired({"count": engine})
    stream = late.ask("count", {"prompt": "1"}, remaining_ms=1)
    await asyncio.sleep(0.005)
    engine.turn()
    await late.until_ended(stream)
    assert late.heard.errors[stream].code == "deadline_exceeded"
    assert late.heard.errors[stream].retryable


async def test_a_cancelled_stream_frees_its_slot_and_hears_nothing() -> None:
    engine = Engine(CountingModel("1"), slots=1)
    wired = Wired({"count": engine})
    stream = wired.ask("count", {"prompt": "1"}, STREAM)
    engine.turn()
    wired.client.cancel(stream)
    wired.turn()
    engine.turn()
    await asyncio.sleep(0)
    wired.turn()
    assert engine.load().running == 0
    assert stream not in wired.heard.answers
    assert (wired.service.in_flight, wired.models["count"].cancelled) == (0, 1)


async def test_a_lost_connection_cancels_everything_on_it() -> None:
    engine = Engine(CountingModel("1"), slots=1)
    wired = Wired({"count": engine})
    for _ in range(3):
        wired.ask("count", {"prompt": "1"})
    wired.server.lose(0.0)
    engine.turn()
    load = engine.load()
    assert (load.running, load.queued, wired.service.in_flight, wired.service.connections) == (0, 0, 0, 0)


async def test_a_full_queue_is_overloaded_with_a_time_to_come_back() -> None:
    engine = Engine(CountingModel("1"), queue_max=1)
    wired = Wired({"count": engine})
    wired.ask("count", {"prompt": "1"})
    stream = wired.ask("count", {"prompt": "1"})
    error = wired.heard.errors[stream]
    assert (error.code, error.retryable, error.retry_after_ms) == ("overloaded", True, 1000)


@pytest.mark.parametrize(("key", "let_in"), [("right-key", True), ("other-key", True), ("wrong", False), (None, False)])
async def test_who_shows_no_key_of_the_cluster_is_turned_away(key: str | None, let_in: bool) -> None:
    keys = (Secret("right-key"), Secret("other-key"))
    wired = Wired({"echo": EchoEngine()}, keys, greeting(key=key))
    assert (wired.heard.welcome is not None) == let_in
    assert (wired.heard.closed is None) == let_in
    if not let_in:
        assert wired.heard.closed == ("invalid_api_key", "this is not the cluster's key")


async def test_loads_reach_every_peer_and_new_ones_get_the_last(wired: Wired) -> None:
    wired.service.tell_load(b"x" * 32)
    wired.turn()
    assert wired.heard.others == [(LOAD, 0, b"x" * 32)]


async def test_commands_are_answered_or_refused(wired: Wired) -> None:
    def answer(fields: dict[str, Any], reply: Any) -> None:
        reply({"said": fields["what"]} if "what" in fields else ServerError("not_implemented", "no"))

    wired.service.commands["say"] = answer
    streams = [
        wired.client.open(NODE_COMMAND, wired.client.codec.encode(fields))
        for fields in ({"command": "say", "what": 5}, {"command": "say"}, {"command": "sing"})
    ]
    wired.turn()
    opcode, stream, payload = wired.heard.others[0]
    assert (opcode, stream, wired.client.codec.decode(payload)) == (NODE_RESULT, streams[0], {"said": 5})
    assert wired.heard.errors[streams[1]].code == "not_implemented"
    assert "no command 'sing'" in wired.heard.errors[streams[2]].message


async def test_a_draining_node_takes_nothing_new_and_finishes_what_runs() -> None:
    engine = Engine(CountingModel("1"))
    wired = Wired({"count": engine})
    stream = wired.ask("count", {"prompt": PROMPT, "max_tokens": 4})
    wired.service.drain(10.0)
    wired.turn()
    assert wired.heard.drained
    assert wired.client.request(b"") == 0
    while engine.load().running or engine.load().queued:
        engine.turn()
    await wired.until_ended(stream)
    assert stream in wired.heard.answers


async def test_outcomes_are_counted(wired: Wired) -> None:
    wired.ask("echo", {"prompt": "two words"})
    wired.ask("echo", {"messages": [{"role": "user", "content": 5}]})
    model = wired.models["echo"]
    assert model.outcomes() == {("200", ""): 1, ("400", "invalid_request"): 1}
    assert (model.prompt_tokens, model.completion_tokens) == (2, 2)


def test_a_body_becomes_a_request() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    data = JSON.encode({"prompt": "1", "max_completion_tokens": 3, "stop": ["a", "b"], "seed": 4, "tools": tools})
    request = BodyReader("json").read(data, 5.0, False, "")
    assert (request.max_tokens, request.stop, request.seed, request.tools) == (3, ("a", "b"), 4, tools)
    assert (request.temperature, request.top_p, request.deadline_s, request.stream) == (0.0, 1.0, 5.0, False)
    none = JSON.encode({"prompt": "1", "tools": tools, "tool_choice": "none"})
    assert BodyReader("json").read(none, None, True, "").tools is None
