"""The numbers of the profiles, as they are documented."""

from math import inf

from open_autoglm.resilience.breaker_rules import breaker_rules
from open_autoglm.resilience.settings import BreakerSettings


def test_adaptive_is_the_default_with_the_published_numbers() -> None:
    rules = breaker_rules(BreakerSettings())
    assert (rules.failures_max, rules.open_s, rules.open_max_s, rules.open_jitter) == (5, 5.0, 30.0, 0.2)
    assert (rules.window_calls, rules.window_s, rules.min_calls) == (100, 30.0, 20)
    assert (rules.failure_ratio, rules.slow_ratio, rules.slow_factor, rules.gap_slow_s) == (0.5, 0.8, 3.0, 5.0)
    assert (rules.probes, rules.trials_s, rules.forget_s) == (3, 30.0, 600.0)
    assert (rules.slow_start_s, rules.weight_min, rules.lone_trial_after_s) == (30.0, 0.1, 5.0)


def test_classic_counts_failures_in_a_row_and_nothing_else() -> None:
    rules = breaker_rules(BreakerSettings(profile="classic", min_calls=1))
    assert (rules.failures_max, rules.open_s, rules.open_max_s, rules.open_jitter) == (5, 10.0, 10.0, 0.0)
    assert (rules.probes, rules.slow_start_s) == (1, 0.0)
    assert (rules.min_calls, rules.slow_factor, rules.gap_slow_s, rules.lone_trial_after_s) == (inf, inf, inf, inf)


def test_every_field_can_be_set() -> None:
    settings = BreakerSettings("adaptive", 7, 60.0, 9, 50, 12.0, 6, 0.3, 0.6)
    rules = breaker_rules(settings)
    assert (rules.failures_max, rules.open_s, rules.open_max_s, rules.probes) == (7, 60.0, 60.0, 9)
    assert (rules.window_calls, rules.window_s, rules.min_calls) == (50, 12.0, 6)
    assert (rules.failure_ratio, rules.slow_ratio) == (0.3, 0.6)
