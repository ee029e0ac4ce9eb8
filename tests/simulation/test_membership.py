"""Clusters in virtual time: who is taken for dead, who is found again, and how soon. 1,000 seeds: see benchmarks."""

from __future__ import annotations

import random
from itertools import product

import pytest
from benchmarks.membership import run_seed, summary

from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.testing.gossip_world import GossipWorld

NAMES = [f"m{number}" for number in range(8)]


def cluster(
    seed: int, *, loss: float = 0.0, names: list[str] = NAMES, settings: SwimSettings | None = None
) -> GossipWorld:
    """Members that all know each other; the first is a server and the seed of the others."""
    world = GossipWorld(seed, settings, loss=loss)
    for name in names:
        world.start(name, role="server" if name == names[0] else "node", seeds=(names[0],))
    assert world.run(10.0, lambda: all(len(world.view(name)) == len(names) - 1 for name in names)) is not None
    return world


def states(world: GossipWorld, name: str) -> set[str]:
    """What the others that are up think of a member."""
    return {world.view(other)[name].state for other, site in world.sites.items() if site.up and other != name}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_members_under_loss_and_one_way_partitions(seed: int) -> None:
    figures = run_seed((seed, 100))
    assert figures["false_deaths_loss"] == figures["false_deaths_cut"] == figures["false_deaths_end"] == 0
    assert figures["deaths_true"] == 3 * 98
    assert figures["join_all_s"] < 3.0
    assert figures["load_first_s"] < 0.25
    assert figures["load_all_s"] < 2.5
    assert figures["death_all_s"] < 8.0
    assert figures["quiet_bytes"] < 12_000
    assert summary([figures])["unfinished"] == 0


def test_the_same_seed_gives_the_same_run() -> None:
    assert run_seed((7, 12)) == run_seed((7, 12))


@pytest.mark.parametrize("seed", range(20))
def test_a_death_among_six_is_known_to_all_within_three_seconds(seed: int) -> None:
    world = cluster(seed, names=NAMES[:6])
    world.run(1.0)
    crashed_s = world.now_s
    world.crash("m3")
    known_s = world.run(10.0, lambda: states(world, "m3") == {"dead"})
    assert known_s is not None
    assert known_s - crashed_s < 3.0


def test_one_that_nobody_hears_is_dead_and_comes_back_when_the_line_heals() -> None:
    world = cluster(5)
    world.cut = {("m4", other) for other in NAMES}
    assert world.run(15.0, lambda: states(world, "m4") == {"dead"}) is not None
    world.cut.clear()
    assert world.run(30.0, lambda: states(world, "m4") == {"alive"}) is not None


def test_halves_that_took_each_other_for_dead_find_together() -> None:
    world = cluster(6)
    left, right = NAMES[:4], NAMES[4:]
    world.cut = {*product(left, right), *product(right, left)}
    assert world.run(
        20.0, lambda: states(world, "m7") == {"alive", "dead"} and states(world, "m0") == {"alive", "dead"}
    )
    world.run(10.0)
    world.cut.clear()
    assert world.run(60.0, lambda: all(states(world, name) == {"alive"} for name in NAMES)) is not None


def test_a_restart_under_the_same_name_is_a_new_life() -> None:
    world = cluster(7)
    world.crash("m2")
    world.run(0.3)
    world.start("m2", seeds=("m0",), models=2)
    restarted = world.sites["m2"].swim.roster.me.start
    assert (
        world.run(5.0, lambda: all(world.view(n)["m2"].record.start == restarted for n in NAMES if n != "m2"))
        is not None
    )
    world.run(5.0)
    assert states(world, "m2") == {"alive"}
    assert world.view("m0")["m2"].record.models == (("model-0", "version-0"), ("model-1", "version-1"))


def test_a_seed_that_restarts_without_seeds_of_its_own_knows_all_again_at_once() -> None:
    world = cluster(8)
    world.crash("m0")
    world.run(0.5)
    started_s = world.now_s
    world.start("m0", role="server")
    known_s = world.run(10.0, lambda: len(world.view("m0")) == len(NAMES) - 1)
    assert known_s is not None
    assert known_s - started_s < 1.5


