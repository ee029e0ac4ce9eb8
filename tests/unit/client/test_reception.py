"""An answer as it comes, and what becomes of it when its connection is lost, over fake connections."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from tests.unit.client.fake_link import CODEC, FakeLink, FakeSession

from open_autoglm.client.address import Address
from open_autoglm.client.pool import Pool
from open_autoglm.client.reception import ANSWER_BYTES_MAX
from open_autoglm.client.stream import RESENDS_MAX, AnswerStream
from open_autoglm.errors import RequestError, ServerError, UpstreamError
from open_autoglm.protocol.opcodes import NO_RETRY, REASONING, RESUMABLE, STREAM
from open_autoglm.protocol.preambles import write_response

END = write_response(3, 4, "stop", 1, "v", "m")


class Scene:
    """A stream that has begun on a first connection."""

    def __init__(self, flags: int = STREAM | RESUMABLE, token: str = "token-0") -> None:
        self.link = FakeLink()
        self.pool = Pool(
            Address("host", 1),
            CODEC,
            [self.link],  # type: ignore[list-item]
            waiting_max=10,
            connect_timeout_s=5.0,
        )
        self.session = self.link.open(FakeSession(token))
        self.stream = AnswerStream(self.pool, b"payload", flags, timeout_s=1e6, trace=bytes(16))
        self._task: asyncio.Task[str] | None = None

    async def read(self) -> asyncio.Task[str]:
        """Let the reader wait for its next piece."""
        task = asyncio.ensure_future(anext(self.stream))
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    def chunk(self, seq: int, text: str, flags: int = 0, choice: int = 0) -> None:
        """More text on the stream's connection."""
        (handler,) = self.session.handlers.values()
        handler.on_chunk(flags, choice, seq, text.encode())

    def reconnect(self, token: str) -> None:
        """Lose the connection and open the next one."""
        self.link.lose()
        self.session = self.link.open(FakeSession(token))

    def close(self) -> None:
        self.pool.close("closed")


async def test_text_comes_in_order_and_credit_goes_back_when_it_is_taken() -> None:
    scene = Scene()
    first = await scene.read()
    scene.chunk(0, "hel")
    scene.chunk(1, "lo")
    assert scene.session.consumed == 0
    assert await first == "hello"
    assert scene.session.consumed == 5
    scene.chunk(2, "hm", REASONING)
    assert scene.session.consumed == 7
    scene.session.answer(END, 3)
    with pytest.raises(StopAsyncIteration):
        await anext(scene.stream)
    assert (scene.stream.answer.text, scene.stream.answer.reasoning) == ("hello", "hm")
    scene.close()


async def test_nothing_is_resumed_before_all_was_taken() -> None:
    scene = Scene()
    reading = await scene.read()
    scene.chunk(0, "a")
    scene.chunk(1, "b")
    scene.reconnect("token-1")
    assert await reading == "ab"
    assert scene.session.connection.resumed == []
    reading = await scene.read()
    assert scene.session.connection.resumed == [("token-0", 3, 2)]
    scene.session.handlers[3].on_chunk(0, 0, 2, b"c")
    assert await reading == "c"
    scene.close()


