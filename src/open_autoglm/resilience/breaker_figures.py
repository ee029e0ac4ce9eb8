"""What a circuit breaker tells of itself; see `breaker.py`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled"]


class Transition(Struct, frozen=True, gc=False):
    """One change of state.

    Attributes:
        now_s: when, monotonic seconds.
        before, after: the states.
        reason: a few words for people.
    """

    now_s: float
    before: BreakerState
    after: BreakerState
    reason: str


class BreakerSnapshot(Struct, frozen=True, gc=False):
    """Figures of a breaker, for metrics and tests.

    Attributes:
        state: the state.
        generation: grows by one with each transition.
        calls, failures, slow: in the window, as of the latest call.
        failures_in_a_row: the latest calls that failed.
        openings: how often it opened since it was last well for long.
        open_until_s: when an open breaker may turn half open; 0.0 in the other states.
        trials_out, trials_good, trials_bad: of a half-open breaker.
        first_token_p50_s: the long-term median, 0.0 while unknown.
        slow_limit_s: a first token that takes longer is slow; infinite while unknown.
    """

    state: BreakerState
    generation: int
    calls: int
    failures: int
    slow: int
    failures_in_a_row: int
    openings: int
    open_until_s: float
    trials_out: int
    trials_good: int
    trials_bad: int
    first_token_p50_s: float
    slow_limit_s: float
