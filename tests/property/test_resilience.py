"""The mechanisms of resilience against plain models that remember everything."""

import random
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from open_autoglm.resilience.backoff import parse_retry_after
from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.call_window import FAILED, FAILED_SLOW, GOOD, SLOW, CallWindow
from open_autoglm.resilience.key_limiter import KeyLimiter
from open_autoglm.resilience.settings import BreakerProfile, BreakerSettings, KeyLimits
from open_autoglm.resilience.sliding_window import SlidingWindow
from open_autoglm.resilience.token_bucket import TokenBucket

# A slow machine is no failure.
UNTIMED = settings(deadline=None)
STARTS_S = st.sampled_from([0.0, 0.9, 12345.6, 1e6 + 0.3])
STEPS_S = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 200.0)), max_size=120)


@UNTIMED
@given(STARTS_S, STEPS_S, st.integers(1, 10))
def test_no_sixty_seconds_ever_hold_more_than_the_limit(start_s: float, steps_s: list[float], limit: int) -> None:
    window = SlidingWindow(limit)
    now_s = start_s
    granted: list[float] = []
    for step_s in steps_s:
        now_s += step_s
        wait_s = window.take(now_s)
        if wait_s == 0.0:
            granted.append(now_s)
            assert sum(at_s > now_s - 60.0 for at_s in granted) <= limit
        else:
            # Refused at most a second longer than by a window that remembers every arrival.
            assert sum(at_s > now_s - 61.0 - 1e-9 for at_s in granted) >= limit
            assert 0.0 < wait_s <= 61.0


@UNTIMED
@given(STARTS_S, STEPS_S, st.integers(1, 10))
def test_the_wait_of_a_window_is_right(start_s: float, steps_s: list[float], limit: int) -> None:
    window = SlidingWindow(limit)
    now_s = start_s
    for step_s in steps_s:
        now_s += step_s
        wait_s = window.take(now_s)
        if wait_s > 1e-6:
            assert window.wait_s(now_s + wait_s - 1e-6) > 0.0
            now_s += wait_s + 1e-6
            assert window.take(now_s) == 0.0


@UNTIMED
@given(STARTS_S, STEPS_S, st.floats(0.1, 50.0), st.integers(1, 20))
def test_a_bucket_grants_its_rate_and_burst_and_nothing_else(
    start_s: float, steps_s: list[float], rate: float, burst: int
) -> None:
    bucket = TokenBucket(rate, burst, start_s)
    now_s = start_s
    level = float(burst)
    for step_s in steps_s:
        before_s, now_s = now_s, now_s + step_s
        level = min(burst, level + (now_s - before_s) * rate)
        assert abs(bucket.remaining(now_s) - int(level)) <= (abs(level - round(level)) < 1e-3)
        wait_s = bucket.take(now_s)
        if wait_s == 0.0:
            assert level > 1.0 - 1e-3
            level -= 1.0
        else:
            assert level < 1.0 + 1e-3
            assert abs(wait_s - (1.0 - level) / rate) < 1e-3 / rate


