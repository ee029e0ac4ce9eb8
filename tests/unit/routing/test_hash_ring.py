"""The ring: order, evenness, and that few keys move."""

import random

import pytest

from open_autoglm.routing.hash_ring import HashRing


def ring(names: str, points: int = 128) -> HashRing[str]:
    return HashRing((name, name, points) for name in names)


def keys(count: int) -> list[int]:
    rng = random.Random(1)
    return [rng.getrandbits(64) for _ in range(count)]


def test_the_order_of_the_entries_does_not_matter() -> None:
    one, other = ring("abcd"), ring("dbca")
    assert [one.owner(key) for key in keys(500)] == [other.owner(key) for key in keys(500)]


def test_walking_meets_each_once_and_the_owner_first() -> None:
    tested = ring("abcde")
    for key in [0, 2**64 - 1, *keys(200)]:
        met = list(tested.walk(key))
        assert met[0] == tested.owner(key)
        assert sorted(met) == list("abcde")


def test_shares_are_near_even() -> None:
    tested = ring("abcde")
    owners = [tested.owner(key) for key in keys(10_000)]
    assert all(1500 < owners.count(name) < 2500 for name in "abcde")


def test_points_are_shares() -> None:
    tested = HashRing([("a", "a", 128), ("b", "b", 384)])
    owners = [tested.owner(key) for key in keys(10_000)]
    assert 2000 < owners.count("a") < 3000


def test_one_point_owns_everything() -> None:
    assert {ring("a", 1).owner(key) for key in [0, 2**64 - 1, *keys(50)]} == {"a"}


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        HashRing([])
