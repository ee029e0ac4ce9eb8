"""Every rule of the exchange, one at a time."""

import math

import pytest

from open_autoglm.errors import RequestError, UpstreamError
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.exchange.settings import Timeouts
from tests.unit.exchange.harness import Rig


def test_whole_answer_ends_the_exchange() -> None:
    rig = Rig()
    rig.exchange.whole(rig.attempt, b"{}", rig.now_s + 0.5)
    assert rig.sink.ends == ["whole"]
    assert rig.sink.sent == b"{}"
    assert rig.path == "a:ok"
    assert rig.in_flight() == 0
    assert rig.endpoints["a"].latency_s == pytest.approx(0.5)


def test_events_after_the_end_are_dropped() -> None:
    rig = Rig()
    attempt = rig.attempt
    rig.exchange.whole(attempt, b"{}", rig.now_s)
    rig.exchange.failed(attempt, "connect", "late", rig.now_s)
    rig.exchange.whole(attempt, b"again", rig.now_s)
    rig.exchange.handle_timeout(rig.now_s + 10_000)
    rig.exchange.client_gone(rig.now_s)
    assert rig.sink.ends == ["whole"]
    assert rig.sink.sent == b"{}"


@pytest.mark.parametrize("outcome", ["connect", "unavailable", "failed", "throttled", "malformed", "misconfigured"])
def test_failure_before_content_goes_to_the_other_endpoint_at_once(outcome: str) -> None:
    rig = Rig()
    rig.fail(outcome)
    assert rig.path == f"a:{outcome} b:running"
    rig.exchange.whole(rig.attempt, b"{}", rig.now_s)
    assert rig.sink.ends == ["whole"]