@UNTIMED
@given(
    STARTS_S,
    st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=120),
    st.builds(
        KeyLimits,
        st.sampled_from([0.0, 0.5, 3.0]),
        st.integers(0, 6),
        st.sampled_from([0, 4, 9]),
        st.sampled_from([0, 2, 5]),
    ),
)
def test_a_key_is_let_in_when_all_its_limits_agree_and_costs_nothing_else(
    start_s: float, moves: list[tuple[float, bool]], limits: KeyLimits
) -> None:
    limiter = KeyLimiter(limits, start_s)
    rate = limits.requests_per_second
    bucket = TokenBucket(rate, limits.burst or max(1, -int(-rate // 1)), start_s) if rate else None
    window = SlidingWindow(limits.requests_per_minute) if limits.requests_per_minute else None
    in_flight = 0
    now_s = start_s
    for step_s, ends in moves:
        now_s += step_s
        if ends and in_flight:
            limiter.release()
            in_flight -= 1
        fits = (
            (bucket is None or bucket.remaining(now_s) >= 1)
            and (window is None or window.remaining(now_s) >= 1)
            and (not limits.concurrency or in_flight < limits.concurrency)
        )
        assert (limiter.admit(now_s) == 0.0) == fits
        if fits:
            in_flight += 1
            assert bucket is None or bucket.take(now_s) == 0.0
            assert window is None or window.take(now_s) == 0.0
        assert limiter.in_flight == in_flight
        assert limiter.remaining(now_s) <= max(limiter.limit, 0)


@UNTIMED
@given(st.integers(1, 12), st.floats(0.5, 40.0), STEPS_S, st.randoms(use_true_random=False))
def test_a_window_of_calls_counts_what_it_should(
    calls_max: int, age_max_s: float, steps_s: list[float], rng: random.Random
) -> None:
    window = CallWindow(calls_max, age_max_s)
    seen: list[tuple[float, int]] = []
    now_s = 100.0
    for step_s in steps_s:
        now_s += step_s
        if rng.random() < 0.8:
            mark = rng.choice([GOOD, FAILED, SLOW, FAILED_SLOW])
            window.record(now_s, mark)
            seen.append((now_s, mark))
        live = [mark for at_s, mark in seen[-calls_max:] if at_s >= now_s - age_max_s]
        failed = sum(mark in (FAILED, FAILED_SLOW) for mark in live)
        slow = sum(mark in (SLOW, FAILED_SLOW) for mark in live)
        assert window.count(now_s) == (len(live), failed, slow)


@UNTIMED
@given(st.text(max_size=60), st.floats(0.0, 4e9))
def test_any_retry_after_is_a_wait_or_nothing(value: str, wall_s: float) -> None:
    wait_s = parse_retry_after(value, wall_s)
    assert wait_s is None or 0.0 <= wait_s < inf


class BreakerMachine(RuleBasedStateMachine):
    """Invariants of the breaker under any order of events."""

    @initialize(profile=st.sampled_from(["adaptive", "classic"]), seed=st.integers(0, 1000))
    def begin(self, profile: BreakerProfile, seed: int) -> None:
        self.profile = profile
        self.breaker = CircuitBreaker(BreakerSettings(profile=profile), random.Random(seed), slow_s=1.0)
        self.now_s = 1000.0
        self.out: list[int] = []
        self.state = "closed"
        self.trials = 0

    @rule(step_s=st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 40.0), st.just(700.0)))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @rule()
    def acquire(self) -> None:
        permitted = self.breaker.permits(self.now_s)
        permit = self.breaker.acquire(self.now_s)
        assert (permit > 0) == permitted
        if permit:
            self.out.append(permit)
            assert self.breaker.state in ("closed", "half_open", "disabled")

    @rule(data=st.data(), how=st.sampled_from(["good", "slow", "fail", "fail", "release"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if not self.out:
            return
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.breaker.snapshot()
        match how:
            case "good":
                self.breaker.success(permit, self.now_s, 0.2)
            case "slow":
                self.breaker.success(permit, self.now_s, 50.0, 6.0)
            case "fail":
                self.breaker.failure(permit, self.now_s)
            case _:
                self.breaker.release(permit, self.now_s)
        if permit != before.generation:
            assert self.breaker.snapshot() == before, "a stale permit counted"

    @rule(how=st.sampled_from(["probe", "probe", "trial", "trial", "force", "disable", "reset"]))
    def interfere(self, how: str) -> None:
        match how:
            case "probe":
                self.breaker.probe_ok(self.now_s)
            case "trial":
                permit = self.breaker.acquire_trial(self.now_s)
                if permit:
                    self.out.append(permit)
            case "force":
                self.breaker.force_open(self.now_s)
            case "disable":
                self.breaker.disable(self.now_s)
            case _:
                self.breaker.reset(self.now_s)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "breaker"):
            return
        breaker = self.breaker
        for change in breaker.take_transitions():
            assert change.before == self.state
            assert change.after != change.before
            assert change.now_s <= self.now_s
            self.state = change.after
        assert breaker.state == self.state
        seen = breaker.snapshot()
        assert seen.trials_out + seen.trials_good + seen.trials_bad <= (3 if self.profile == "adaptive" else 1)
        assert seen.failures <= seen.calls <= 100
        if breaker.healthy:
            assert self.state in ("closed", "disabled")
            assert breaker.acquire(self.now_s) == seen.generation
        assert 0.1 <= breaker.weight(self.now_s) <= 1.0
        if self.state == "open":
            assert breaker.retry_at_s(self.now_s) <= self.now_s + 36.0


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(UNTIMED, max_examples=60, stateful_step_count=50)
