"""The retry table of the exchange, row by row and state by state.

Each row says where the second attempt of a request goes after the first ended so: `other` endpoint of the group,
the `same` endpoint after backoff where there is no other, the next `leg`; what the breaker heard; what is told when
nothing else is left.
"""

from math import inf
from typing import NamedTuple

import pytest

from open_autoglm.errors import RequestError
from open_autoglm.exchange.outcomes import RULES
from tests.unit.exchange.harness import Rig


class Row(NamedTuple):
    outcome: str
    other: bool
    same: bool
    failures: int
    code: str


TABLE = [
    Row("stale", True, True, 0, "upstream_error"),
    Row("connect", True, True, 1, "upstream_error"),
    Row("unavailable", True, True, 1, "upstream_error"),
    Row("failed", True, True, 1, "upstream_error"),
    Row("throttled", True, True, 0, "rate_limit_exceeded"),
    Row("slow", True, True, 1, "deadline_exceeded"),
    Row("malformed", True, True, 1, "upstream_error"),
    Row("too_long", True, False, 0, "context_length_exceeded"),
    Row("refused", False, False, 0, "invalid_request"),
    Row("unsupported", True, False, 0, "unsupported_parameter"),
    Row("undecided", True, False, 0, "no_quorum"),
    Row("unknown_model", True, False, 0, "upstream_error"),
    Row("misconfigured", True, False, 0, "upstream_error"),
    Row("interrupted", False, False, 1, "stream_interrupted"),
    Row("cancelled", False, False, 0, "client_closed"),
    Row("deadline", False, False, 0, "deadline_exceeded"),
]
ONCE = ("failed", "too_long", "unknown_model")
rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.outcome)


def test_every_outcome_has_a_row() -> None:
    assert {row.outcome for row in TABLE} == set(RULES) - {"ok"}


def first_failure(legs: str, row: Row, stream: bool = False) -> Rig:
    """A first attempt that ended so; a stale one is repeated free before it counts."""
    rig = Rig(legs, stream=stream)
    if row.outcome == "stale":
        rig.fail("stale")
        assert rig.path == "a:stale a:running"
    rig.fail(row.outcome)
    return rig


@rows
@pytest.mark.parametrize("stream", [False, True])
def test_open_with_another_endpoint(row: Row, stream: bool) -> None:
    rig = first_failure("a,b", row, stream)
    if row.other:
        assert rig.sink.opened[-1].endpoint == "b"
        assert rig.exchange.state == "open"
    else:
        assert rig.sink.ends == ["fail"]
        assert rig.sink.error is not None
        assert rig.sink.error.code == row.code
    assert rig.failures("a") == row.failures


@rows
def test_open_with_a_fallback(row: Row) -> None:
    """The group comes again before the fallback, unless it asked for time or the rule allows one attempt only."""
    rig = first_failure("a | b", row)
    if row.same and row.outcome not in ("throttled", *ONCE):
        assert rig.exchange.state == "waiting"
        rig.wait()
        assert rig.sink.opened[-1].endpoint == "a"
    elif row.other:
        assert rig.sink.opened[-1].endpoint == "b"
    else:
        assert rig.sink.ends == ["fail"]


@rows
def test_open_without_an_alternative(row: Row) -> None:
    rig = first_failure("a", row)
    if row.same:
        assert rig.exchange.state == "waiting"
        rig.wait()
        assert rig.outcomes.endswith(f"{row.outcome} running")
    else:
        assert rig.sink.ends == ["fail"]
        assert rig.sink.error is not None
        assert rig.sink.error.code == row.code


@rows
def test_open_with_too_many_failures(row: Row) -> None:
    """Whatever happens on and on, it ends; at most once more where once is the rule."""
    rig = Rig("a,b,c | d", retries=2)
    for _ in range(20):
        if rig.exchange.state == "waiting":
            rig.wait()
        elif not rig.sink.ends:
            rig.fail(row.outcome)
    assert rig.sink.ends == ["fail"]
    limit = 2 if row.outcome in ONCE else 6 + (row.outcome == "stale")
    assert len(rig.sink.opened) <= limit
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


@rows
def test_open_with_another_attempt_beside(row: Row) -> None:
    rig = Rig("a,b", stream=True)
    rig.wait()
    rig.fail(row.outcome, number=0)
    assert rig.sink.ends == []
    assert rig.exchange.state == "open"
    assert rig.in_flight() == (2 if row.outcome == "stale" else 1)


