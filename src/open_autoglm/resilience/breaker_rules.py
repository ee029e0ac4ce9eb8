"""The numbers of the two breaker profiles, as data, and what an operator changed of them.

Source: semantics 5 of the design. A profile that does without something says so with a number that never bites,
so the breaker itself knows no profiles.
"""

from math import inf
from typing import TypeVar

from msgspec import Struct, UnsetType

from open_autoglm.resilience.settings import BreakerProfile, BreakerSettings

_Number = TypeVar("_Number", int, float)


class BreakerRules(Struct, frozen=True, gc=False):
    """Everything a breaker decides by.

    Attributes:
        failures_max: consecutive failures that open it.
        open_s: the first rest; doubled with each further opening up to `open_max_s`, then varied by `open_jitter`
            (a share of it, both ways).
        forget_s: closed for so long, the next rest is a first one again.
        probes: trial calls while half open; a majority of good ones closes it.
        trials_s: it decides so long after the first trial at the latest.
        slow_start_s: how long an endpoint takes from `weight_min` of its weight to all of it; 0 for at once.
        lone_trial_after_s: an open breaker rests at least so long before it takes part in the lone trials of a
            group that is open altogether.
        window_calls, window_s: the calls that shares are taken of: the latest, and not older than that.
        min_calls: calls in the window below which no share is looked at.
        failure_ratio, slow_ratio: shares that open it.
        slow_factor: a call is slow when its first token takes longer than this many medians...
        gap_slow_s: ...or when its answer pauses for longer than that.
    """

    failures_max: int
    open_s: float
    open_max_s: float
    open_jitter: float
    probes: int
    slow_start_s: float
    lone_trial_after_s: float
    min_calls: float
    window_calls: int = 100
    window_s: float = 30.0
    failure_ratio: float = 0.5
    slow_ratio: float = 0.8
    slow_factor: float = 3.0
    gap_slow_s: float = 5.0
    trials_s: float = 30.0
    forget_s: float = 600.0
    weight_min: float = 0.1


PROFILES: dict[BreakerProfile, BreakerRules] = {
    "adaptive": BreakerRules(
        failures_max=5,
        open_s=5.0,
        open_max_s=30.0,
        open_jitter=0.2,
        probes=3,
        slow_start_s=30.0,
        lone_trial_after_s=5.0,
        min_calls=20,
    ),
    "classic": BreakerRules(
        failures_max=5,
        open_s=10.0,
        open_max_s=0.0,
        open_jitter=0.0,
        probes=1,
        slow_start_s=0.0,
        lone_trial_after_s=inf,
        min_calls=inf,
        slow_factor=inf,
        gap_slow_s=inf,
    ),
}


def breaker_rules(settings: BreakerSettings) -> BreakerRules:
    """The rules of a profile with what the settings change of them.

    The longest rest is never shorter than the first one. The classic profile looks at no shares, whatever is set.
    """
    rules = PROFILES[settings.profile]
    open_s = _or(settings.open_s, rules.open_s)
    return BreakerRules(
        failures_max=_or(settings.failures, rules.failures_max),
        open_s=open_s,
        open_max_s=max(rules.open_max_s, open_s),
        open_jitter=rules.open_jitter,
        probes=_or(settings.probes, rules.probes),
        slow_start_s=rules.slow_start_s,
        lone_trial_after_s=rules.lone_trial_after_s,
        min_calls=rules.min_calls if rules.min_calls == inf else _or(settings.min_calls, rules.min_calls),
        window_calls=_or(settings.window_calls, rules.window_calls),
        window_s=_or(settings.window_s, rules.window_s),
        failure_ratio=_or(settings.failure_ratio, rules.failure_ratio),
        slow_ratio=_or(settings.slow_ratio, rules.slow_ratio),
        slow_factor=rules.slow_factor,
        gap_slow_s=rules.gap_slow_s,
    )


def _or(value: _Number | UnsetType, default: _Number) -> _Number:
    return default if isinstance(value, UnsetType) else value
