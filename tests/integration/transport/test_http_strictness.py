"""Where the server's shell, h11 and uvicorn differ: each line of the table in decision 10, `http-strictness`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.wire.connected import wire
from tests.wire.reference import read_by_h11
from tests.wire.uvicorn_listener import Listening, listening_uvicorn

PAGE = Path(__file__).parents[3] / "docs/decisions/0010-http-strictness.md"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Difference:
    """One line of the table.

    Attributes:
        data: what the client sends.
        ours: statuses of our answers.
        h11: requests that h11 reads, and `refused` when it stops there.
        uvicorn: statuses of uvicorn's answers, on httptools.
    """

    data: bytes
    ours: list[int]
    h11: str
    uvicorn: list[int]


TABLE = {
    # Refused here, taken by h11 or by uvicorn.
    "Content-Length beside Transfer-Encoding": Difference(
        POST + b"content-length: 5\r\n" + CHUNKED + b"\r\n" + LAST, [400], "1", [400]
    ),
    "Content-Length twice, or a list of equal ones": Difference(
        POST + b"content-length: 2, 2\r\n\r\nok", [400], "1", [400]
    ),
    "a line ended by LF alone": Difference(b"GET / HTTP/1.1\nhost: a\n\n", [400], "1", [400]),
    "a folded header": Difference(GET + b"x: a\r\n b\r\n\r\n", [400], "1", [400]),
    "a control character in a header": Difference(GET + b"x: a\x01b\r\n\r\n", [400], "1", [400]),
    "`_` in a header's name": Difference(GET + b"content_length: 5\r\n\r\n", [400], "1", [200]),
    "no Host": Difference(b"GET / HTTP/1.1\r\n\r\n", [400], "0 refused", [200]),
    "two Hosts": Difference(GET + b"host: b\r\n\r\n", [400], "0 refused", [200]),
    "a header twice that has one value": Difference(
        GET + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", [400], "1", [200]
    ),
    "HTTP/2.0 in the request line": Difference(b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", [400], "1", [200]),
    "HTTP/1.2 in the request line": Difference(b"GET / HTTP/1.2\r\nhost: a\r\n\r\n", [400], "1", [400]),
    "HTTP/0.9": Difference(b"GET /\r\n\r\n", [400], "0 refused", [200]),
    "a method that is not registered": Difference(b"FROB / HTTP/1.1\r\nhost: a\r\n\r\n", [400], "1", [400]),
    "CONNECT": Difference(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", [405], "1", [400]),
    "a coding beside chunked": Difference(
        POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + LAST, [400], "0 refused", [200]
    ),
    "a coding in HTTP/1.0": Difference(b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n" + LAST, [400], "1", [200]),
    "a blank after a chunk's size": Difference(POST + CHUNKED + b"\r\n2 \r\nok\r\n" + LAST, [400], "1", [400]),
    "a control character in a chunk extension": Difference(
        POST + CHUNKED + b"\r\n2;a\0\r\nok\r\n" + LAST, [400], "1", [400]
    ),
    # Taken here, refused by h11.
    "blank lines before a request": Difference(b"\r\n\n" + GET + b"\r\n", [200], "0 refused", [200]),
    "several blanks in the request line": Difference(b"GET  /  HTTP/1.1\r\nhost: a\r\n\r\n", [200], "0 refused", [200]),
    "RTSP/1.0 and ICE/1.0 in the request line": Difference(b"OPTIONS / RTSP/1.0\r\n\r\n", [200], "0 refused", [200]),
    # Taken by all, and treated in another way.
    "HTTP/1.0 with keep-alive": Difference(
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" * 2, [200, 200], "1", [200]
    ),
}


@pytest.fixture
async def uvicorn() -> AsyncIterator[Listening]:
    """uvicorn on httptools."""
    listening = await listening_uvicorn("httptools")
    yield listening
    listening.close()
    await asyncio.sleep(0.01)


async def ask_uvicorn(listening: Listening, data: bytes) -> bytes:
    """What uvicorn answers until it has been silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.write(data)
    answer = b""
    try:
        async with asyncio.timeout(0.3):
            while block := await reader.read(65536):
                answer += block
    except TimeoutError:
        pass
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("difference", TABLE.values(), ids=TABLE.keys())
async def test_the_difference_is_what_the_page_says(difference: Difference, uvicorn: Listening) -> None:
    line = wire()
    line.feed(difference.data)
    assert line.statuses() == difference.ours
    seen, refused = read_by_h11([difference.data])
    assert f"{len(seen)}{' refused' if refused else ''}" == difference.h11
    answer = await ask_uvicorn(uvicorn, difference.data)
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)] == difference.uvicorn


@pytest.mark.parametrize("name", [*TABLE, "a body behind an offer of h2c", "a broken message after a whole one"])
def test_the_page_names_it(name: str) -> None:
    assert f"| {name} |" in PAGE.read_text(encoding="utf-8")


async def test_a_body_behind_an_offer_of_h2c_is_kept_here_and_lost_there(uvicorn: Listening) -> None:
    offer = POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok"
    line = wire()
    line.feed(offer)
    assert line.application.seen == [(b"POST", b"/", b"ok")]
    assert read_by_h11([offer])[0][0][3] == b"ok"
    without_body = POST + b"content-length: 0\r\n\r\n"
    offered, plain = await ask_uvicorn(uvicorn, offer), await ask_uvicorn(uvicorn, without_body)
    assert offered.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]


async def test_whole_requests_before_a_broken_one_are_answered_here(uvicorn: Listening) -> None:
    data = GET + b"\r\n" + b"junk\r\n\r\n"
    line = wire()
    line.feed(data)
    assert line.statuses() == [200, 400]
    seen, refused = read_by_h11([data])
    assert (len(seen), refused) == (1, True)
    assert re.findall(rb"HTTP/1\.1 (\d{3})", await ask_uvicorn(uvicorn, data)) == [b"400"]
