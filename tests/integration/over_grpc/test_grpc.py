"""gRPC through a server process: answers, streams, and every rule of the request path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.framed.scripted_node import CHUNK, ScriptedNode
from tests.integration.framed.test_framed import linked, serving, until
from tests.integration.over_grpc.caller import AS_OURSELVES, CLASSES, Caller, codec, port_of, request
from tests.integration.running import RunningServer, model, speaking_upstream
from tests.integration.speech import DONE, TEXT, TEXT_PIECES, delta, finish
from tests.integration.upstreams import Station, Upstream, never, pieces, status

from open_autoglm.protocol.grpc_messages import SERVICE

GRPC = {"grpc_port": 0}
Status = grpc.StatusCode


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with speaking_upstream() as upstream:
        yield upstream


@pytest.fixture
def station(upstream: Upstream) -> Station:
    return upstream.station()


@pytest.fixture
async def server(tmp_path: Path, station: Station) -> AsyncIterator[RunningServer]:
    async with serving(tmp_path, {"models": [model("m", station.url)], "server": GRPC}) as server:
        yield server
        assert "Traceback" not in server.log()


@pytest.fixture
async def caller(server: RunningServer) -> AsyncIterator[Caller]:
    async with Caller(f"127.0.0.1:{port_of(server)}") as caller:
        yield caller


async def test_one_answer(caller: Caller, station: Station) -> None:
    call = caller.infer(request("你好，世界", trace_id=bytes(range(16))), metadata=AS_OURSELVES)
    answer = await call
    assert codec.decode(answer.body) == {"text": TEXT}
    assert (answer.finish, answer.attempts, answer.model) == ("stop", 1, "m")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 5)
    assert station.seen[0].json["messages"] == [{"role": "user", "content": "你好，世界"}]
    said = dict(await call.trailing_metadata())
    assert said["x-mcp-model"] == "m"
    assert said["x-request-id"]
    assert station.seen[0].headers["traceparent"].split("-")[1] == bytes(range(16)).hex()


async def test_a_stream(caller: Caller) -> None:
    parts = [part async for part in caller.stream("你好")]
    chunks, last = [part.chunk for part in parts[:-1]], parts[-1]
    assert [chunk.text for chunk in chunks] == list(TEXT_PIECES)
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert last.WhichOneof("part") == "response"
    assert (last.response.chunks, last.response.finish) == (len(chunks), "stop")
    assert codec.decode(last.response.body).get("text") is None


async def test_many_at_once_on_one_channel(caller: Caller) -> None:
    answers = await asyncio.gather(*(caller.ask(f"number {number}") for number in range(200)))
    assert {codec.decode(answer.body)["text"] for answer in answers} == {TEXT}


async def test_figures_and_records(server: RunningServer, caller: Caller) -> None:
    for _ in range(3):
        await caller.ask()
    figures = await asyncio.to_thread(server.admin_get, "/metrics")
    assert f'route="/{SERVICE}",model="m",status="200",code=""}} 3' in figures


async def test_a_deadline_ends_the_request_and_frees_the_upstream(caller: Caller, station: Station) -> None:
    station.always(never)
    refusal = await caller.refusal(caller.ask(timeout_s=0.5))
    assert refusal.status == Status.DEADLINE_EXCEEDED
    assert await asyncio.to_thread(station.wait_gone) > 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_stops_the_upstream(caller: Caller, station: Station, streamed: bool) -> None:
    station.always(pieces(delta("one"), end="stall") if streamed else never)
    if streamed:
        call = caller.stream()
        first = await anext(aiter(call))
        assert first.chunk.text == "one"
    else:
        call = caller.infer(request("hi"), metadata=AS_OURSELVES)
        await asyncio.to_thread(station.wait_seen)
    call.cancel()
    assert await asyncio.to_thread(station.wait_gone) > 0


@pytest.mark.parametrize(
    ("metadata", "wrong"),
    [
        ((), Status.UNAUTHENTICATED),
        ((("authorization", "Bearer wrong"),), Status.UNAUTHENTICATED),
        ((("authorization", "Basic eDp5"),), Status.UNAUTHENTICATED),
        ((("x-api-key", "wrong"),), Status.UNAUTHENTICATED),
        ((*AS_OURSELVES, *AS_OURSELVES), Status.INVALID_ARGUMENT),
    ],
)
async def test_who_shows_no_valid_key_is_refused(
    caller: Caller, station: Station, metadata: tuple[tuple[str, str], ...], wrong: grpc.StatusCode
) -> None:
    for call in (caller.ask(metadata=metadata), caller.stream(metadata=metadata)):
        refusal = await caller.refusal(call)
        assert refusal.status == wrong
        assert refusal.code == ("invalid_api_key" if wrong == Status.UNAUTHENTICATED else "invalid_request")
    assert not station.seen


async def test_a_key_in_its_other_place(caller: Caller) -> None:
    key = AS_OURSELVES[0][1].removeprefix("Bearer ")
    assert (await caller.ask(metadata=(("x-api-key", key),))).finish == "stop"


@pytest.mark.parametrize(
    ("more", "code", "wrong"),
    [
        ({"model": "nobody"}, "model_not_found", Status.NOT_FOUND),
        ({"priority": 4}, "invalid_request", Status.INVALID_ARGUMENT),
        ({"priority": 255}, "invalid_request", Status.INVALID_ARGUMENT),
        ({"trace_id": b"short"}, "invalid_request", Status.INVALID_ARGUMENT),
        ({"model": "x" * 300}, "invalid_request", Status.INVALID_ARGUMENT),
        ({"body": {"model": "m"}}, "invalid_request", Status.INVALID_ARGUMENT),
        ({"body": {"stop": ["x"] * 1000}}, "invalid_request", Status.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_served(caller: Caller, more: dict[str, Any], code: str, wrong: grpc.StatusCode) -> None:
    refusal = await caller.refusal(caller.ask(**more))
    assert (refusal.status, refusal.code) == (wrong, code)
    assert refusal.metadata["x-request-id"]
    assert refusal.metadata["mcp-retryable"] == "false"


async def test_bytes_that_are_no_message(caller: Caller) -> None:
    raw = caller.channel.unary_unary(f"/{SERVICE}/Infer")
    refusal = await caller.refusal(raw(b"\xff\xff\xff", metadata=AS_OURSELVES))
    assert (refusal.status, refusal.code) == (Status.INVALID_ARGUMENT, "invalid_request")
    refusal = await caller.refusal(caller.channel.unary_unary(f"/{SERVICE}/Other")(b"", metadata=AS_OURSELVES))
    assert refusal.status == Status.UNIMPLEMENTED


async def test_what_is_too_long_or_compressed_is_refused(tmp_path: Path, station: Station) -> None:
    config = {"models": [model("m", station.url)], "server": GRPC, "limits": {"wire": {"body_bytes": 100_000}}}
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        refusal = await caller.refusal(caller.ask("x" * 200_000))
        assert refusal.status == Status.RESOURCE_EXHAUSTED
        call = caller.infer(request("x" * 90_000), metadata=AS_OURSELVES, compression=grpc.Compression.Gzip)
        refusal = await caller.refusal(call)
        assert refusal.status == Status.UNIMPLEMENTED
        assert (await caller.ask("x" * 90_000)).finish == "stop"


async def test_limits_of_a_key(tmp_path: Path, station: Station) -> None:
    config = {
        "models": [model("m", station.url)],
        "server": GRPC,
        "limits": {"requests_per_second": 1, "burst": 2},
    }
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        for _ in range(2):
            await caller.ask()
        refusal = await caller.refusal(caller.ask())
        assert (refusal.status, refusal.code) == (Status.RESOURCE_EXHAUSTED, "rate_limit_exceeded")
        assert refusal.metadata["mcp-retryable"] == "true"
        assert int(refusal.metadata["retry-after"]) >= 1
        assert int(refusal.metadata["mcp-retry-after-ms"]) > 0


async def test_a_second_attempt(tmp_path: Path, upstream: Upstream) -> None:
    bad, good = upstream.station().always(status(503)), upstream.station()
    config = {"models": [model("m", bad.url), model("m", good.url)], "server": GRPC}
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        answers = [await caller.ask() for _ in range(4)]
        assert {codec.decode(answer.body)["text"] for answer in answers} == {TEXT}
        assert max(answer.attempts for answer in answers) == 2
    asked = len(bad.seen)
    config = {"models": [model("m", bad.url)], "server": GRPC}
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        refusal = await caller.refusal(caller.ask(no_retry=True))
        assert (refusal.status, refusal.metadata["x-mcp-attempts"]) == (Status.UNAVAILABLE, "1")
        assert len(bad.seen) == asked + 1


async def test_a_stream_that_breaks_ends_with_an_error(caller: Caller, station: Station) -> None:
    station.always(pieces(delta("one"), end="reset"))
    call = caller.stream()
    assert (await anext(aiter(call))).chunk.text == "one"
    refusal = await caller.refusal(call)
    assert (refusal.status, refusal.code) == (Status.UNAVAILABLE, "stream_interrupted")


async def test_a_slow_reader_stops_the_upstream_and_loses_nothing(caller: Caller, station: Station) -> None:
    piece = "中" * 2000
    count = 8000
    station.always(pieces(*[delta(piece)] * count, finish(), DONE))
    call = caller.stream(timeout_s=60.0)
    first = await anext(aiter(call))
    await asyncio.sleep(1.0)
    sent_bytes = station.seen[0].sent_bytes
    assert sent_bytes < count * len(piece) * 3 / 2
    text = first.chunk.text + "".join([part.chunk.text async for part in call])
    assert text == piece * count


async def test_a_server_that_stops_finishes_what_is_begun(tmp_path: Path, station: Station) -> None:
    station.always(pieces(*[delta(str(number)) for number in range(10)], finish(), DONE, pause_s=0.1))
    config = {"models": [model("m", station.url)], "server": GRPC}
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        call = caller.stream()
        text = (await anext(aiter(call))).chunk.text
        server.process.terminate()
        text += "".join([part.chunk.text async for part in call])
        assert text == "0123456789"
        refusal = await caller.refusal(caller.ask(timeout_s=2.0))
        assert refusal.status == Status.UNAVAILABLE
        await until(lambda: server.process.poll() is not None)
        assert "Traceback" not in server.log()


async def test_what_does_not_end_in_time_is_told_so(tmp_path: Path, station: Station) -> None:
    station.always(pieces(delta("one"), end="stall"))
    drain = {"accept": 0, "unary": 0.3, "stream": 0.6}
    config = {"models": [model("m", station.url)], "server": GRPC, "drain": drain}
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        stream, unary = caller.stream(), caller.infer(request("hi"), metadata=AS_OURSELVES)
        assert (await anext(aiter(stream))).chunk.text == "one"
        await asyncio.to_thread(station.wait_seen, 2)
        server.process.terminate()
        for call in (unary, stream):
            refusal = await caller.refusal(call)
            assert (refusal.status, refusal.code) == (Status.UNAVAILABLE, "server_draining")
            assert refusal.metadata["mcp-retryable"] == "true"


async def test_messages_are_those_of_the_codec() -> None:
    plain = CLASSES["InferRequest"](model="m", body=codec.encode({"prompt": "hi"}))
    assert plain.SerializeToString() == b"\x0a\x01m\x32\x04\x0a\x02hi"


async def test_what_is_less_urgent_is_refused_while_there_is_no_room(tmp_path: Path, station: Station) -> None:
    station.always(station.held(station.usual))
    config = {
        "models": [model("m", station.url)],
        "server": GRPC,
        "concurrency": {"start": 2, "min": 2, "max": 2},
    }
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        running = [asyncio.create_task(caller.ask()) for _ in range(2)]
        await asyncio.to_thread(station.wait_seen, 2)
        refusals = await asyncio.gather(*(caller.refusal(caller.ask(priority=0, timeout_s=5.0)) for _ in range(16)))
        assert {(refusal.status, refusal.code) for refusal in refusals} == {(Status.UNAVAILABLE, "overloaded")}
        assert all(int(refusal.metadata["retry-after"]) >= 1 for refusal in refusals)
        station.let_go()
        assert {answer.finish for answer in await asyncio.gather(*running)} == {"stop"}


async def test_a_reader_that_takes_nothing_is_given_up(tmp_path: Path, station: Station) -> None:
    station.always(pieces(*[delta("中" * 2000)] * 4000, finish(), DONE))
    config = {
        "models": [model("m", station.url)],
        "server": GRPC,
        "limits": {"wire": {"write_timeout": "1s"}},
    }
    async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
        call = caller.stream(timeout_s=60.0)
        await anext(aiter(call))
        assert await asyncio.to_thread(station.wait_gone) > 0
        refusal = await caller.refusal(call)
        assert (refusal.status, refusal.code) == (Status.DEADLINE_EXCEEDED, "request_timeout")
        assert "Traceback" not in server.log()


async def test_a_model_on_a_node(tmp_path: Path) -> None:
    async with ScriptedNode(asyncio.get_running_loop()) as node:
        config = {"models": [model("m", f"mcp://127.0.0.1:{node.port}")], "server": GRPC}
        async with serving(tmp_path, config) as server, Caller(f"127.0.0.1:{port_of(server)}") as caller:
            await linked(node)
            answer = await caller.ask("一个问题", session="s-1", timeout_s=10.0)
            assert (codec.decode(answer.body), answer.version) == ({"text": "一个问题"}, "v7")
            [(preamble, _, remaining_ms)] = node.asked
            assert preamble.session == "s-1"
            assert 5_000 < remaining_ms <= 10_000
            text = "".join([part.chunk.text async for part in caller.stream("stream 300")])
            assert text == CHUNK.decode() * 300
            hanging = caller.stream("hang")
            waiting = asyncio.create_task(caller.refusal(hanging))
            await until(lambda: len(node.asked) == 3)
            hanging.cancel()
            await until(lambda: node.cancelled)
            with pytest.raises(asyncio.CancelledError):
                await waiting