@rows
def test_committed(row: Row) -> None:
    rig = Rig("a,b", stream=True)
    rig.content()
    rig.fail(row.outcome)
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.failures("a") == 1


@rows
def test_over(row: Row) -> None:
    rig = Rig("a,b")
    attempt = rig.attempt
    rig.whole()
    rig.exchange.failed(attempt, row.outcome, "late", rig.now_s)
    assert rig.path == "a:ok"
    assert rig.sink.ends == ["whole"]


@rows
def test_waiting_and_queued_have_no_attempt_that_could_fail(row: Row) -> None:
    rig = Rig("a")
    rig.fail("connect")
    rig.fail(row.outcome)
    assert rig.path == "a:connect"
    assert rig.exchange.state == "waiting"


@pytest.mark.parametrize("outcome", ["throttled", "unavailable"])
def test_a_time_to_come_back_is_obeyed_exactly(outcome: str) -> None:
    rig = Rig("a")
    rig.fail(outcome, retry_after_s=3.25)
    assert rig.endpoints["a"].throttled_until_s == rig.now_s + 3.25
    assert rig.wait() == 3.25
    assert rig.outcomes == f"{outcome} running"


@pytest.mark.parametrize("outcome", ["throttled", "unavailable"])
@pytest.mark.parametrize(("total_s", "asked_s"), [(600.0, 5.1), (8.0, 4.1)])
def test_a_time_to_come_back_that_is_too_long_is_told_at_once(outcome: str, total_s: float, asked_s: float) -> None:
    rig = Rig("a", total_s=total_s)
    rig.fail(outcome, retry_after_s=asked_s)
    assert rig.sink.ends == ["fail"]


@pytest.mark.parametrize("outcome", ["throttled", "unavailable"])
def test_no_repeat_where_the_upstream_wants_none(outcome: str) -> None:
    alone, two = Rig("a"), Rig("a,b")
    for rig in (alone, two):
        rig.fail(outcome, retry_after_s=inf)
    assert alone.sink.ends == ["fail"]
    assert two.path == f"a:{outcome} b:running"
    two.fail("connect")
    two.wait()
    assert two.path == f"a:{outcome} b:connect b:running"


CANNOT = RequestError("unsupported_parameter", "the endpoint cannot express 'seed'", param="seed")


def test_what_one_leg_cannot_express_does_not_end_the_others() -> None:
    rig = Rig("a | b | c", retries=0)
    rig.fail("connect")
    rig.fail("unsupported", CANNOT)
    assert rig.path == "a:connect b:unsupported c:running"


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        (("connect", "unsupported"), "upstream_error"),
        (("unsupported", "connect"), "upstream_error"),
        (("too_long", "unsupported"), "context_length_exceeded"),
        (("unsupported", "unsupported"), "unsupported_parameter"),
    ],
)
def test_what_an_endpoint_cannot_express_is_told_only_where_nothing_else_was_wrong(
    failures: tuple[str, str], code: str
) -> None:
    rig = Rig("a | b", retries=0)
    for outcome in failures:
        rig.fail(outcome, CANNOT if outcome == "unsupported" else None)
    assert rig.sink.ends == ["fail"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == code


def test_an_endpoint_is_not_taken_away_for_ever() -> None:
    rig = Rig("a,b")
    rig.fail("throttled", retry_after_s=1e9)
    assert rig.endpoints["a"].throttled_until_s == rig.now_s + 86_400.0


def test_an_endpoint_that_refuses_our_credentials_is_left_alone() -> None:
    rig = Rig("a,b")
    rig.fail("misconfigured")
    assert rig.endpoints["a"].misconfigured_until_s == rig.now_s + 30.0


def test_a_throttled_group_costs_its_budget_too() -> None:
    rig = Rig("a,b")
    rig.fail("throttled")
    assert rig.plan.legs[0].budget.tokens == 24.0


def test_a_500_and_a_prompt_that_is_too_long_each_have_their_once() -> None:
    rig = Rig("a,b,c", windows={"a": 1000, "b": 9000, "c": 1000}, retries=3)
    rig.fail("failed")
    rig.fail("too_long")
    assert rig.outcomes == "failed too_long running"
    assert rig.attempt.endpoint == "b"
