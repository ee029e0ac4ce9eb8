"""Turns: one each a round, savings of those who leave turns unused, and what bounds them."""

from __future__ import annotations

import pytest

from open_autoglm.admission.fair_ring import AWAY_MAX, SAVED_MAX, FairRing, Waiter


def add(ring: FairRing[str], item: str, cost: int = 1) -> Waiter[str]:
    """Let one wait for the tenant that its first word names."""
    waiter = Waiter(item, ring.lane(item.split()[0]), 2, cost, 0.0, 1.0)
    ring.add(waiter)
    return waiter


def serve(ring: FairRing[str], count: int) -> list[str]:
    order = []
    for _ in range(count):
        waiter = ring.choose(False)
        ring.serve(waiter)
        order.append(waiter.item)
    return order


def beside_a_hog(turns: int) -> FairRing[str]:
    """A ring in which a tenant was served once and has been away while another had so many turns."""
    ring: FairRing[str] = FairRing()
    add(ring, "new 0")
    serve(ring, 1)
    for number in range(100):
        add(ring, f"hog {number}")
    serve(ring, turns)
    return ring


@pytest.mark.parametrize(("turns", "saved"), [(0, 0), (1, 1), (2, 2), (4, 4), (50, SAVED_MAX)])
def test_turns_left_unused_are_served_before_the_ring(turns: int, saved: int) -> None:
    ring = beside_a_hog(turns)
    for number in range(10):
        add(ring, f"new {number}")
    served = serve(ring, saved + 2)
    assert [item.split()[0] for item in served] == ["new"] * saved + ["hog", "new"]


def test_what_is_saved_and_not_used_is_kept() -> None:
    ring = beside_a_hog(SAVED_MAX)
    add(ring, "new 1")
    assert serve(ring, 1) == ["new 1"]
    for number in range(SAVED_MAX):
        add(ring, f"new {number + 2}")
    # One was paid for, and the ring as a whole has gone on by one turn meanwhile.
    assert serve(ring, SAVED_MAX)[: SAVED_MAX - 1] == [f"new {number + 2}" for number in range(SAVED_MAX - 1)]


def test_an_unknown_tenant_has_saved_nothing() -> None:
    ring = beside_a_hog(50)
    add(ring, "stranger 0")
    assert serve(ring, 2)[1] == "stranger 0"


def test_those_with_savings_take_turns_among_themselves() -> None:
    ring: FairRing[str] = FairRing()
    for tenant in "ab":
        add(ring, f"{tenant} 0")
    serve(ring, 2)
    for number in range(20):
        add(ring, f"hog {number}")
    serve(ring, 10)
    for number in range(3):
        add(ring, f"a {number}")
        add(ring, f"b {number}")
    assert serve(ring, 6) == ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2"]


def test_savings_that_do_not_cover_a_request_are_no_turn() -> None:
    ring = beside_a_hog(2)
    add(ring, "new 1", cost=3)
    assert serve(ring, 3) == ["hog 2", "hog 3", "hog 4"], "it needs three turns of the ring"
    assert serve(ring, 1) == ["new 1"]


def test_whoever_leaves_the_line_keeps_its_savings() -> None:
    ring = beside_a_hog(SAVED_MAX)
    ring.remove(add(ring, "new 1"))
    add(ring, "new 2")
    assert serve(ring, 1) == ["new 2"]


def test_only_so_many_of_those_away_are_known() -> None:
    ring = beside_a_hog(1)
    for number in range(AWAY_MAX):
        ring.remove(add(ring, f"other{number} 0"))
    serve(ring, SAVED_MAX)
    add(ring, "new 1")
    assert serve(ring, 1) == [f"hog {SAVED_MAX + 1}"], "it was forgotten"
