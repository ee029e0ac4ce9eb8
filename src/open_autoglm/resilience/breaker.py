"""Circuit breaker of one endpoint: gives it a rest when it fails, and finds out with few calls when it is well again.

| state | lets in | leaves by |
|---|---|---|
| closed | everything | failures or slow calls -> open |
| open | nothing | its time has come, a free health check succeeded, or a lone trial did -> half_open |
| half_open | a few trial calls | most of them good -> closed, else -> open |
| forced_open, disabled | nothing; everything | `reset` -> closed |

Every transition begins a new generation. A permit is the generation it was given in, so a verdict about a call of
an older generation counts for nothing. Rules: semantics 5 of the design; the window of calls and the half-open
trial follow resilience4j's, the slow start Envoy's.
"""

import random
from math import inf

from open_autoglm.resilience.breaker_figures import BreakerSnapshot, BreakerState, Transition
from open_autoglm.resilience.breaker_rules import breaker_rules
from open_autoglm.resilience.call_window import FAILED, FAILED_SLOW, GOOD, SLOW, CallWindow
from open_autoglm.resilience.running_median import RunningMedian
from open_autoglm.resilience.settings import BreakerSettings

__all__ = ["BreakerSnapshot", "BreakerState", "CircuitBreaker", "Transition"]

# Below this many samples the median is hearsay, and nothing is called slow.
_MEDIAN_SAMPLES_MIN = 20
# Ten samples a second make the median long-term even at thousands of calls a second.
_MEDIAN_EVERY_S = 0.1
_TRANSITIONS_MAX = 64


