"""A second attempt beside a slow first one: when there is one, who wins, what it costs."""

import pytest

from open_autoglm.errors import RequestError
from open_autoglm.exchange.settings import Timeouts
from open_autoglm.resilience.hedge_budget import HedgeBudget
from tests.unit.exchange.harness import Rig

PATIENCE_S = Timeouts().first_token_hedge_s


def hedged(legs: str = "a,b", *, stream: bool = True) -> Rig:
    """A request whose first attempt has been silent for so long that a second one runs beside it."""
    rig = Rig(legs, stream=stream)
    assert rig.wait() == pytest.approx(PATIENCE_S)
    assert rig.outcomes == "running running"
    assert len({attempt.endpoint for attempt in rig.sink.opened}) == 2
    return rig


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("legs", ["a,b", "a | b"])
def test_silence_starts_a_second_attempt_beside_the_first(legs: str, stream: bool) -> None:
    rig = hedged(legs, stream=stream)
    assert rig.sink.cancelled == []
    assert rig.in_flight() == 2
    assert "beside a slow a" in rig.attempt.reason


@pytest.mark.parametrize(("winner", "loser"), [(0, 1), (1, 0)])
def test_first_content_wins_and_the_other_is_cancelled_in_the_same_turn(winner: int, loser: int) -> None:
    rig = hedged()
    rig.content(b"role of the loser;", 1, number=loser)
    rig.content(b"role;", 1, number=winner)
    assert rig.sink.ends == []
    rig.content(b"text;", 2, number=winner)
    assert rig.sink.cancelled == [rig.sink.opened[loser]]
    assert rig.sink.opened[loser].outcome == "cancelled"
    assert rig.sink.opened[loser].detail == "another attempt was faster"
    rig.content(b"late", 2, number=loser)
    rig.end(number=loser)
    rig.end(number=winner)
    assert rig.sink.sent == b"role;text;[DONE]"
    assert rig.sink.ends == ["begin", "end"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


@pytest.mark.parametrize(("winner", "loser"), [(0, 1), (1, 0)])
def test_first_whole_answer_wins(winner: int, loser: int) -> None:
    rig = hedged(stream=False)
    rig.whole(b"{}", number=winner)
    rig.whole(b"[]", number=loser)
    assert rig.sink.cancelled == [rig.sink.opened[loser]]
    assert rig.sink.sent == b"{}"
    assert rig.sink.ends == ["whole"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_stream_that_is_whole_without_content_wins_too() -> None:
    rig = hedged()
    rig.content(b"role;", 1, number=0)
    rig.end(b"[DONE]", number=0)
    assert rig.path == "a:ok b:cancelled"
    assert rig.sink.sent == b"role;[DONE]"


@pytest.mark.parametrize(("fails", "stays"), [(0, 1), (1, 0)])
def test_when_one_fails_the_other_goes_on(fails: int, stays: int) -> None:
    rig = hedged()
    rig.content(b"role of the failing one;", 1, number=fails)
    rig.fail("malformed", number=fails)
    assert rig.exchange.state == "open"
    assert rig.sink.ends == []
    rig.content(b"text", 2, number=stays)
    rig.end(number=stays)
    assert rig.sink.sent == b"text[DONE]"
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_second_failure_goes_on_by_the_usual_rules() -> None:
    rig = hedged("a,b,c")
    rig.fail("connect", number=0)
    rig.fail("connect", number=1)
    assert rig.outcomes == "connect connect running"
    rig.fail("connect")
    assert rig.sink.ends == ["fail"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_refusal_is_told_only_when_the_other_does_not_answer() -> None:
    rig = hedged("a,b,c")
    rig.fail("refused", RequestError("content_policy", "no"), number=1)
    rig.fail("connect", number=0)
    assert rig.outcomes == "connect refused"
    assert rig.sink.error is not None
    assert rig.sink.error.code == "content_policy"


def test_a_fallback_that_cannot_express_the_request_does_not_end_the_retries_of_the_first() -> None:
    rig = hedged("a | b")
    rig.fail("unsupported", RequestError("unsupported_parameter", "no"), number=1)
    rig.fail("connect", number=0)
    assert rig.exchange.state == "waiting"
    rig.wait()
    assert rig.path == "a:connect b:unsupported a:running"


def test_there_is_one_hedge_and_no_second() -> None:
    rig = hedged("a,b,c,d")
    rig.fail("connect", number=1)
    assert rig.wait() == pytest.approx(60.0 - PATIENCE_S)
    assert rig.outcomes == "slow connect running"
    assert rig.wait() == pytest.approx(PATIENCE_S)
    assert len(rig.sink.opened) == 3


def test_each_of_two_has_its_own_limit() -> None:
    rig = hedged("a,b")
    assert rig.wait() == pytest.approx(60.0 - PATIENCE_S)
    assert rig.path == "a:slow b:running"
    assert rig.wait() == pytest.approx(PATIENCE_S)
    assert rig.path == "a:slow b:slow"


def test_two_that_are_late_at_once_are_both_given_up() -> None:
    rig = hedged("a,b")
    rig.now_s += 100.0
    rig.exchange.handle_timeout(rig.now_s)
    assert rig.path == "a:slow b:slow"
    assert set(rig.sink.cancelled) == set(rig.sink.opened)
    assert rig.exchange.state == "waiting"


def test_no_hedge_without_an_untried_endpoint() -> None:
    rig = Rig("a", stream=True)
    assert rig.wait() == pytest.approx(60.0)


def test_no_hedge_when_the_client_forbids_repeats() -> None:
    rig = Rig("a,b", stream=True, may_retry=False)
    rig.wait()
    assert len(rig.sink.opened) == 1
    rig.wait()
    assert rig.path == "a:slow"


def test_a_hedge_costs_a_token_and_counts_as_a_retry_in_flight() -> None:
    rig = hedged()
    budget = rig.plan.legs[0].budget
    assert (budget.tokens, budget.active) == (24.0, 1)
    rig.content(number=1)
    rig.end(number=1)
    assert (budget.tokens, budget.active) == (24.1, 0)


def test_a_hedge_that_cannot_be_had_is_asked_for_again() -> None:
    rig = Rig("a,b", stream=True)
    budget = rig.plan.legs[0].budget
    budget.tokens = 5.0
    rig.wait()
    assert len(rig.sink.opened) == 1
    budget.tokens = 6.0
    assert rig.wait() == pytest.approx(1.0)
    assert rig.path == "a:running b:running"


def test_no_hedge_into_a_group_that_has_a_line() -> None:
    rig = Rig("a,b", stream=True)
    waiter = Rig("a", rooms={"a": 0}, start=False)
    rig.plan.legs[0].queue.offer(waiter.exchange, "", 2, rig.now_s, rig.now_s + 100.0)
    rig.wait()
    assert len(rig.sink.opened) == 1


def test_a_stream_begun_is_not_hedged() -> None:
    rig = Rig("a,b", stream=True)
    rig.content()
    assert rig.wait() == pytest.approx(30.0)
    assert rig.path == "a:interrupted"


def test_a_client_that_leaves_cancels_both() -> None:
    rig = hedged()
    rig.exchange.client_gone(rig.now_s)
    assert set(rig.sink.cancelled) == set(rig.sink.opened)
    assert rig.path == "a:cancelled b:cancelled"
    assert (rig.in_flight(), rig.retries_active, rig.sink.ends) == (0, 0, [])


def test_the_deadline_cancels_both() -> None:
    rig = Rig("a,b", stream=False, total_s=30.0)
    rig.wait()
    rig.now_s += 100.0
    rig.exchange.handle_timeout(rig.now_s)
    assert rig.path == "a:deadline b:deadline"
    assert rig.sink.ends == ["fail"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_stale_connection_of_the_second_is_repeated_beside_the_first() -> None:
    rig = hedged()
    rig.fail("stale", number=1)
    assert rig.path == "a:running b:stale b:running"
    rig.content(number=0)
    assert rig.path == "a:running b:stale b:cancelled"


@pytest.mark.parametrize(("head", "counted"), [(False, 1), (True, 0)])
def test_a_loser_that_never_said_a_word_speaks_against_its_endpoint(head: bool, counted: int) -> None:
    rig = hedged()
    if head:
        rig.sink.opened[0].head_s = rig.now_s
    rig.content(number=1)
    assert rig.outcomes == "cancelled running"
    assert rig.failures("a") == counted


def test_an_empty_budget_of_the_second_ones_leg_does_not_end_the_first_ones() -> None:
    rig = hedged("a | b | c")
    rig.plan.legs[1].budget.tokens = 5.0
    rig.fail("connect", number=0)
    rig.fail("connect", number=1)
    assert rig.exchange.state == "waiting"
    rig.wait()
    assert rig.path == "a:connect b:connect a:running"


# Hedging that was asked for.


def early(**options: float) -> HedgeBudget:
    """A hedge budget that knows its group: a first token mostly takes 0.1 s, at times 1 s."""
    budget = HedgeBudget(
        0.95, options.get("delay_min_s", 0.05), options.get("max_ratio", 0.02), options.get("spend", 0.0)
    )
    for number in range(200):
        budget.observe(True, 1.0 if number % 10 == 0 else 0.1)
    return budget


def test_asked_for_hedges_start_at_the_quantile_of_the_group() -> None:
    rig = Rig("a,b", stream=True, hedging=early())
    assert rig.wait() == pytest.approx(1.0)
    assert rig.path == "a:running b:running"
    assert rig.plan.legs[0].budget.tokens == 25.0


def test_unary_answers_have_a_quantile_of_their_own() -> None:
    rig = Rig("a,b", stream=False, hedging=early())
    assert rig.wait() == pytest.approx(PATIENCE_S)


def test_hedges_are_at_most_a_share_of_the_requests() -> None:
    budget = early(max_ratio=0.0051)
    first, second = (Rig("a,b", stream=True, hedging=budget) for _ in range(2))
    first.wait()
    second.wait()
    assert [len(rig.sink.opened) for rig in (first, second)] == [2, 1]
    second.wait()
    assert len(second.sink.opened) == 1
    assert second.retries_active == 0


def test_hedges_stop_where_they_cost_too_much() -> None:
    # 500 tokens at 1,000 per million cost 0.5.
    budget = early(spend=0.9)
    first, second = (Rig("a,b", stream=True, hedging=budget, prices={"b": 1000.0}) for _ in range(2))
    first.wait()
    second.wait()
    assert [len(rig.sink.opened) for rig in (first, second)] == [2, 1]


def test_silence_starts_a_hedge_where_an_early_one_was_too_dear() -> None:
    rig = Rig("a,b", stream=True, hedging=early(spend=0.1), prices={"b": 1000.0})
    waited_s = 0.0
    while len(rig.sink.opened) < 2:
        waited_s += rig.wait()
    assert waited_s == pytest.approx(PATIENCE_S, abs=1.0)


def test_whoever_waits_at_an_endpoint_that_is_away_leaves_it_at_once_and_for_nothing() -> None:
    rig = Rig(stream=False)
    away = rig.endpoints[rig.attempt.endpoint]
    rig.now_s += 3.0
    rig.exchange.doubt(rig.endpoints["b"])
    rig.exchange.handle_timeout(rig.now_s)
    assert rig.path == "a:running"
    rig.plan.legs[0].budget.tokens = 0.0
    for _ in range(5):
        away.gate.failure(away.gate.acquire(rig.now_s), rig.now_s)
    rig.exchange.doubt(away)
    rig.exchange.handle_timeout(rig.now_s)
    assert rig.path == "a:running b:running"
    assert rig.plan.legs[0].budget.active == 0


def test_a_unary_loser_is_slow_where_nobody_has_got_an_answer_since() -> None:
    for others_served, verdicts in ((False, 1), (True, 0)):
        rig = Rig(stream=False)
        slow = rig.endpoints[rig.attempt.endpoint]
        if others_served:
            slow.begin()
            slow.succeed(slow.gate.acquire(rig.now_s), rig.now_s + 1.0, 1.0, False, 10)
        rig.wait()
        rig.exchange.whole(rig.attempt, b"{}", rig.now_s)
        assert rig.path == "a:cancelled b:ok"
        assert slow.failures == verdicts
