"""Answers of upstreams in every framing that HTTP/1.1 allows, and some that it does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.integration.running import RunningServer, events, model, streamed_text
from tests.integration.speech import DONE, delta, finish, speak
from tests.integration.upstreams import Behaviour, Upstream, raw

BODY = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"\xe4\xbd\xa0"},"finish_reason":"stop"}]}'
)
JSON = b"content-type: application/json\r\n"
SIZED = b"HTTP/1.1 200 OK\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n"


def chunks(body: bytes, size: int, extension: bytes = b"") -> bytes:
    """A chunked body."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n"


def dribble(data: bytes) -> Behaviour:
    """Send byte by byte, each in a packet of its own as far as the system lets it."""

    async def behave(wire: Any) -> None:
        for at in range(len(data)):
            await wire.send(data[at : at + 1])
            if at % 16 == 0:
                await asyncio.sleep(0.0005)

    return behave


WHOLE: dict[str, Behaviour] = {
    "byte by byte": dribble(SIZED),
    "chunked": raw(CHUNKED + chunks(BODY, 10) + b"\r\n"),
    "chunks of one byte": raw(CHUNKED + chunks(BODY, 1) + b"\r\n"),
    "chunk extensions": raw(CHUNKED + chunks(BODY, 50, b";name=value") + b"\r\n"),
    "trailers": raw(CHUNKED + chunks(BODY, 50) + b"x-checksum: 1\r\n\r\n"),
    "until close": raw(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + BODY),
    "HTTP/1.0": raw(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + BODY),
    "connection: close": raw(SIZED.replace(JSON, JSON + b"connection: close\r\n")),
    "100 and 103 before": raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + SIZED),
    "no content type": raw(SIZED.replace(JSON, b"")),
    "text/plain": raw(SIZED.replace(b"application/json", b"text/plain")),
}
NOT_WHOLE: dict[str, Behaviour] = {
    "gzip, which was not asked for": raw(SIZED.replace(JSON, JSON + b"content-encoding: gzip\r\n")),
    "length and chunks": raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(BODY, 50) + b"\r\n"
    ),
    "two lengths": raw(SIZED.replace(JSON, b"content-length: 5\r\n")),
    "shorter than its length": raw(SIZED[:-1]),
    "no last chunk": raw(CHUNKED + chunks(BODY, 50)[:-3]),
    "a chunk size that is none": raw(CHUNKED + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "an endless head": raw(b"HTTP/1.1 200 OK\r\n" + b"x-y: " + b"z" * 300_000),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "101": raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers(server: RunningServer, upstream: Upstream, name: str) -> None:
    station = upstream.station().then(WHOLE[name])
    server.apply(model(station.name, station.url, max_retries=0))
    assert server.chat(station.name).content == BODY
    assert server.chat(station.name).status_code == 200, "and the next one too"


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_answers_that_are_none(server: RunningServer, upstream: Upstream, name: str) -> None:
    station = upstream.station().then(NOT_WHOLE[name])
    server.apply(model(station.name, station.url, max_retries=0))
    answer = server.chat(station.name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert server.chat(station.name).status_code == 200


@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["in one piece", "later"])
def test_a_second_answer_that_nobody_asked_for_reaches_nobody(
    server: RunningServer, upstream: Upstream, pause_s: float
) -> None:
    poison = SIZED.replace("你".encode(), b"bad")

    async def behave(wire: Any) -> None:
        if pause_s:
            await wire.send(SIZED)
            await asyncio.sleep(pause_s)
            await wire.send(poison)
        else:
            await wire.send(SIZED + poison)

    station = upstream.station().then(behave).always(speak)
    server.apply(model(station.name, station.url))
    assert server.chat(station.name).content == BODY
    time.sleep(2 * pause_s)
    for _ in range(5):
        assert "bad" not in server.chat(station.name).text


@pytest.mark.parametrize("framing", ["until close", "chunked in bytes"])
def test_streams(server: RunningServer, upstream: Upstream, framing: str) -> None:
    body = delta("你") + delta("好") + finish() + DONE
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    sent = {
        "until close": raw(head + b"\r\n" + body),
        "chunked in bytes": raw(head + b"transfer-encoding: chunked\r\n\r\n" + chunks(body, 1) + b"\r\n"),
    }
    station = upstream.station().then(sent[framing])
    server.apply(model(station.name, station.url))
    answer = server.chat(station.name, stream=True)
    assert streamed_text(events(answer)) == "你好"
    assert answer.content == body
