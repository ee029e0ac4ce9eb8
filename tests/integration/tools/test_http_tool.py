"""Routes of HTTP services as tools, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from open_autoglm import clock
from open_autoglm.secret import Secret
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.settings import HttpArgument, HttpToolEntry
from open_autoglm.tools.tool import ToolCall, ToolError

JSON = b"content-type: application/json\r\n"


@asynccontextmanager
async def service(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers every connection with the same bytes; gives its port and what it was sent."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        heard.append(head + await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def reply(body: bytes, status: str = "200 OK", headers: bytes = JSON) -> bytes:
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status.encode(), headers, len(body), body)


async def called(entry: HttpToolEntry, key: str = "", **arguments: Any) -> Any:
    desk = ToolDesk([HttpTool(entry)])
    return await desk.call(ToolCall(entry.name, arguments, clock.monotonic() + 10, key))


async def refused(entry: HttpToolEntry, key: str = "", **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await called(entry, key, **arguments)
    return caught.value


def entry(port: int, path: str = "/", **more: Any) -> HttpToolEntry:
    return HttpToolEntry("tool", f"http://127.0.0.1:{port}{path}", allow_private=True, **more)


async def test_a_get_fills_path_and_query() -> None:
    async with service(reply(b'{"sky": "clear"}')) as (port, heard):
        tool = entry(
            port,
            "/cities/{city}?units={units}",
            arguments={"days": HttpArgument("integer"), "units": HttpArgument(required=False, enum=["m", "f"])},
            headers={"authorization": Secret("Bearer very-secret")},
        )
        assert await called(tool, "key-1", city="a/b", days=3) == {"status": 200, "body": {"sky": "clear"}}
        head = heard[0].decode()
        assert head.startswith("GET /cities/a%2Fb?days=3 HTTP/1.1\r\n")
        assert "\r\nauthorization: Bearer very-secret\r\n" in head
        assert f"\r\nhost: 127.0.0.1:{port}\r\n" in head
        assert "idempotency-key" not in head
        for wrong in ({"city": "x", "days": "3"}, {"days": 3}, {"city": "x", "days": 3, "units": "k"}, {"host": "x"}):
            assert (await refused(tool, **wrong)).code == "invalid_arguments"


async def test_a_post_sends_the_other_arguments_and_the_key() -> None:
    async with service(reply(b"made", headers=b"content-type: text/plain\r\n")) as (port, heard):
        tool = entry(port, "/orders/{id}", method="POST", arguments={"lines": HttpArgument("array")})
        assert await called(tool, "run-1/step-2", id="7", lines=[1, 2]) == {"status": 200, "body": "made"}
        head, _, body = heard[0].partition(b"\r\n\r\n")
        assert body == b'{"lines":[1,2]}'
        assert b"\r\nidempotency-key: run-1/step-2" in head
        await called(tool, "bad\r\nx-evil: 1", id="7", lines=[])
        assert b"x-evil" not in heard[1]


async def test_private_addresses_are_refused_unless_allowed() -> None:
    async with service(reply(b"{}")) as (port, heard):
        for host in ("127.0.0.1", "localhost", "127.1", "[::1]"):
            error = await refused(HttpToolEntry("tool", f"http://{host}:{port}/"))
            assert error.code in ("tool_not_allowed", "tool_unavailable")
        assert heard == []


async def test_redirects_are_not_followed() -> None:
    async with service(reply(b"", "302 Found", b"location: http://127.0.0.1:1/\r\n")) as (port, _):
        error = await refused(entry(port))
        assert (error.code, error.retryable) == ("tool_failed", False)
        assert "redirects are not followed" in error.message


async def test_failures_say_whether_another_try_may_help() -> None:
    async with service(reply(b"busy, Bearer abcdef123456", "503 Service Unavailable", b"")) as (port, _):
        error = await refused(entry(port))
        assert (error.code, error.retryable) == ("tool_failed", True)
        assert error.message.endswith("answered 503: busy, Bearer ***")
        assert not (await refused(entry(port, method="POST"))).retryable
        assert (await refused(entry(port, method="POST"), "key-1")).retryable
    error = await refused(entry(port))
    assert (error.code, error.retryable) == ("tool_unavailable", True)


async def test_the_certificate_must_be_that_of_the_name() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    for name, code in (("localhost", None), ("other.example", "tool_unavailable")):
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(own)
        async with service(reply(b"{}"), own) as (port, _):
            tool = HttpTool(HttpToolEntry("tool", f"https://localhost:{port}/", allow_private=True), context)
            call = ToolCall("tool", {}, clock.monotonic() + 10)
            if code is None:
                assert await ToolDesk([tool]).call(call) == {"status": 200, "body": {}}
                continue
            with pytest.raises(ToolError, match="TLS failed") as caught:
                await ToolDesk([tool]).call(call)
            assert caught.value.code == code


async def test_answers_are_bounded_and_understood() -> None:
    async with service(reply(b"x" * 2000, headers=b"")) as (port, _):
        assert (await refused(entry(port, answer_bytes=1000))).code == "result_too_large"
    async with service(reply(b"\xff\xfe")) as (port, _):
        assert (await refused(entry(port))).code == "invalid_result"
    async with service(reply(b"\xff\xfe", headers=b"content-type: image/png\r\n")) as (port, _):
        assert (await refused(entry(port))).code == "invalid_result"
    async with service(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort") as (port, _):
        assert (await refused(entry(port))).code == "tool_unavailable"
    async with service(b"no HTTP\r\n\r\n") as (port, _):
        assert (await refused(entry(port))).code == "tool_unavailable"


async def test_a_silent_service_is_waited_for_no_longer_than_allowed() -> None:
    done = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the tool hangs up
        done.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(entry(port, timeout_s=0.05))
        assert (error.code, error.retryable) == ("tool_timeout", True)
        await asyncio.wait_for(done.wait(), 10)
