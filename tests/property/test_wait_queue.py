"""The wait queue under arbitrary use: nothing is lost or told twice, bounds hold, and nobody's share is another's."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from open_autoglm.admission.fair_ring import SAVED_MAX
from open_autoglm.admission.settings import AdmissionSettings
from open_autoglm.admission.wait_queue import WaitQueue

CAPACITY = 6
FAR_S = 1e9

tenants = st.sampled_from("abcd")
priorities = st.integers(0, 3)


class WaitQueueUse(RuleBasedStateMachine):
    """Any calls in any order, beside a set that knows who must still hear."""

    items = Bundle("items")

    def __init__(self) -> None:
        super().__init__()
        self.queue: WaitQueue[int] = WaitQueue(AdmissionSettings(), CAPACITY)
        self.open: set[int] = set()
        self.taken: int | None = None
        self.now_s = 10.0
        self.serial = 0

    @rule(target=items, tenant=tenants, priority=priorities, remaining_s=st.floats(0.1, 10), cost=st.integers(0, 10))
    def offer(self, tenant: str, priority: int, remaining_s: float, cost: int) -> int:
        self.serial += 1
        item, self.taken = self.serial, None
        position = self.queue.offer(item, tenant, priority, self.now_s, self.now_s + remaining_s, cost=cost)
        assert 0 <= position <= CAPACITY
        if position:
            self.open.add(item)
        return item

    @rule()
    def take(self) -> None:
        self.taken = self.queue.take(self.now_s)
        if self.taken is not None:
            self.open.remove(self.taken)

    @precondition(lambda self: self.taken is not None)
    @rule()
    def put_back(self) -> None:
        assert self.taken is not None
        self.queue.put_back(self.taken)
        self.open.add(self.taken)
        again = self.queue.take(self.now_s)
        assert again == self.taken
        self.queue.put_back(again)
        self.taken = None

    @rule()
    def expire(self) -> None:
        self.taken = None
        told = self.queue.expire(self.now_s)
        assert len(told) == len(set(told))
        self.open.difference_update(told) if self.open.issuperset(told) else self.fail(told)

    @rule(item=consumes(items))
    def discard(self, item: int) -> None:
        self.taken = None
        self.queue.discard(item)
        self.open.discard(item)

    @rule(seconds=st.floats(0.0, 1.5))
    def wait(self, seconds: float) -> None:
        self.taken = None
        self.now_s += seconds

    def fail(self, told: list[int]) -> None:
        raise AssertionError(f"{told} were told, and only {self.open} wait")

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.waiting == len(self.open)
        assert sum(self.queue.depths()) <= CAPACITY + (self.taken is not None)
        assert 0.0 <= self.queue.oldest_wait_s(self.now_s) <= self.now_s

    def teardown(self) -> None:
        told = self.queue.expire(self.now_s + 100.0)
        assert set(told) == self.open
        assert self.queue.waiting == 0
        assert self.queue.take(self.now_s + 100.0) is None


WaitQueueUse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestWaitQueueUse = WaitQueueUse.TestCase


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    served=st.integers(0, 10),
)
def test_between_two_turns_of_a_tenant_every_other_one_has_one_at_most(sizes: list[int], served: int) -> None:
    queue: WaitQueue[tuple[int, int]] = WaitQueue(AdmissionSettings(), 1000)
    for tenant, size in enumerate(sizes):
        for number in range(size):
            queue.offer((tenant, number), str(tenant), 2, 0.0, FAR_S)
    order = []
    while (item := queue.take(0.0)) is not None:
        order.append(item)
    assert sorted(order) == sorted((tenant, n) for tenant, size in enumerate(sizes) for n in range(size))
    for tenant, size in enumerate(sizes):
        turns = [place for place, item in enumerate(order) if item[0] == tenant]
        for earlier, later in zip([-1, *turns], turns, strict=False):
            between = [item[0] for item in order[earlier + 1 : later]]
            assert len(between) == len(set(between)), "a tenant went twice before another's turn"
        assert [item[1] for item in order if item[0] == tenant] == list(range(size))


@given(ahead=st.integers(1, 200), others=st.integers(0, 5))
def test_a_newcomer_waits_for_one_request_of_each_tenant_however_many_they_sent(ahead: int, others: int) -> None:
    queue: WaitQueue[str] = WaitQueue(AdmissionSettings(), 1000)
    for number in range(ahead):
        queue.offer(f"hog {number}", "hog", 2, 0.0, FAR_S)
    for number in range(others):
        queue.offer(f"other {number}", f"other {number}", 2, 0.0, FAR_S)
    position = queue.offer("new", "new", 2, 0.0, FAR_S)
    order = [queue.take(0.0) for _ in range(position)]
    assert position == others + 2
    assert order[-1] == "new"


@given(
    arrivals=st.lists(st.tuples(tenants, priorities, st.integers(1, 8)), min_size=1, max_size=60),
)
def test_nobody_is_served_later_than_its_position_says(arrivals: list[tuple[str, int, int]]) -> None:
    for last in range(len(arrivals)):
        queue: WaitQueue[int] = WaitQueue(AdmissionSettings(), 1000)
        for number, (tenant, priority, cost) in enumerate(arrivals[: last + 1]):
            position = queue.offer(number, tenant, priority, 0.0, FAR_S, cost=cost)
        order = [queue.take(0.0) for _ in range(last + 1)]
        assert order.index(last) + 1 <= position


@given(
    history=st.lists(st.tuples(tenants, st.integers(1, 8), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_positions_hold_whatever_tenants_have_saved(history: list[tuple[str, int, int]]) -> None:
    """Each step offers one and then takes some, so that tenants come back with turns that they left unused."""
    for last in range(len(history)):
        queue: WaitQueue[int] = WaitQueue(AdmissionSettings(), 1000)
        for number, (tenant, cost, taken) in enumerate(history[: last + 1]):
            position = queue.offer(number, tenant, 2, 0.0, FAR_S, cost=cost)
            for _ in range(taken if number < last else 0):
                queue.take(0.0)
        order = [queue.take(0.0) for _ in range(queue.waiting)]
        assert order.index(last) + 1 <= position


@given(
    history=st.lists(st.tuples(tenants, st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=60),
)
def test_savings_give_nobody_more_than_its_share_and_what_may_be_saved(history: list[tuple[str, int, int]]) -> None:
    """Beside one that always waits, no other has had more turns than that one and its savings."""
    queue: WaitQueue[tuple[str, int]] = WaitQueue(AdmissionSettings(), 10_000)
    serial = 0
    for serial in range(2000):
        queue.offer(("hog", serial), "hog", 2, 0.0, FAR_S)
    served = dict.fromkeys([*"abcd", "hog"], 0)
    for tenant, offered, taken in history:
        for _ in range(offered):
            serial += 1
            queue.offer((tenant, serial), tenant, 2, 0.0, FAR_S)
        for _ in range(taken):
            item = queue.take(0.0)
            assert item is not None
            served[item[0]] += 1
            assert all(served[name] <= served["hog"] + SAVED_MAX + 1 for name in "abcd"), served


def overload(
    queue: WaitQueue[tuple[int, float]], factor: float, *, seconds: float, seed: int
) -> dict[str, list[float]]:
    """Serve 100 requests a second while `factor` times as many come; return waits of the served and of the refused."""
    rng = random.Random(seed)
    waits: dict[str, list[float]] = {"served": [], "refused": []}
    now_s = due_s = served_s = 0.0
    serial = 0
    while now_s < seconds:
        now_s += 0.001
        while due_s <= now_s:
            serial += 1
            if not queue.offer((serial, now_s), "x", 2, now_s, now_s + 60.0):
                waits["refused"].append(0.0)
            due_s += rng.expovariate(100.0 * factor)
        if round(now_s * 1000) % 10 == 0:
            waits["refused"] += [now_s - item[1] for item in queue.expire(now_s)]
        while served_s <= now_s and (item := queue.take(now_s)) is not None:
            served_s = max(served_s, now_s - 0.001) + rng.expovariate(100.0)
            waits["served"].append(now_s - item[1])
    return waits


@given(seed=st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_in_standing_congestion_refusals_are_told_soon_and_no_room_stays_unused(seed: int) -> None:
    waits = overload(WaitQueue(AdmissionSettings(), 64), 4.0, seconds=30.0, seed=seed)
    refused = sorted(waits["refused"])
    assert len(waits["served"]) >= 0.9 * 30 * 100
    assert refused[int(len(refused) * 0.99)] <= 0.05


@given(seed=st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_a_burst_of_a_second_is_absorbed(seed: int) -> None:
    waits = overload(WaitQueue(AdmissionSettings(), 256), 1.5, seconds=1.0, seed=seed)
    assert waits["refused"] == []
