"""The knee of a load test: the load beyond which more of it only waits longer.

It is the smallest concurrency whose rate reaches `KNEE_SHARE` of the highest. Steps in which more than
`FAILED_SHARE_MAX` of the questions failed do not count: what a server refuses, it does not serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from open_autoglm.cli.load.step import Step

KNEE_SHARE = 0.9
FAILED_SHARE_MAX = 0.01
GAIN_MIN = 1.05
"""A step that brings less than this much more than the best before is one beyond the knee."""

STEPS_BEYOND = 2
"""So many without gain end the test: enough to draw the flat part."""


def knee_of(steps: Sequence[Step]) -> Step | None:
    """Return the knee; None when no step counts."""
    counted = [step for step in steps if _counts(step)]
    if not counted:
        return None
    best = max(step.rate for step in counted)
    return min((step for step in counted if step.rate >= KNEE_SHARE * best), key=lambda step: step.concurrency)


def has_passed(steps: Sequence[Step]) -> bool:
    """Whether the knee lies behind, or nothing is served any more, so that no further step is needed."""
    if steps and not steps[-1].good:
        return True
    if len(steps) <= STEPS_BEYOND:
        return False
    best_before = max(step.rate for step in steps[:-STEPS_BEYOND])
    return all(step.rate < GAIN_MIN * best_before for step in steps[-STEPS_BEYOND:])


def ramp(concurrency_max: int) -> Iterator[int]:
    """Yield 1, 2, 4, … and at last the highest."""
    concurrency = 1
    while concurrency < concurrency_max:
        yield concurrency
        concurrency *= 2
    yield concurrency_max


def _counts(step: Step) -> bool:
    return step.good > 0 and step.failed <= FAILED_SHARE_MAX * (step.good + step.failed)
