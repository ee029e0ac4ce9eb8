"""Messages between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import socket

from open_autoglm.server.workers import channel as module
from open_autoglm.server.workers.channel import Channel
from open_autoglm.server.workers.messages import Answer, Ask, Message

DEADLINE_S = 10.0


class End:
    """One end, and what it has heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[Message] = []
        self.lost = 0
        self.something = asyncio.Event()
        self.channel = Channel(sock, asyncio.get_running_loop(), self._take, self._lose)

    def _take(self, message: Message) -> None:
        self.heard.append(message)
        self.something.set()

    def _lose(self) -> None:
        self.lost += 1
        self.something.set()

    async def wait(self, count: int) -> list[Message]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.heard) < count and not self.lost:
                self.something.clear()
                await self.something.wait()
        return self.heard


def pair() -> tuple[End, End]:
    one, other = socket.socketpair()
    return End(one), End(other)


async def test_messages_come_whole_and_in_order_however_long_they_are() -> None:
    one, other = pair()
    messages: list[Message] = [Answer(number, 1, "x" * (number * 100_000)) for number in range(30)]
    for message in messages:
        one.channel.send(message)
    other.channel.send(Ask(1, "status", ()))
    assert await other.wait(30) == messages
    assert await one.wait(1) == [Ask(1, "status", ())]
    one.channel.close()
    other.channel.close()


async def test_an_end_that_is_gone_is_told_once() -> None:
    one, other = pair()
    one.channel.close()
    await other.wait(1)
    other.channel.send(Ask(1, "status", ()))
    assert (other.lost, one.lost, other.channel.closed) == (1, 0, True)


async def test_what_nobody_reads_has_a_limit() -> None:
    one, _unread = socket.socketpair()
    end = End(one)
    piece = "x" * (module.WAITING_BYTES_MAX // 4)
    sent = 0
    while not end.lost:
        end.channel.send(Answer(1, 1, piece))
        sent += 1
        assert sent < 10
    assert sent > 3
    _unread.close()
