"""Where the time between two passes goes, as the drill of live updates tells it."""

from __future__ import annotations

import gc

from benchmarks.live.figures import _causes
from benchmarks.live.pauses import Gap, Pauses


def test_a_gap_belongs_to_a_swap_when_one_happened_in_it() -> None:
    swaps = [0]
    pauses = Pauses(lambda: swaps[0])
    try:
        for number in range(4):
            if number == 2:
                swaps[0] += 1
            pauses.begin()
            pauses.end()
            gc.collect()
    finally:
        pauses.close()
    assert [gap.swap for gap in pauses.gaps] == [False, True, False]
    assert all(gap.wall >= gap.collecting > 0 for gap in pauses.gaps)
    assert pauses._collect not in gc.callbacks
    rows = _causes(pauses.causes())
    assert len(rows) == 5
    assert rows[0][0].startswith("between two computations")


def test_what_is_not_accounted_for_is_waiting() -> None:
    assert Gap(True, 10.0, 1.0, 2.0, 3.0).waiting == 4.0
    assert Gap(True, 1.0, 1.0, 0.5, 0.0).waiting == 0.0
