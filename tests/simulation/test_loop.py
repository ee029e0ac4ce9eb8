"""Virtual time: it jumps, it stands still while callbacks run, and what can never come is told."""

from __future__ import annotations

import asyncio

import pytest

from open_autoglm import clock
from open_autoglm.testing.loop import START_S, DeadlockError, LivelockError, TimeLimitError, VirtualLoop


def test_an_hour_passes_at_once_and_everybody_reads_the_same_time() -> None:
    async def main() -> tuple[float, float, float]:
        before_s = clock.wall()
        await asyncio.sleep(3599.5)
        loop = asyncio.get_running_loop()
        return loop.time() - START_S, clock.monotonic() - START_S, clock.wall() - before_s

    real = clock.monotonic, clock.wall
    assert VirtualLoop().run(main()) == pytest.approx((3599.5, 3599.5, 3599.5))
    assert (clock.monotonic, clock.wall) == real


def test_timers_run_in_the_order_of_their_times() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        for wait_s in (3, 1, 2):
            loop.call_later(wait_s, seen.append, wait_s)
        loop.call_later(1.5, seen.append, 9).cancel()
        loop.call_soon(seen.append, 0)
        await asyncio.sleep(4)
        return seen

    assert VirtualLoop().run(main()) == [0, 1, 2, 3]


def test_the_seed_orders_timers_of_one_moment() -> None:
    async def main() -> tuple[int, ...]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        for number in range(8):
            loop.call_later(1.0, seen.append, number)
        await asyncio.sleep(2)
        return tuple(seen)

    orders = {VirtualLoop(seed).run(main()) for seed in range(5)}
    assert len(orders) > 1
    assert VirtualLoop(3).run(main()) == VirtualLoop(3).run(main())


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        VirtualLoop().run(main())


def test_spinning_is_a_livelock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(LivelockError):
        VirtualLoop().run(main())


def test_a_program_has_so_much_time() -> None:
    with pytest.raises(TimeLimitError):
        VirtualLoop(limit_s=5.0).run(asyncio.sleep(6.0))


def test_what_is_left_running_is_cancelled() -> None:
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("cancelled")

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(lasting())
        await asyncio.sleep(1)
        return task

    assert VirtualLoop().run(main()).cancelled()
    assert ended == ["cancelled"]


def test_a_failing_callback_is_noted_and_ends_nothing() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    loop = VirtualLoop()
    loop.run(main())
    assert [type(failure["exception"]) for failure in loop.failures] == [ZeroDivisionError]


def test_without_a_network_nothing_can_be_opened() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "up-1", 80)

    with pytest.raises(OSError, match="no network"):
        VirtualLoop().run(main())