class CircuitBreaker:
    """Decides whether an endpoint may be called, from how its calls ended.

    Give every permit back once: `success`, `failure`, or `release` when the call says nothing about the endpoint
    (cancelled, 4xx, 429, shed). A streamed trial call is best told as a success at its first content, since many
    answers last longer than the 30 s in which a half-open breaker decides. `now_s` is monotonic seconds and never
    goes back.

    Args:
        settings: profile and thresholds.
        rng: for the jitter of the rests.
        slow_s: a first token sooner than this is never slow, seconds >= 0.

    Attributes:
        state: the state as of the last call to this object.
        healthy: closed at full weight (or disabled): whoever sees it need not ask `permits` or `weight`. Read only.
        transitions: changes not yet taken, at most 64, the oldest dropped first. Read only; see `take_transitions`.
    """

    __slots__ = (
        "_changed_s",
        "_closed_generation",
        "_failures_in_a_row",
        "_gap_slow_s",
        "_generation",
        "_median",
        "_median_next_s",
        "_open_until_s",
        "_openings",
        "_rng",
        "_rules",
        "_slow_limit_s",
        "_slow_s",
        "_trials_bad",
        "_trials_good",
        "_trials_out",
        "_trials_until_s",
        "_warm_s",
        "_window",
        "healthy",
        "state",
        "transitions",
    )

    def __init__(self, settings: BreakerSettings, rng: random.Random, *, slow_s: float = 5.0) -> None:
        rules = breaker_rules(settings)
        self._rules = rules
        self._rng = rng
        self._slow_s = slow_s
        self.state: BreakerState = "closed"
        self.healthy = True
        self.transitions: list[Transition] = []
        self._generation = 1
        # Equals the generation while closed, else -1: one comparison tells the hot path all it needs.
        self._closed_generation = 1
        self._changed_s = -inf
        self._openings = 0
        self._open_until_s = 0.0
        self._warm_s = -inf
        self._failures_in_a_row = 0
        self._window = CallWindow(rules.window_calls, rules.window_s)
        self._gap_slow_s = rules.gap_slow_s
        self._median = RunningMedian()
        self._median_next_s = -inf
        self._slow_limit_s = inf
        self._trials_out = 0
        self._trials_good = 0
        self._trials_bad = 0
        self._trials_until_s = inf

    # The four calls of the request path.

    def permits(self, now_s: float) -> bool:
        """Whether `acquire` would give a permit. Takes nothing."""
        if self.healthy:
            return True
        if self.state == "half_open" and now_s >= self._trials_until_s:
            # As of when it was due: whoever asks first after a silence must not find a rest that only now begins.
            self._decide_overdue(self._trials_until_s)
        if self.state == "closed":
            if now_s >= self._warm_s:
                self.healthy = True
            return True
        if self.state == "open":
            return now_s >= self._open_until_s
        taken = self._trials_out + self._trials_good + self._trials_bad
        return self.state == "half_open" and taken < self._rules.probes

    def acquire(self, now_s: float) -> int:
        """Ask to make a call. An open breaker whose time has come turns half open.

        Returns:
            A permit > 0 to be given back with the verdict, or 0 when the call is refused.
        """
        if self.healthy:
            return self._generation
        if not self.permits(now_s):
            return 0
        if self.state == "open":
            self._half_open(now_s, "the rest is over")
        if self.state == "half_open":
            self._trials_out += 1
            if self._trials_until_s == inf:
                self._trials_until_s = now_s + self._rules.trials_s
        return self._generation

    def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
        """The call was answered.

        Args:
            permit: from `acquire`.
            now_s: when.
            first_token_s: from sending the call to its first content, seconds; 0.0 when there is no such thing.
            gap_s: longest pause between two pieces of the answer, seconds.
        """
        if permit != self._closed_generation:
            self._trial_success(permit, now_s, first_token_s > self._slow_limit_s or gap_s > self._gap_slow_s)
            return
        mark = SLOW if first_token_s > self._slow_limit_s or gap_s > self._gap_slow_s else GOOD
        self._window.record(now_s, mark)
        self._failures_in_a_row = 0
        if now_s >= self._median_next_s and first_token_s > 0.0:
            self._sample(now_s, first_token_s)
        if mark:
            self._evaluate(now_s)

    def failure(self, permit: int, now_s: float, slow: bool = False) -> None:
        """The call failed in a way that speaks against the endpoint.

        Args:
            permit: from `acquire`.
            now_s: when.
            slow: it was slow as well: no first token in time.
        """
        if permit != self._closed_generation:
            self._trial_failure(permit, now_s)
            return
        self._window.record(now_s, FAILED_SLOW if slow else FAILED)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._rules.failures_max:
            self._open(now_s, f"{self._failures_in_a_row} failures in a row")
        else:
            self._evaluate(now_s)

    def release(self, permit: int, now_s: float) -> None:
        """The call ended without saying anything about the endpoint; a trial's place is free again."""
        if permit == self._generation and self.state == "half_open" and self._trials_out:
            self._trials_out -= 1
            if now_s >= self._trials_until_s:
                self._decide_overdue(now_s)

    # What routing and health checks ask for.

    def weight(self, now_s: float) -> float:
        """Share of its weight that the endpoint should get, 0.1 to 1.0: rises for 30 s after it was closed again."""
        if self.healthy or self.state != "closed":
            return 1.0
        left_s = self._warm_s - now_s
        if left_s <= 0.0:
            self.healthy = True
            return 1.0
        return 1.0 - (1.0 - self._rules.weight_min) * left_s / self._rules.slow_start_s

    def retry_at_s(self, now_s: float) -> float:
        """When a call may be let in: `now_s` or later; infinite when only an operator can tell."""
        if self.permits(now_s):
            return now_s
        if self.state == "open":
            return self._open_until_s
        return self._trials_until_s if self.state == "half_open" else inf

    def acquire_trial(self, now_s: float) -> int:
        """Ask for a trial although the breaker is open, because every endpoint of the group is.

        A good trial turns it half open and is its first good trial there; a bad one changes nothing. The classic
        profile and a breaker that opened less than 5 s ago refuse.

        Returns:
            A permit > 0, or 0.
        """
        if self.state != "open" or now_s >= self._open_until_s:
            return self.acquire(now_s)
        if now_s - self._changed_s < self._rules.lone_trial_after_s:
            return 0
        return self._generation

    def probe_ok(self, now_s: float) -> None:
        """A health check that costs no tokens succeeded: an open breaker turns half open at once."""
        if self.state == "open":
            self._half_open(now_s, "a health check succeeded")

    @property
    def first_token_p50_s(self) -> float:
        """Long-term median of the time to the first token, seconds; 0.0 while unknown."""
        return self._median.value if self._median.count >= _MEDIAN_SAMPLES_MIN else 0.0

    # What an operator asks for.

    def force_open(self, now_s: float) -> None:
        """Refuse everything until `reset`."""
        self._enter("forced_open", now_s, "by an operator")

    def disable(self, now_s: float) -> None:
        """Let everything in and count nothing until `reset`."""
        self._enter("disabled", now_s, "by an operator")
        self.healthy = True

    def reset(self, now_s: float) -> None:
        """Close at full weight and forget what was; what is known of the first-token time stays."""
        self._enter("closed", now_s, "by an operator")
        self._openings = 0
        self._closed_generation = self._generation
        self._forget_calls()
        self.healthy = True

    # What telemetry asks for.

    def take_transitions(self) -> list[Transition]:
        """The changes since the last call of this, oldest first; the caller's to keep."""
        taken = self.transitions
        self.transitions = []
        return taken

    def snapshot(self) -> BreakerSnapshot:
        """Figures as of the last call to this object."""
        calls, failures, slow = self._window.count(self._window.latest_s())
        return BreakerSnapshot(
            state=self.state,
            generation=self._generation,
            calls=calls,
            failures=failures,
            slow=slow,
            failures_in_a_row=self._failures_in_a_row,
            openings=self._openings,
            open_until_s=self._open_until_s if self.state == "open" else 0.0,
            trials_out=self._trials_out,
            trials_good=self._trials_good,
            trials_bad=self._trials_bad,
            first_token_p50_s=self.first_token_p50_s,
            slow_limit_s=self._slow_limit_s,
        )

    # Closed: the window of calls.

    def _forget_calls(self) -> None:
        self._window.clear()
        self._failures_in_a_row = 0

    def _sample(self, now_s: float, first_token_s: float) -> None:
        median = self._median
        median.add(first_token_s)
        if median.count >= _MEDIAN_SAMPLES_MIN:
            self._slow_limit_s = max(self._slow_s, self._rules.slow_factor * median.value)
            self._median_next_s = now_s + _MEDIAN_EVERY_S

    def _evaluate(self, now_s: float) -> None:
        """Open when the shares of the window say so. Looked at only after a bad call: a good one lowers both shares."""
        rules = self._rules
        calls, failures, slow = self._window.count(now_s)
        if calls < rules.min_calls:
            return
        if failures >= rules.failure_ratio * calls:
            self._open(now_s, f"{failures} of {calls} calls failed")
        elif slow >= rules.slow_ratio * calls:
            self._open(now_s, f"{slow} of {calls} calls were slow")

    # Open and half open: rests and trials.

    def _clear_trials(self) -> None:
        self._trials_out = 0
        self._trials_good = 0
        self._trials_bad = 0
        # The clock of the trials starts with the first of them.
        self._trials_until_s = inf

    def _trial_success(self, permit: int, now_s: float, slow: bool) -> None:
        if permit != self._generation:
            return
        if self.state == "half_open":
            self._trial_ended(now_s, good=not slow)
        elif self.state == "open" and not slow:
            self._half_open(now_s, "a lone trial succeeded")
            self._trials_out = 1
            self._trial_ended(now_s, good=True)

    def _trial_failure(self, permit: int, now_s: float) -> None:
        if permit == self._generation and self.state == "half_open":
            self._trial_ended(now_s, good=False)

    def _trial_ended(self, now_s: float, good: bool) -> None:
        if not self._trials_out:
            return
        self._trials_out -= 1
        if good:
            self._trials_good += 1
        else:
            self._trials_bad += 1
        if self._trials_good + self._trials_bad >= self._rules.probes:
            self._decide(now_s)
        elif now_s >= self._trials_until_s:
            self._decide_overdue(now_s)

    def _decide(self, now_s: float) -> None:
        good, ended = self._trials_good, self._trials_good + self._trials_bad
        # A majority: 2 of 3, 1 of 1.
        if good >= self._rules.probes // 2 + 1:
            self._close(now_s, f"{good} of {ended} trials were good")
        else:
            self._open(now_s, f"{good} of {ended} trials were good")

    def _decide_overdue(self, at_s: float) -> None:
        # Silence is no evidence: with nothing bad and nothing hanging, the trials go on when there is traffic again.
        if self._trials_bad or self._trials_out or self._trials_good >= self._rules.probes // 2 + 1:
            self._decide(at_s)
        else:
            self._trials_until_s = inf

    # Transitions.

    def _open(self, now_s: float, reason: str) -> None:
        rules = self._rules
        if self.state == "closed" and now_s - self._changed_s >= rules.forget_s:
            self._openings = 0
        self._openings += 1
        # The exponent is bounded, for a float ends at 2^1023.
        rest_s = min(rules.open_s * 2.0 ** min(self._openings - 1, 60), rules.open_max_s)
        rest_s *= 1.0 + rules.open_jitter * (2.0 * self._rng.random() - 1.0)
        self._enter("open", now_s, reason)
        self._open_until_s = now_s + rest_s

    def _half_open(self, now_s: float, reason: str) -> None:
        self._enter("half_open", now_s, reason)

    def _close(self, now_s: float, reason: str) -> None:
        self._enter("closed", now_s, reason)
        self._closed_generation = self._generation
        self._forget_calls()
        self._warm_s = now_s + self._rules.slow_start_s
        self.healthy = self._rules.slow_start_s == 0.0

    def _enter(self, after: BreakerState, now_s: float, reason: str) -> None:
        if self.state != after:
            if len(self.transitions) >= _TRANSITIONS_MAX:
                del self.transitions[0]
            self.transitions.append(Transition(now_s, self.state, after, reason))
        self.state = after
        self.healthy = False
        self._changed_s = now_s
        self._generation += 1
        self._closed_generation = -1
        self._clear_trials()
