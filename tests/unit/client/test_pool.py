"""Connections and those who wait for them; the sweep's times are the loop's own, and short."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from tests.unit.client.fake_link import CODEC, FakeLink, FakeSession

from open_autoglm import clock
from open_autoglm.client.address import Address
from open_autoglm.client.pool import Pool
from open_autoglm.client.unary import PendingAnswer
from open_autoglm.errors import AutoGLMError, ServerError, UpstreamError

FAR_S = 1e9


def make(count: int = 1, *, waiting_max: int = 10, connect_timeout_s: float = 5.0) -> tuple[Pool, list[FakeLink]]:
    """A pool over fake links."""
    links = [FakeLink() for _ in range(count)]
    pool = Pool(
        Address("host", 1),
        CODEC,
        links,  # type: ignore[arg-type]
        waiting_max=waiting_max,
        connect_timeout_s=connect_timeout_s,
    )
    return pool, links


def pending(pool: Pool, until_s: float = FAR_S) -> PendingAnswer:
    return PendingAnswer(pool.create_future(), CODEC, until_s, 1.0)


def place(pool: Pool, until_s: float = FAR_S) -> asyncio.Task[object]:
    """A request that wants a place."""
    caller = pending(pool, until_s)
    return asyncio.create_task(pool.place(lambda session: session.request(caller, b"", 0, 1), until_s))


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_connections_are_used_in_turn() -> None:
    pool, links = make(3)
    assert all(link.started for link in links)
    assert pool.session() is None
    sessions = [link.open(FakeSession()) for link in links]
    assert pool.connections == 3
    assert {id(pool.session()) for _ in range(3)} == {id(session) for session in sessions}
    links[0].lose()
    assert pool.connections == 2
    pool.close("closed")


async def test_requests_of_one_turn_share_a_connection_a_few_at_a_time() -> None:
    pool, links = make(2)
    sessions = [link.open(FakeSession()) for link in links]
    first = pool.session()
    assert isinstance(first, FakeSession)
    for _ in range(15):
        first.connection.out.append(b"frame")
        assert pool.session() is first
    first.connection.out.append(b"frame")
    second = pool.session()
    assert second in sessions
    assert second is not first
    first.connection.out.clear()
    assert pool.session() is first
    pool.close("closed")


async def test_a_request_waits_for_the_first_connection() -> None:
    pool, (link,) = make()
    task = place(pool)
    await turn()
    assert not task.done()
    session = link.open(FakeSession())
    await turn()
    assert task.done()
    assert len(session.requests) == 1
    pool.close("closed")


async def test_it_fails_when_no_link_could_be_opened() -> None:
    pool, links = make(2)
    task = place(pool)
    await turn()
    links[0].fail("no_healthy_endpoint", "connection refused")
    await turn()
    assert not task.done()
    links[1].fail("no_healthy_endpoint", "connection refused")
    with pytest.raises(ServerError, match="mcp://host:1: connection refused"):
        await task


async def test_it_waits_where_there_was_a_connection_before() -> None:
    pool, (link,) = make()
    link.open(FakeSession())
    link.lose()
    link.fail("no_healthy_endpoint", "connection refused")
    task = place(pool)
    await turn()
    assert not task.done()
    link.open(FakeSession())
    await task
    pool.close("closed")


async def test_it_does_not_wait_for_ever() -> None:
    pool, (link,) = make(connect_timeout_s=0.01)
    link.open(FakeSession())
    link.lose()
    with pytest.raises(ServerError, match="cannot connect"):
        await place(pool)


async def test_a_server_that_turned_us_away_is_not_asked_again() -> None:
    pool, links = make(2)
    links[0].fail("invalid_api_key", "this key is not known")
    assert all(link.closed for link in links)
    told = []
    for _ in range(2):
        with pytest.raises(AutoGLMError, match="this key is not known") as caught:
            await place(pool)
        assert caught.value.code == "invalid_api_key"
        told.append(caught.value)
    assert told[0] is not told[1], "an error that is raised twice collects the stacks of both"


async def test_whoever_waits_for_room_gets_it_in_turn() -> None:
    pool, (link,) = make()
    session = link.open(FakeSession(room=1))
    await place(pool)
    tasks = [place(pool), place(pool)]
    await turn()
    assert pool.session() is None
    assert len(pool.waiting) == 2
    for task in tasks:
        session.answer(b"")
        pool.wake()
        await turn()
        assert task.done()
    pool.close("closed")


async def test_a_place_that_is_given_to_one_who_left_goes_to_the_next() -> None:
    pool, (link,) = make()
    session = link.open(FakeSession(room=1))
    await place(pool)
    first, second = place(pool), place(pool)
    await turn()
    session.answer(b"")
    pool.wake()
    first.cancel()
    await turn()
    assert first.cancelled()
    assert second.done()
    pool.close("closed")


async def test_only_so_many_may_wait() -> None:
    pool, _ = make(waiting_max=1)
    first = place(pool)
    await turn()
    with pytest.raises(ServerError, match="1 requests wait") as caught:
        await place(pool)
    assert caught.value.code == "overloaded"
    first.cancel()
    await turn()
    assert not pool.waiting


async def test_time_runs_while_it_waits() -> None:
    pool, _ = make()
    with pytest.raises(UpstreamError, match="no whole answer") as caught:
        await place(pool, clock.monotonic() + 0.01)
    assert caught.value.code == "deadline_exceeded"


async def test_time_runs_while_it_is_on_its_way() -> None:
    pool, (link,) = make()
    session = link.open(FakeSession())
    late, patient = pending(pool, clock.monotonic()), pending(pool)
    assert pool.session() is session  # type: ignore[comparison-overlap]
    stream = session.request(late, b"", 0, 1)
    session.request(patient, b"", 0, 1)
    with pytest.raises(UpstreamError, match="within 1 s"):
        await late.future
    assert session.cancelled == [stream]
    assert not patient.future.done()
    pool.close("closed")
    with pytest.raises(UpstreamError, match="closed"):
        await patient.future


async def test_lost_connections_are_forgotten() -> None:
    pool, (link,) = make()
    session = link.open(FakeSession())
    gone = weakref.ref(session)
    del session
    link.lose()
    link.open(FakeSession())
    gc.collect()
    assert gone() is None
    pool.close("closed")


async def test_closing_ends_what_waits() -> None:
    pool, (link,) = make()
    task = place(pool)
    await turn()
    pool.close("the client is closed")
    assert link.closed
    with pytest.raises(ServerError, match="the client is closed"):
        await task