def test_a_seed_that_was_dead_for_long_is_found_again() -> None:
    world = cluster(9)
    world.crash("m0")
    world.run(60.0)
    started_s = world.now_s
    world.start("m0", role="server")
    known_s = world.run(30.0, lambda: len(world.view("m0")) == len(NAMES) - 1)
    assert known_s is not None
    assert known_s - started_s < 8.0


def test_who_leaves_is_not_suspected_and_is_forgotten_later() -> None:
    world = cluster(10, settings=SwimSettings(forget_s=30.0))
    world.act("m5", lambda swim, now_s: swim.leave(now_s))
    world.run(0.1)
    world.crash("m5")
    assert world.run(5.0, lambda: states(world, "m5") == {"left"}) is not None
    world.run(80.0)
    assert all("m5" not in world.view(name) for name in NAMES if name != "m5")
    assert not any(site.deaths for site in world.sites.values())


def test_draining_is_known_to_all_and_survives_a_suspicion() -> None:
    world = cluster(11)
    world.act("m6", lambda swim, now_s: swim.drain(now_s))
    assert world.run(5.0, lambda: states(world, "m6") == {"draining"}) is not None
    world.cut = {("m6", other) for other in NAMES}
    assert world.run(5.0, lambda: states(world, "m6") == {"suspect"}) is not None
    world.cut.clear()
    assert world.run(5.0, lambda: states(world, "m6") == {"draining"}) is not None


def test_loads_reach_the_server_in_order_and_only_the_newest_counts() -> None:
    world = cluster(12, loss=0.2)
    for running in range(1, 40):
        world.act("m3", lambda swim, now_s, n=running: swim.set_load(LoadReport(running=n, slots=64), now_s))  # type: ignore[misc]
        world.run(0.05)
    known_s = world.run(5.0, lambda: (load := world.view("m0")["m3"].load) is not None and load.running == 39)
    assert known_s is not None


def test_two_processes_of_one_name_do_not_fight() -> None:
    world = cluster(13)
    world.run(1.0)
    first = world.sites["m1"]
    record = first.swim.roster.me
    from msgspec import structs

    other = structs.replace(record, start=record.start + 10_000_000, gossip="elsewhere:1", incarnation=0)
    from open_autoglm.membership.wire import Entry

    world.act("m0", lambda swim, now_s: swim.merge([Entry("alive", other, None)], "m2", now_s))
    world.run(3.0)
    assert first.swim.roster.displaced
    sent = first.sent_bytes
    world.run(3.0)
    assert first.sent_bytes == sent


@pytest.mark.parametrize("seed", range(10))
def test_doubts_about_members_that_are_there_make_nobody_dead(seed: int) -> None:
    world = cluster(seed, loss=0.1)
    rng = random.Random(seed)
    for _ in range(120):
        for name in rng.sample(NAMES, 4):
            for other in rng.sample([each for each in NAMES if each != name], 2):
                world.sites[name].swim.doubt(other)
        world.run(0.25)
    assert not any(site.deaths for site in world.sites.values())
    world.run(3.0)
    assert all(states(world, name) == {"alive"} for name in NAMES)


def seconds_to_suspicion(seed: int, *, doubted: bool) -> float:
    """From a crash among 24 until the first of them suspects it; a death that is known to all follows."""
    world = cluster(seed, names=[f"m{number}" for number in range(24)])
    world.run(1.0)
    crashed_s = world.now_s
    world.crash("m9")
    if doubted:
        world.sites["m0"].swim.doubt("m9")
    suspected_s = world.run(20.0, lambda: world.view("m0")["m9"].state != "alive")
    assert suspected_s is not None
    assert world.run(20.0, lambda: states(world, "m9") == {"dead"}) is not None
    assert world.now_s - crashed_s < 6.0
    return suspected_s - crashed_s


def test_who_is_doubted_when_it_dies_is_asked_at_once() -> None:
    doubted = [seconds_to_suspicion(seed, doubted=True) for seed in range(8)]
    assert max(doubted) <= 2 * SwimSettings().interval_s + 0.01
    assert sum(doubted) < sum(seconds_to_suspicion(seed, doubted=False) for seed in range(8))
