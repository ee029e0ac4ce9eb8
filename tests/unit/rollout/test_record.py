"""What counts when several servers wrote a rollout at once, and what is no record at all."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.rollout.plan import RolloutRules, State
from open_autoglm.rollout.record import (
    RECORD_BYTES_MAX,
    WHY_CHARACTERS_MAX,
    RolloutRecord,
    counting,
    read_record,
    write_record,
)


def record(state: State = "running", share: float = 0.2, **more: object) -> RolloutRecord:
    fields: dict[str, object] = {"model": "m", "run": 7, "stable": "old", "candidate": "new"}
    return RolloutRecord(state=state, share=share, **(fields | more))  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_written() -> None:
    rules = RolloutRules(window_s=5.0, requests_min=3, ratio_max=0.1, promote_after_s=9.0)
    whole = record(share=1 / 3, rules=rules, why="by hand")
    assert read_record(write_record(whole)) == whole


def test_the_longest_names_fit_a_fact_and_longer_ones_are_refused() -> None:
    whole = record(model="ä" * 64, stable="a" * 64, candidate="b" * 64).with_step("rolled_back", 0.0, "w" * 500)
    assert len(whole.why) == WHY_CHARACTERS_MAX
    assert len(write_record(whole)) <= RECORD_BYTES_MAX
    with pytest.raises(ValueError, match="1024 are the most"):
        write_record(record(model="m" * 255, stable="a" * 255, candidate="b" * 255, why="ä" * 96))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        write_record(record()).replace(b"0.2", b"1.2"),
        write_record(record()).replace(b"running", b"walking"),
        write_record(record()).replace(b'"old"', b'"new"'),
        write_record(record()).replace(b'"run":7', b'"run":-7'),
        write_record(record()).replace(b'"requests_min":20', b'"requests_min":0'),
        write_record(record()).replace(b'"model":"m"', b'"model":""'),
        b'{"a":' * 5000,
    ],
)
def test_what_is_no_record_is_not_taken(data: bytes) -> None:
    assert read_record(data) is None
    assert counting([data, write_record(record())]) == record()


@given(st.lists(st.sampled_from(["running", "promoted", "rolled_back", None]), min_size=1, max_size=5))
def test_a_rollback_counts_first_then_the_highest_rank_and_a_removal_last(states: list[State | None]) -> None:
    values = [None if state is None else write_record(record(state, run=at)) for at, state in enumerate(states)]
    found = counting(values)
    if found is None:
        assert states.count(None) == len(states)
        return
    wanted = "rolled_back" if "rolled_back" in states else next(state for state in states if state)
    assert (found.state, found.run) == (wanted, states.index(wanted))


def test_which_versions_are_wanted() -> None:
    table = [(state, [v for v in ("old", "new") if record(state).wants(v)]) for state in ("running", "promoted")]
    assert table == [("running", ["old", "new"]), ("promoted", ["new"])]
    assert [record("rolled_back").wants(version) for version in ("old", "new", "third")] == [True, False, False]


def test_the_same_records_in_whatever_order_of_equals_give_one_answer() -> None:
    backs = [write_record(record("rolled_back", run=3)), write_record(record("promoted", run=1))]
    assert {counting(order) for order in permutations(backs)} == {read_record(backs[0])}