async def test_a_resumption_that_was_lost_is_looked_for_in_both_places() -> None:
    scene = Scene()
    reading = await scene.read()
    scene.chunk(0, "a")
    assert await reading == "a"
    scene.reconnect("token-1")
    reading = await scene.read()
    scene.reconnect("token-2")
    await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert scene.session.connection.resumed == [("token-1", 3, 1)]
    scene.session.fail(RequestError("not_found", "nothing is kept"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert scene.session.connection.resumed == [("token-1", 3, 1), ("token-0", 3, 1)]
    scene.chunk(1, "b")
    assert await reading == "b"
    scene.close()


async def test_it_ends_when_it_is_in_no_place() -> None:
    scene = Scene(STREAM | RESUMABLE | NO_RETRY)
    await scene.read()
    scene.reconnect("token-1")
    for _ in range(5):
        await asyncio.sleep(0)
    scene.session.fail(RequestError("not_found", "nothing is kept"))
    with pytest.raises(UpstreamError, match="cannot go on with it: nothing is kept") as caught:
        await scene.stream.whole()
    assert caught.value.code == "stream_interrupted"
    scene.close()


async def test_what_has_not_begun_is_sent_again_a_few_times() -> None:
    scene = Scene(STREAM)
    reading = await scene.read()
    for _ in range(RESENDS_MAX):
        scene.reconnect("token-1")
        for _ in range(5):
            await asyncio.sleep(0)
        [(payload, flags, remaining_ms)] = scene.session.requests
        assert (payload, flags) == (b"payload", STREAM)
        assert remaining_ms < 1e9
    scene.reconnect("token-2")
    with pytest.raises(UpstreamError, match="the answer did not come: cut"):
        await reading
    assert scene.session.requests == []
    scene.close()


async def test_what_was_kept_nowhere_and_has_not_begun_is_sent_again() -> None:
    scene = Scene()
    reading = await scene.read()
    scene.reconnect("token-1")
    for _ in range(5):
        await asyncio.sleep(0)
    scene.session.fail(RequestError("not_found", "nothing is kept"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(scene.session.requests) == 1
    scene.chunk(0, "at last")
    assert await reading == "at last"
    scene.close()


@pytest.mark.parametrize("flags", [0, REASONING])
async def test_what_has_begun_is_not_sent_again(flags: int) -> None:
    scene = Scene(STREAM)
    reading = await scene.read()
    scene.chunk(0, "it was", flags)
    scene.reconnect("token-1")
    if not flags:
        assert await reading == "it was"
        reading = await scene.read()
    with pytest.raises(UpstreamError, match="the answer did not come: cut"):
        await reading
    assert scene.session.requests == []
    scene.close()


@pytest.mark.parametrize(("flags", "token"), [(STREAM | NO_RETRY, "token-0"), (STREAM | RESUMABLE | NO_RETRY, "")])
async def test_what_is_not_kept_is_lost(flags: int, token: str) -> None:
    scene = Scene(flags, token)
    reading = await scene.read()
    scene.reconnect("token-1")
    with pytest.raises(UpstreamError, match="the answer did not come: cut"):
        await reading
    assert scene.session.requests == []
    scene.close()


async def test_it_does_not_go_on_for_ever() -> None:
    scene = Scene()
    reading = await scene.read()
    losses = 0
    while not reading.done():
        scene.reconnect(f"token-{losses}")
        losses += 1
        assert losses < 100
        for _ in range(5):
            await asyncio.sleep(0)
    assert isinstance(reading.exception(), UpstreamError)
    assert losses == 17 * (1 + RESENDS_MAX)
    scene.close()


async def test_other_choices_are_passed_over() -> None:
    scene = Scene()
    reading = await scene.read()
    scene.chunk(0, "other", choice=1)
    scene.chunk(1, "first")
    assert await reading == "first"
    assert scene.session.consumed == 10
    scene.close()


async def test_an_answer_without_end_is_given_up() -> None:
    scene = Scene()
    reading = await scene.read()
    (handler,) = scene.session.handlers.values()
    handler.on_chunk(0, 0, 0, b"x" * (ANSWER_BYTES_MAX + 1))
    with pytest.raises(UpstreamError, match="longer than"):
        await reading
    assert len(scene.session.cancelled) == 1
    scene.close()


async def test_an_error_comes_behind_the_text_before_it() -> None:
    scene = Scene()
    reading = await scene.read()
    scene.chunk(0, "half")
    scene.session.fail(ServerError("overloaded", "too much"))
    assert await reading == "half"
    with pytest.raises(ServerError, match="too much"):
        await anext(scene.stream)
    scene.close()


async def test_two_readers_are_a_mistake() -> None:
    scene = Scene()
    reading = await scene.read()
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(scene.stream)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cast("asyncio.Future[str]", reading)
    scene.close()
