"""Answers' heads, and answers as they come over a socket's stream."""

import asyncio
import contextlib

import pytest

from open_autoglm.cli.load.connection import Connection, Question, Sample, read_head


@pytest.mark.parametrize(
    ("head", "read"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (200, 5, False, False)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", (200, None, True, False)),
        (b"HTTP/1.1 429 \r\ncontent-length: 0\r\nConnection: Close\r\n\r\n", (429, 0, False, True)),
        (b"HTTP/1.0 200 OK\r\n\r\n", (200, None, False, True)),
    ],
)
def test_heads(head: bytes, read: tuple[int, int | None, bool, bool]) -> None:
    assert read_head(head) == read


@pytest.mark.parametrize("head", [b"\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"])
def test_what_is_no_head(head: bytes) -> None:
    with pytest.raises(ValueError):
        read_head(head)


class Scripted:
    """A server that answers every connection's questions with prepared bytes, one after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.handlers: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        while self.answers:
            try:
                await reader.readuntil(b"?")
            except asyncio.IncompleteReadError:
                break
            answer = self.answers.pop(0)
            writer.write(answer)
            if b"close" in answer or not answer:
                break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def asked(script: Scripted, times: int, streamed: bool = False, timeout_s: float = 5.0) -> list[Sample]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = Connection(Question("127.0.0.1", port, None, b"?", streamed), timeout_s)
        samples = [await connection.ask() for _ in range(times)]
        await connection.close()
        await asyncio.gather(*script.handlers)
        return samples


UNARY = b'HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{"completion_tokens":7}'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_one_connection_asks_again_and_again() -> None:
    script = Scripted(UNARY, UNARY, UNARY)
    samples = await asked(script, 3)
    assert [(s.good, s.tokens) for s in samples] == [(True, 7)] * 3
    assert script.connections == 1


async def test_a_closed_connection_is_opened_again() -> None:
    script = Scripted(UNARY.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), UNARY)
    assert [s.good for s in await asked(script, 2)] == [True, True]
    assert script.connections == 2


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", ""),
        (b"e\r\ndata: [DONE]\n\n\r\n0\r\nx-trailer: 1\r\n\r\n", ""),
        (b'10\r\ndata: {"error"}\n\r\n0\r\n\r\n', "stream broken"),
        (b"5\r\nabc", "timeout"),
        (b"zz\r\n", "not HTTP"),
    ],
)
async def test_streams(body: bytes, failure: str) -> None:
    [sample] = await asked(Scripted(CHUNKED + body, b"not sent"), 1, streamed=True, timeout_s=0.2)
    assert sample.failure == failure
    assert sample.good == (not failure)


async def test_a_server_that_hangs_up_and_one_that_is_not_there() -> None:
    [sample] = await asked(Scripted(b""), 1)
    assert sample.failure == "connection lost"
    assert (await Connection(Question("127.0.0.1", 1, None, b"?", False), 5.0).ask()).failure == "connection lost"


async def test_an_error_is_an_answer_that_is_not_good() -> None:
    [sample] = await asked(Scripted(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n"), 1, streamed=True)
    assert (sample.status, sample.failure, sample.good) == (503, "", False)