def test_client_error_is_final_and_carries_the_upstreams_words() -> None:
    rig = Rig()
    rig.fail("refused", RequestError("content_policy", "no", param="messages"))
    assert rig.sink.ends == ["fail"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "content_policy"
    assert len(rig.sink.opened) == 1


def test_500_is_tried_once_more_and_no_more() -> None:
    rig = Rig("a,b,c")
    rig.fail("failed")
    rig.fail("failed")
    assert [attempt.outcome for attempt in rig.sink.opened] == ["failed", "failed"]
    assert rig.sink.ends == ["fail"]


def test_group_of_one_is_used_again_after_backoff() -> None:
    rig = Rig("a")
    rig.fail("unavailable")
    assert rig.exchange.state == "waiting"
    assert 0.0 <= rig.wait() <= 0.1
    assert rig.path == "a:unavailable a:running"
    rig.fail("unavailable")
    assert 0.0 <= rig.wait() <= 0.2
    rig.fail("unavailable")
    assert rig.sink.ends == ["fail"]
    assert len(rig.sink.opened) == 3


def test_silent_endpoint_is_asked_again_where_there_is_no_other() -> None:
    rig = Rig("a", stream=True)
    for _ in range(3):
        assert rig.wait() == pytest.approx(60.0)
        assert rig.sink.cancelled == rig.sink.opened
        if rig.exchange.state == "waiting":
            rig.wait()
    assert rig.path == "a:slow a:slow a:slow"
    assert rig.sink.ends == ["fail"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"


def test_silent_endpoint_gives_way_to_the_other() -> None:
    rig = Rig("a,b", stream=True, timeouts=Timeouts(first_token_s=5.0))
    assert rig.wait() == pytest.approx(5.0)
    assert rig.path == "a:slow b:running"


def test_attempts_are_max_retries_and_one_in_each_leg() -> None:
    rig = Rig("a | b", retries=1)
    for _ in range(10):
        if rig.sink.ends:
            break
        if rig.exchange.state == "waiting":
            rig.wait()
        else:
            rig.fail("unavailable")
    assert [a.endpoint for a in rig.sink.opened] == ["a", "a", "b", "b"]
    assert rig.sink.ends == ["fail"]


def test_no_retry_when_the_client_forbids_it() -> None:
    rig = Rig(may_retry=False)
    rig.fail("connect")
    assert rig.path == "a:connect"
    assert rig.sink.ends == ["fail"]


def test_stale_connection_is_repeated_free_on_the_same_endpoint_once() -> None:
    rig = Rig("a", retries=0)
    rig.fail("stale")
    assert rig.path == "a:stale a:running"
    rig.fail("stale")
    assert rig.sink.ends == ["fail"]


def test_429_obeys_retry_after_when_there_is_nowhere_else() -> None:
    rig = Rig("a")
    rig.fail("throttled", UpstreamError("rate_limit_exceeded", "slow down"), retry_after_s=2.0)
    assert rig.wait() == 2.0
    assert rig.path == "a:throttled a:running"


def test_429_with_a_long_retry_after_is_told_at_once() -> None:
    rig = Rig("a")
    error = UpstreamError("rate_limit_exceeded", "slow down", retry_after_s=60.0)
    rig.fail("throttled", error, retry_after_s=60.0)
    assert rig.sink.ends == ["fail"]
    assert rig.sink.error is not None
    assert rig.sink.error.retry_after_s == 60.0


def test_429_falls_back_rather_than_waits() -> None:
    rig = Rig("a | b")
    rig.fail("throttled", UpstreamError("rate_limit_exceeded", "slow down"), retry_after_s=2.0)
    assert rig.path == "a:throttled b:running"


def test_429_says_nothing_against_the_endpoint_but_it_is_left_alone() -> None:
    rig = Rig("a,b")
    throttled = rig.endpoints[rig.attempt.endpoint]
    rig.fail("throttled")
    assert throttled.gate.state == "closed"
    assert throttled.throttled_until_s == rig.now_s + 1.0


def test_too_long_prompt_goes_only_where_more_fits() -> None:
    rig = Rig("a,b | c", windows={"a": 8000, "b": 4000, "c": 32000})
    rig.fail("too_long", RequestError("context_length_exceeded", "first"))
    assert rig.path == "a:too_long c:running"
    rig.fail("too_long", RequestError("context_length_exceeded", "second"))
    assert rig.sink.error is not None
    assert rig.sink.error.message == "first"


def test_answer_is_held_back_until_content() -> None:
    rig = Rig(stream=True)
    rig.exchange.content(rig.attempt, b"role;", 1, rig.now_s)
    assert rig.sink.ends == []
    rig.exchange.content(rig.attempt, b"text;", 2, rig.now_s)
    assert rig.sink.ends == ["begin"]
    assert rig.sink.sent == b"role;text;"


def test_failure_before_content_is_invisible() -> None:
    rig = Rig(stream=True)
    rig.exchange.content(rig.attempt, b"role of a;", 1, rig.now_s)
    rig.fail("malformed")
    rig.exchange.content(rig.attempt, b"role of b;text", 2, rig.now_s)
    rig.exchange.ended(rig.attempt, b"[DONE]", rig.now_s)
    assert rig.sink.sent == b"role of b;text[DONE]"
    assert rig.sink.ends == ["begin", "end"]


@pytest.mark.parametrize("outcome", sorted(set(RULES) - {"ok"}))
def test_failure_after_content_cuts_and_is_never_repeated(outcome: str) -> None:
    rig = Rig(stream=True)
    rig.exchange.content(rig.attempt, b"text", 2, rig.now_s)
    rig.fail(outcome)
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.path == "a:interrupted"
    assert rig.sink.error is not None
    assert rig.sink.error.code == "stream_interrupted"


def test_events_without_content_do_not_prolong_the_wait_for_the_first_content() -> None:
    rig = Rig(stream=True, timeouts=Timeouts(first_token_s=5.0, gap_s=30.0))
    for _ in range(4):
        rig.now_s += 1.0
        rig.exchange.content(rig.attempt, b"role;", 1, rig.now_s)
    assert rig.wait() == pytest.approx(1.0)
    assert rig.path == "a:slow b:running"


def test_gap_that_a_slow_client_made_is_not_the_upstream_s() -> None:
    rig = Rig(stream=True, timeouts=Timeouts(gap_s=30.0))
    rig.exchange.content(rig.attempt, b"one", 2, rig.now_s)
    rig.sink.ready_since_s = math.inf
    assert rig.wait() == 30.0
    rig.sink.ready_since_s = rig.now_s + 20.0
    assert rig.wait() == 30.0
    assert (rig.path, rig.sink.ends) == ("a:running", ["begin"])
    assert rig.wait() == 20.0
    assert rig.path == "a:interrupted"


def test_gap_after_content_is_noticed() -> None:
    rig = Rig(stream=True)
    rig.exchange.content(rig.attempt, b"text", 2, rig.now_s)
    assert rig.wait() == pytest.approx(30.0)
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.sink.cancelled == [rig.attempt]


def test_total_deadline_ends_a_stream_that_still_flows() -> None:
    rig = Rig(stream=True, total_s=50.0)
    for _ in range(49):
        rig.now_s += 1.0
        rig.exchange.content(rig.attempt, b".", 2, rig.now_s)
    rig.wait()
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"


def test_an_attempt_with_an_alternative_leaves_time_for_it() -> None:
    rig = Rig("a,b", total_s=10.0)
    assert rig.wait() == pytest.approx(6.0)
    assert rig.path == "a:slow b:running"


def test_an_attempt_without_alternative_may_use_all_but_the_margin() -> None:
    rig = Rig("a", total_s=10.0)
    assert rig.wait() == pytest.approx(9.95)
    assert rig.sink.ends == ["fail"]


def test_no_attempt_without_time() -> None:
    rig = Rig("a,b", total_s=0.01)
    assert rig.sink.opened == []
    assert rig.sink.error is not None
    assert rig.sink.error.code == "deadline_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_cancels_and_counts_against_nobody(stream: bool) -> None:
    rig = Rig(stream=stream)
    if stream:
        rig.exchange.content(rig.attempt, b"text", 2, rig.now_s)
    rig.exchange.client_gone(rig.now_s)
    assert rig.sink.cancelled == [rig.attempt]
    assert rig.path == "a:cancelled"
    assert rig.in_flight() == 0
    assert rig.sink.ends == (["begin"] if stream else [])


def test_client_that_leaves_during_backoff() -> None:
    rig = Rig("a")
    rig.fail("unavailable")
    rig.exchange.client_gone(rig.now_s)
    rig.exchange.handle_timeout(rig.exchange.due_s + 1)
    assert len(rig.sink.opened) == 1
    assert rig.sink.ends == []
    assert rig.plan.legs[0].budget.active == 0


def test_no_endpoint_is_told_with_the_time_to_come_back() -> None:
    rig = Rig("a", retries=0, endpoints_open=True)
    assert rig.sink.opened == []
    assert rig.sink.error is not None
    assert rig.sink.error.code == "no_healthy_endpoint"
    ready_s = rig.plan.legs[0].group.retry_at_s(rig.now_s) - rig.now_s
    assert rig.sink.error.retry_after_s == pytest.approx(ready_s)


def test_empty_budget_returns_the_first_error_at_once() -> None:
    rig = Rig("a,b")
    rig.plan.legs[0].budget.tokens = 5.5
    rig.fail("connect")
    assert rig.path == "a:connect"
    assert rig.sink.ends == ["fail"]


def test_budget_is_given_back_when_the_retry_is_over() -> None:
    rig = Rig("a,b")
    rig.fail("connect")
    assert rig.plan.legs[0].budget.active == 1
    rig.exchange.whole(rig.attempt, b"{}", rig.now_s)
    assert rig.plan.legs[0].budget.active == 0


def test_too_much_before_content_is_a_failure() -> None:
    rig = Rig(stream=True)
    rig.exchange.content(rig.attempt, b"x" * 300_000, 1, rig.now_s)
    assert rig.path == "a:malformed b:running"


def test_unary_answers_never_count_as_slow() -> None:
    rig = Rig("a")
    for _ in range(30):
        one = Rig("a")
        one.endpoints["a"].gate = rig.endpoints["a"].gate
        one.exchange.whole(one.attempt, b"{}", one.now_s + 500.0)
    assert rig.endpoints["a"].gate.state == "closed"


def test_a_trial_is_decided_by_its_first_content() -> None:
    rig = Rig("a", endpoints_open=True, stream=True, at_s=1007.0)
    assert rig.endpoints["a"].gate.state == "half_open"
    for _ in range(2):
        rig.exchange.content(rig.attempt, b"text", 2, rig.now_s)
        former, rig = rig, Rig("a", stream=True, at_s=1008.0, gate=rig.endpoints["a"].gate)
        assert former.exchange.state == "committed"
    rig.exchange.content(rig.attempt, b"text", 2, rig.now_s)
    rig.exchange.ended(rig.attempt, b"", rig.now_s + 100.0)
    assert rig.endpoints["a"].gate.state == "closed"


def test_empty_budget_leads_to_the_fallback_at_once() -> None:
    rig = Rig("a,b | c")
    rig.plan.legs[0].budget.tokens = 5.5
    rig.fail("connect")
    assert [attempt.endpoint for attempt in rig.sink.opened][1:] == ["c"]
