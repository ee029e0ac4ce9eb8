import pytest

from open_autoglm.admission.overload import Overload
from open_autoglm.admission.settings import OverloadSettings


@pytest.mark.parametrize(
    ("share", "stage", "keep_alive"), [(0.79, 0, True), (0.80, 1, False), (0.90, 2, False), (0.95, 3, False)]
)
def test_memory_and_descriptors_raise_the_stage_by_their_share(share: float, stage: int, keep_alive: bool) -> None:
    for memory, descriptors, cause in ((share, 0.0, "memory"), (0.0, share, "descriptors")):
        overload = Overload(OverloadSettings())
        assert overload.look(memory, descriptors, 0.0) == (stage > 0)
        assert overload.stage == stage
        assert overload.keep_alive == keep_alive
        assert overload.cause == (cause if stage else "")


def test_lag_keeps_connections_open_and_stops_new_ones_only_when_it_stays() -> None:
    overload = Overload(OverloadSettings())
    overload.look(0.0, 0.0, 0.05)
    assert (overload.stage, overload.keep_alive, overload.cause) == (1, True, "lag")
    overload.look(0.0, 0.0, 3.0)
    assert overload.stage == 1
    overload.look(0.0, 0.0, 0.25)
    assert overload.stage == 2
    overload.look(0.0, 0.0, 1.0)
    assert overload.stage == 2
    overload.look(0.0, 0.0, 1.0)
    assert overload.stage == 3
    assert overload.keep_alive


def test_one_long_stall_between_good_looks_turns_nobody_away() -> None:
    overload = Overload(OverloadSettings())
    for _ in range(5):
        overload.look(0.0, 0.0, 2.0)
        overload.look(0.0, 0.0, 0.0)
        assert overload.stage == 1


def test_a_stage_is_left_one_at_a_time_after_four_looks_well_below_it() -> None:
    overload = Overload(OverloadSettings())
    overload.look(0.95, 0.0, 0.0)
    stages = []
    for _ in range(12):
        overload.look(0.70, 0.0, 0.0)
        stages.append(overload.stage)
    assert stages == [3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0]


def test_a_stage_does_not_flutter_around_its_threshold() -> None:
    overload = Overload(OverloadSettings())
    changes = sum(overload.look(share, 0.0, 0.0) for share in [0.81, 0.79] * 50)
    assert changes == 1
    assert overload.stage == 1


def test_the_worst_resource_decides() -> None:
    overload = Overload(OverloadSettings())
    overload.look(0.80, 0.95, 0.25)
    assert (overload.stage, overload.cause) == (3, "descriptors")


def test_other_thresholds_hold_from_the_next_look_on() -> None:
    overload = Overload(OverloadSettings())
    overload.look(0.5, 0.0, 0.0)
    overload.reconfigure(OverloadSettings(soft=0.4))
    assert overload.look(0.5, 0.0, 0.0)
    assert overload.stage == 1
