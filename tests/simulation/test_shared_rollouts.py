"""Rollouts that several servers share: cut lines, crashes, commands at the same time. They end with one answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.simulation.shared_rollouts import MODEL, World

from open_autoglm.rollout.plan import RolloutRules
from open_autoglm.testing.loop import VirtualLoop

RULES = RolloutRules()
SEEDS = range(12)
LAST_S = 30.0
"""After this long without a fault everything that is to follow has followed."""


def simulate(seed: int, story: Callable[[World], Coroutine[Any, Any, None]], servers: int = 3, nodes: int = 4) -> None:
    """Run a story in a world of its own."""

    async def main() -> None:
        world = World(asyncio.get_running_loop(), random.Random(seed), servers, nodes)
        try:
            await story(world)
        finally:
            world.close()

    VirtualLoop(seed).run(main())


async def start(world: World, name: str, share: float = 0.5, version: str = "new") -> str:
    return await world.command(name, lambda rollouts: rollouts.start(MODEL, version, share, RULES))


async def rollback(world: World, name: str) -> str:
    return await world.command(name, lambda rollouts: rollouts.rollback(MODEL))


async def promote(world: World, name: str) -> str:
    return await world.command(name, lambda rollouts: rollouts.promote(MODEL))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_server_steers_by_what_one_of_them_was_told(seed: int) -> None:
    async def story(world: World) -> None:
        assert await start(world, "s0", 0.25) == ""
        await asyncio.sleep(5.0)
        late = world.start("s9")
        rows = [site.rollouts.row(MODEL) for site in world.up()]
        assert {(row["state"], row["share"], row["by"]) for row in rows} == {("running", 0.25, "s0")}
        for affinity in range(1, 40):
            chosen = [site.group(MODEL).acquire(1.0, affinity) for site in world.up()]  # type: ignore[union-attr]
            assert len({world.serving[endpoint.url] for endpoint in chosen if endpoint}) == 1
        assert await world.command("s2", lambda rollouts: rollouts.set_share(MODEL, 0.75)) == ""
        await asyncio.sleep(LAST_S)
        assert late.rollouts.row(MODEL)["share"] == 0.75
        assert sorted(world.serving.values()) == ["new", "new", "new", "old"]

    simulate(seed, story)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("after_s", [0.02, 0.3, 0.8, 5.0])
def test_what_a_server_began_that_crashed_another_one_sees_and_ends(seed: int, after_s: float) -> None:
    async def story(world: World) -> None:
        begun = asyncio.ensure_future(start(world, "s0"))
        await asyncio.sleep(after_s)
        world.sites["s0"].crash()
        await begun
        await asyncio.sleep(5.0)
        if after_s < 0.1 and world.agreed() is None:
            return  # not even a datagram had left, nor was a node told
        assert world.sites["s1"].rollouts.row(MODEL)["state"] == "running"
        assert await rollback(world, "s1") == ""
        await asyncio.sleep(LAST_S)
        assert set(world.serving.values()) == {"old"}
        back = world.start("s0")
        assert back.rollouts.row(MODEL)["state"] == "rolled_back", "and it learns of it when it is back"

    simulate(seed, story)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollback_on_one_side_of_a_cut_wins_over_a_promotion_on_the_other(seed: int) -> None:
    async def story(world: World) -> None:
        assert await start(world, "s0") == ""
        await asyncio.sleep(5.0)
        world.sides = [{"s1", "s2", "mcp://n0:1", "mcp://n1:1"}]
        order = [promote(world, "s2"), rollback(world, "s0")]  # of equal clocks the later name would count
        if seed % 2:
            order.reverse()
        for each in order:
            assert await each == ""
            await asyncio.sleep(3.0)
        assert world.sites["s1"].rollouts.row(MODEL)["state"] == "promoted"
        assert world.sites["s0"].rollouts.row(MODEL)["state"] == "rolled_back"
        world.sides = []
        await asyncio.sleep(LAST_S)
        record = world.agreed()
        assert record is not None
        assert record.state == "rolled_back"
        assert set(world.serving.values()) == {"old"}, "the nodes beyond the cut followed as well"
        for site in world.up():
            [conflict] = site.rollouts.row(MODEL)["conflicts"]
            assert (conflict["kept"]["state"], conflict["lost"]["state"]) == ("rolled_back", "promoted")
            assert not conflict["settled"]
        assert await start(world, "s2") == "", "the next step is written over both"
        await asyncio.sleep(5.0)
        assert all(site.rollouts.row(MODEL)["conflicts"][0]["settled"] for site in world.up())

    simulate(seed, story)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.7, 1.5])
def test_a_rollback_while_another_server_tells_nodes_to_go_on_is_what_is_left(seed: int, after_s: float) -> None:
    async def story(world: World) -> None:
        assert await start(world, "s2", 0.25) == ""
        await asyncio.sleep(5.0)
        forward = asyncio.ensure_future(promote(world, "s2"))
        await asyncio.sleep(after_s)
        assert await rollback(world, "s0") == ""
        await forward
        await asyncio.sleep(LAST_S)
        record = world.agreed()
        assert record is not None
        assert record.state == "rolled_back"
        assert set(world.serving.values()) == {"old"}

    simulate(seed, story)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_starts_at_once_one_is_left(seed: int) -> None:
    async def story(world: World) -> None:
        told = await asyncio.gather(start(world, "s0", version="new"), start(world, "s1", version="newer"))
        await asyncio.sleep(LAST_S)
        record = world.agreed()
        assert record is not None
        assert record.state == "running"
        assert "" in told
        assert set(world.serving.values()) <= {"old", record.candidate}
        assert all(len(site.rollouts.row(MODEL)["conflicts"]) == 1 for site in world.up())

    simulate(seed, story)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_servers_end_with_one_answer_and_a_rollback_brings_every_node_back(seed: int) -> None:
    async def story(world: World) -> None:
        rng = random.Random(seed)
        running: list[asyncio.Task[str]] = []
        for _ in range(12):
            names = [site.name for site in world.up()]
            name = rng.choice(names)
            match rng.randrange(8):
                case 0 | 1:
                    running.append(
                        asyncio.ensure_future(start(world, name, rng.random(), rng.choice(("new", "newer"))))
                    )
                case 2:
                    running.append(asyncio.ensure_future(promote(world, name)))
                case 3:
                    running.append(asyncio.ensure_future(rollback(world, name)))
                case 4:
                    share = rng.random()
                    step = world.command(name, lambda rollouts, share=share: rollouts.set_share(MODEL, share))  # type: ignore[misc]
                    running.append(asyncio.ensure_future(step))
                case 5:
                    world.sides = [{each for each in (*names, *world.serving) if rng.random() < 0.5}]
                case 6:
                    world.sides = []
                case _:
                    if len(names) > 2:
                        world.sites[name].crash()
                    else:
                        world.start(rng.choice(sorted(set(world.sites) - set(names))))
            await asyncio.sleep(rng.choice((0.05, 0.5, 4.0)))
        world.sides = []
        await asyncio.gather(*running)
        await asyncio.sleep(LAST_S)
        record = world.agreed()
        if record is None:
            return
        rows = [site.rollouts.row(MODEL) for site in world.up()]
        assert len({(row["state"], row["share"], row["by"]) for row in rows}) == 1
        told = await rollback(world, rng.choice(world.up()).name)
        assert told == ""
        await asyncio.sleep(LAST_S)
        after = world.agreed()
        assert after is not None
        assert (after.state, after.run) == ("rolled_back", record.run)
        assert record.candidate not in world.serving.values()

    simulate(seed, story, servers=4, nodes=5)
