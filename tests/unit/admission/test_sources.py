from open_autoglm.admission.settings import SourceSettings
from open_autoglm.admission.sources import AddressWatch, KeyWatch

SETTINGS = SourceSettings()
ATTACKER = "203.0.113.9"


def guess(watch: AddressWatch, times: int, now_s: float) -> list[bool]:
    return [watch.failed(ATTACKER, now_s) for _ in range(times)]


def test_the_tenth_failure_in_a_minute_makes_an_address_wait() -> None:
    watch = AddressWatch(SETTINGS)
    assert guess(watch, 9, 0.0) == [False] * 9
    assert watch.wait_s(ATTACKER, 0.0) == 0.0
    assert watch.failed(ATTACKER, 59.0)
    assert watch.wait_s(ATTACKER, 59.0) == 10.0
    assert watch.flagged(60.0) == {ATTACKER: 9.0}
    assert watch.wait_s("198.51.100.1", 59.0) == 0.0


def test_failures_that_are_far_apart_are_human() -> None:
    watch = AddressWatch(SETTINGS)
    assert not any(watch.failed(ATTACKER, 7.0 * number) for number in range(200))


def test_each_further_episode_waits_twice_as_long_up_to_ten_minutes() -> None:
    watch = AddressWatch(SETTINGS)
    now_s, waits = 0.0, []
    for _ in range(8):
        assert guess(watch, 10, now_s)[-1]
        waits.append(watch.wait_s(ATTACKER, now_s))
        now_s += waits[-1]
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0]


def test_after_an_hour_of_peace_an_address_starts_anew() -> None:
    watch = AddressWatch(SETTINGS)
    guess(watch, 10, 0.0)
    guess(watch, 10, 4000.0)
    assert watch.wait_s(ATTACKER, 4000.0) == 10.0


def test_the_table_of_addresses_is_bounded_and_keeps_those_that_failed_last() -> None:
    watch = AddressWatch(SETTINGS)
    guess(watch, 10, 0.0)
    for number in range(10_000):
        watch.failed(f"2001:db8::{number:x}", 1.0)
        if number % 1000 == 0:
            watch.failed(ATTACKER, 1.0)
    assert len(watch) == 4096
    assert watch.wait_s(ATTACKER, 1.0) > 0.0


def test_a_key_whose_requests_are_refused_is_flagged_and_released_when_it_behaves() -> None:
    watch = KeyWatch(0.0)
    assert not watch.look(60, 60, 5.0, SETTINGS)
    assert watch.look(60, 60, 10.0, SETTINGS)
    assert watch.rule == "refused"
    assert watch.rate * 60.0 == SETTINGS.refused_requests
    released_s = next(now_s for now_s in range(15, 1000, 5) if watch.look(1, 0, float(now_s), SETTINGS))
    assert watch.rule is None
    assert released_s >= 70


def test_a_key_with_as_many_good_answers_is_not_flagged() -> None:
    watch = KeyWatch(0.0)
    assert not any(watch.look(500, 400, 5.0 * step, SETTINGS) for step in range(1, 100))


def test_a_few_refusals_are_nothing() -> None:
    watch = KeyWatch(0.0)
    assert not any(watch.look(5, 5, 5.0 * step, SETTINGS) for step in range(1, 100))


def test_a_key_far_above_its_own_mean_is_flagged_and_held_to_what_would_be_usual() -> None:
    watch = KeyWatch(0.0)
    for step in range(1, 721):
        assert not watch.look(40, 0, 5.0 * step, SETTINGS)  # 8/s for an hour
    flagged_s = next(5.0 * step for step in range(1, 60) if watch.look(1000, 0, 3600.0 + 5.0 * step, SETTINGS))
    assert watch.rule == "rate"
    assert 80.0 <= watch.rate <= 130.0
    assert flagged_s <= 60.0


def test_a_key_that_is_seen_for_the_first_time_may_send_what_it_likes() -> None:
    watch = KeyWatch(0.0)
    assert not any(watch.look(5000, 0, 5.0 * step, SETTINGS) for step in range(1, 100))


def test_no_rate_below_the_floor_is_unusual() -> None:
    watch = KeyWatch(0.0)
    for step in range(1, 721):
        watch.look(0, 0, 5.0 * step, SETTINGS)
    assert not any(watch.look(240, 0, 3600.0 + 5.0 * step, SETTINGS) for step in range(1, 100))
