"""Well-formed requests mean the same to the server's shell and to h11, and get the same answers as from uvicorn.

What is left of differences on other traffic is listed in `docs/decisions/0010-http-strictness.md` and pinned by
`test_http_strictness.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.connected import wire
from tests.wire.reference import Seen, kept, read_by_h11
from tests.wire.uvicorn_listener import ORIGIN, digest, listening_uvicorn
from tests.wire.well_formed import Framed, blocks_of, conversations

from open_autoglm.errors import AutoGLMError
from open_autoglm.transport.http_request import ServerRequest
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.settings import WireLimits

WIDE = WireLimits()


def read_by_us(blocks: list[bytes]) -> tuple[list[Seen], bool]:
    """Read requests, each answered at once; whether the bytes were refused at last."""
    line = wire(WIDE)
    for block in blocks:
        line.feed(block)
    seen = [
        (request.method, request.target, kept((n.encode(), v) for n, v in request.headers.items()), request.body)
        for request in line.application.bodies
    ]
    return seen, bool(line.application.errors)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_requests_mean_what_they_mean_to_h11(data: st.DataObject) -> None:
    conversation = data.draw(conversations())
    whole = b"".join(framed.data for framed in conversation)
    expected = read_by_h11([whole])
    assert not expected[1]
    assert len(expected[0]) == len(conversation)
    assert read_by_us([whole]) == expected
    assert read_by_us([framed.data for framed in conversation]) == expected
    assert read_by_us(data.draw(blocks_of(whole))) == expected


class Digesting:
    """Answers with a digest of what was asked."""

    def on_head(self, request: ServerRequest) -> None:
        request.call = self

    def on_body(self, request: ServerRequest) -> None:
        # As an ASGI server splits it.
        path, _, query = request.target.removeprefix(ORIGIN).partition(b"?")
        request.connection.respond(request, 200, "", digest(request.method, path, query, request.body))

    def on_gone(self, request: ServerRequest) -> None:
        pass

    def on_pause(self, request: ServerRequest) -> None:
        pass

    def on_resume(self, request: ServerRequest) -> None:
        pass

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        return "", error.code.encode()


async def ask(port: int, conversation: list[Framed], blocks: list[bytes]) -> list[tuple[int, bytes]]:
    """Send a conversation and return status and body of each answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for block in blocks:
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0)
        return [await asyncio.wait_for(_answer(reader, framed.method), 5.0) for framed in conversation]
    finally:
        rest = await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        await writer.wait_closed()
        assert rest == b""


async def _answer(reader: asyncio.StreamReader, method: bytes) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return status, b"" if method == b"HEAD" else await reader.readexactly(length)


def test_answers_are_those_of_uvicorn() -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        ours = HttpServer(Digesting(), WIDE, loop)
        _, port = runner.run(ours.listen("127.0.0.1", 0))
        others: list[Any] = [runner.run(listening_uvicorn(kind)) for kind in ("httptools", "h11")]

        @given(st.data())
        @settings(max_examples=120, deadline=None)
        def compare(data: st.DataObject) -> None:
            conversation = data.draw(conversations())
            blocks = data.draw(blocks_of(b"".join(framed.data for framed in conversation)))
            answers = runner.run(ask(port, conversation, blocks))
            assert [status for status, _ in answers] == [200] * len(conversation)
            for other in others:
                assert runner.run(ask(other.port, conversation, blocks)) == answers

        try:
            compare()
        finally:
            ours.close_listeners()
            ours.abort()
            for other in others:
                other.close()
            runner.run(asyncio.sleep(0.05))


def test_the_digest_tells_requests_apart() -> None:
    assert digest(b"GET", b"/", b"", b"") != digest(b"GET", b"/", b"", b"x")
    assert len(digest(b"GET", b"/", b"", b"")) == hashlib.sha256().digest_size * 2
    assert uvicorn.__version__
