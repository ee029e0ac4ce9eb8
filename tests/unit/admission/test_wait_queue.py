import pytest

from open_autoglm.admission.settings import AdmissionSettings
from open_autoglm.admission.wait_queue import WaitQueue

FAR_S = 1e6
CRITICAL, SHEDDABLE = 2, 0


def make(capacity: int = 8) -> WaitQueue[str]:
    return WaitQueue(AdmissionSettings(), capacity)


def offer(queue: WaitQueue[str], item: str, tenant: str = "a", priority: int = CRITICAL, now_s: float = 0.0) -> int:
    return queue.offer(item, tenant, priority, now_s, FAR_S)


def drain(queue: WaitQueue[str], now_s: float = 0.0) -> list[str]:
    taken = []
    while (item := queue.take(now_s)) is not None:
        taken.append(item)
    return taken


def test_one_tenant_is_served_in_the_order_of_its_coming() -> None:
    queue = make()
    assert [offer(queue, name) for name in "xyz"] == [1, 2, 3]
    assert queue.waiting == 3
    assert drain(queue) == ["x", "y", "z"]
    assert queue.waiting == 0
    assert queue.take(0.0) is None


def test_a_higher_class_goes_first_and_its_position_says_so() -> None:
    queue = make()
    assert offer(queue, "batch", priority=SHEDDABLE) == 1
    assert offer(queue, "person") == 1
    assert offer(queue, "batch 2", priority=SHEDDABLE) == 3
    assert queue.depths() == (2, 0, 1, 0)
    assert drain(queue) == ["person", "batch", "batch 2"]


def test_tenants_of_a_class_take_turns() -> None:
    queue = make()
    for number in range(5):
        offer(queue, f"many {number}", "many")
    assert offer(queue, "one", "one") == 2
    assert drain(queue) == ["many 0", "one", "many 1", "many 2", "many 3", "many 4"]


def test_a_costly_request_takes_as_many_turns() -> None:
    queue = make()
    queue.offer("long", "long", CRITICAL, 0.0, FAR_S, cost=3)
    for number in range(4):
        offer(queue, f"short {number}", "short")
    assert drain(queue) == ["short 0", "short 1", "long", "short 2", "short 3"]


def test_what_was_put_back_is_next_again() -> None:
    queue = make()
    offer(queue, "x", "a")
    offer(queue, "y", "b")
    assert queue.take(0.0) == "x"
    assert queue.waiting == 1
    queue.put_back("x")
    assert queue.waiting == 2
    assert drain(queue) == ["x", "y"]


def test_a_higher_class_that_came_meanwhile_goes_before_what_was_put_back() -> None:
    queue = make()
    offer(queue, "batch", priority=SHEDDABLE)
    assert queue.take(0.0) == "batch"
    queue.put_back("batch")
    offer(queue, "person")
    assert drain(queue) == ["person", "batch"]


def test_only_what_was_just_taken_can_be_put_back() -> None:
    queue = make()
    offer(queue, "x")
    queue.take(0.0)
    offer(queue, "y")
    with pytest.raises(AssertionError, match="only what was just taken"):
        queue.put_back("x")


def test_a_full_queue_refuses_a_tenant_that_has_the_most_waiters() -> None:
    queue = make(capacity=3)
    assert [offer(queue, str(number)) for number in range(4)] == [1, 2, 3, 0]
    assert queue.expire(0.0) == []


def test_a_full_queue_makes_room_for_a_tenant_with_fewer_waiters() -> None:
    queue = make(capacity=3)
    for number in range(3):
        offer(queue, f"many {number}", "many")
    assert offer(queue, "one", "one") == 2
    assert queue.waiting == 4, "the one that must go has still to be told"
    assert queue.expire(0.0) == ["many 2"]
    assert queue.waiting == 3
    assert offer(queue, "one more", "one") == 0, "both have the same share now, or would with it"


def test_a_full_queue_makes_room_for_a_higher_class() -> None:
    queue = make(capacity=2)
    offer(queue, "batch", "b", SHEDDABLE)
    offer(queue, "person", "a")
    assert offer(queue, "person 2", "a") == 2
    assert offer(queue, "person 3", "a") == 0
    assert offer(queue, "batch 2", "b", SHEDDABLE) == 0
    assert queue.expire(0.0) == ["batch"]


def test_waiters_age_after_a_second_or_a_quarter_of_their_time() -> None:
    queue = make()
    queue.offer("patient", "a", CRITICAL, 0.0, 100.0)
    queue.offer("hurried", "a", CRITICAL, 0.0, 2.0)
    assert queue.expire(0.49) == []
    assert queue.expire(0.5) == ["hurried"]
    assert queue.expire(0.99) == []
    assert queue.expire(1.0) == ["patient"]
    assert queue.waiting == 0


def test_one_that_aged_is_not_taken_and_is_still_told() -> None:
    queue = make()
    queue.offer("hurried", "a", CRITICAL, 0.0, 0.2)
    queue.offer("patient", "a", CRITICAL, 0.0, 100.0)
    assert queue.take(0.06) == "patient"
    assert queue.waiting == 1
    assert queue.expire(0.06) == ["hurried"]


def test_one_that_left_is_neither_taken_nor_told() -> None:
    queue = make(capacity=2)
    offer(queue, "x", "many")
    offer(queue, "y", "many")
    offer(queue, "z", "one")
    queue.discard("y")
    queue.discard("x")
    queue.discard("nobody")
    assert queue.expire(5.0) == ["z"]
    assert queue.waiting == 0


def test_the_oldest_wait_is_told() -> None:
    queue = make()
    assert queue.oldest_wait_s(9.0) == 0.0
    offer(queue, "x", now_s=1.0)
    offer(queue, "y", priority=SHEDDABLE, now_s=0.5)
    assert queue.oldest_wait_s(1.25) == 0.75


def test_the_last_one_is_first_where_the_first_ones_are_lost() -> None:
    queue = make()
    for number in range(4):
        offer(queue, str(number))
    # Nothing was served for 0.2 s: at this rate nobody would be before ageing.
    assert offer(queue, "late", now_s=0.2) == 1
    assert queue.take(0.2) == "late"


def test_the_first_one_stays_first_while_all_can_be_served() -> None:
    queue = make(capacity=64)
    served = []
    for step in range(40):
        now_s = step * 0.01
        offer(queue, f"{step} a", now_s=now_s)
        if step % 2:
            offer(queue, f"{step} b", now_s=now_s)
        served.append(queue.take(now_s))
    numbers = [int(str(name).split()[0]) for name in served]
    assert queue.oldest_wait_s(0.4) > 0.1
    assert numbers == sorted(numbers)
