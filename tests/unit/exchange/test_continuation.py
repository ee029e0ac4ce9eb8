"""What happens to a stream that breaks after content, by its stage and by what was asked for."""

import pytest

from open_autoglm.errors import RequestError
from tests.unit.exchange.harness import Rig


def broken(legs: str = "a,b", outcome: str = "connect", *, stage: int = 2, **options: object) -> Rig:
    """A stream of `a` that has delivered `one ` and broke; going on was asked for."""
    rig = Rig(legs, stream=True, stream_failure="continue", **options)  # type: ignore[arg-type]
    rig.content(b"one ", stage)
    rig.fail(outcome)
    return rig


def test_another_endpoint_goes_on_with_the_text() -> None:
    rig = broken()
    assert rig.path == "a:interrupted b:running"
    assert rig.attempt.resumes
    assert rig.exchange.state == "committed"
    rig.content(b"two", 2)
    rig.end()
    assert rig.sink.sent == b"one two[DONE]"
    assert rig.sink.ends == ["begin", "end"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_continuation_that_has_nothing_to_add_ends_the_stream() -> None:
    rig = broken()
    rig.end()
    assert rig.sink.sent == b"one [DONE]"
    assert rig.sink.ends == ["begin", "end"]


@pytest.mark.parametrize("outcome", ["connect", "refused", "malformed", "throttled", "too_long", "stale"])
def test_a_continuation_that_fails_before_content_is_followed_by_another(outcome: str) -> None:
    rig = broken("a,b,c")
    rig.content(b"role;", 1)
    rig.fail(outcome, RequestError("invalid_request", "the last message must be the user's"))
    assert rig.exchange.state == "committed"
    assert rig.attempt.resumes
    rig.content(b"two", 2)
    rig.end()
    assert rig.sink.sent == b"one two[DONE]"
    assert rig.sink.ends == ["begin", "end"]


def test_when_nobody_can_go_on_the_client_hears_of_the_break_and_of_nothing_else() -> None:
    rig = broken()
    while not rig.sink.ends[1:]:
        rig.fail("refused", RequestError("invalid_request", "the last message must be the user's"))
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "stream_interrupted"
    assert "connect" in rig.sink.error.message
    assert len(rig.sink.opened) <= 3
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_a_continuation_that_says_nothing_is_given_up_in_time() -> None:
    rig = broken("a,b", retries=1)
    assert rig.wait() == pytest.approx(60.0)
    assert rig.path == "a:interrupted b:slow"
    assert rig.sink.ends == ["begin", "cut"]


def test_a_stream_is_gone_on_with_once() -> None:
    rig = broken("a,b,c", retries=5)
    rig.content(b"two ", 2)
    rig.fail("connect")
    assert rig.outcomes == "interrupted interrupted"
    assert rig.sink.ends == ["begin", "cut"]


def test_behind_one_address_there_may_be_many_servers() -> None:
    rig = broken("a")
    assert rig.path == "a:interrupted a:running"
    rig.content(b"two", 2)
    rig.end()
    assert rig.sink.sent == b"one two[DONE]"


def test_another_endpoint_comes_before_the_same() -> None:
    rig = broken("a,b,c")
    rig.fail("connect")
    assert len({attempt.endpoint for attempt in rig.sink.opened}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"continuations": {"a": "none", "b": "none"}},
        {"continuations": {"a": "none"}, "models": {"b": "another"}},
        {"retries": 0},
        {"may_retry": False},
    ],
)
def test_where_nobody_can_go_on_the_stream_is_cut_at_once(options: dict[str, object]) -> None:
    rig = broken("a,b", **options)
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]


def test_another_leg_is_another_model() -> None:
    rig = broken("a | b", continuations={"a": "none"})
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]


def test_a_request_that_cannot_be_gone_on_with_is_cut() -> None:
    rig = Rig("a,b", stream=True, stream_failure="continue")
    rig.sink.continues = False
    rig.content()
    rig.fail("connect")
    assert rig.sink.ends == ["begin", "cut"]


def test_an_empty_budget_cuts() -> None:
    rig = Rig("a,b", stream=True, stream_failure="continue")
    rig.plan.legs[0].budget.tokens = 5.5
    rig.content()
    rig.fail("connect")
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]


def test_a_tool_call_begun_is_never_gone_on_with() -> None:
    rig = broken(stage=3)
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]


def test_by_default_a_broken_stream_is_cut() -> None:
    rig = Rig("a,b", stream=True)
    rig.content()
    rig.fail("connect")
    assert rig.path == "a:interrupted"
    assert rig.sink.ends == ["begin", "cut"]


@pytest.mark.parametrize("stream_failure", ["terminate", "continue"])
def test_what_fails_after_the_finish_reason_does_not_make_the_answer_less_whole(stream_failure: str) -> None:
    rig = Rig("a,b", stream=True, stream_failure=stream_failure)  # type: ignore[arg-type]
    rig.content(b"text;finish;", 4)
    rig.fail("connect")
    assert rig.sink.ends == ["begin", "end"]
    assert rig.sink.sent == b"text;finish;[closed]"
    assert rig.path == "a:ok"
    assert rig.attempt.detail == "after its finish reason: scripted connect"
    assert rig.failures("a") == 0


def test_an_upstream_that_never_closes_after_the_finish_reason_is_closed_for_it() -> None:
    rig = Rig("a,b", stream=True)
    rig.content(b"text;finish;", 4)
    assert rig.wait() == pytest.approx(30.0)
    assert rig.sink.ends == ["begin", "end"]
    assert rig.sink.finished == [rig.attempt]
    assert rig.sink.cancelled == []


def test_a_client_that_leaves_ends_the_continuation() -> None:
    rig = broken()
    rig.exchange.client_gone(rig.now_s)
    assert rig.path == "a:interrupted b:cancelled"
    assert rig.sink.ends == ["begin"]
    assert (rig.in_flight(), rig.retries_active) == (0, 0)


def test_when_time_runs_out_meanwhile_the_client_hears_of_the_break() -> None:
    rig = broken(total_s=20.0)
    rig.now_s += 100.0
    rig.exchange.handle_timeout(rig.now_s)
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "stream_interrupted"


# The server stops.


@pytest.mark.parametrize("prepare", ["open", "hedged", "waiting", "queued"])
def test_a_stopping_server_refuses_what_has_no_answer_yet(prepare: str) -> None:
    rig = Rig("a,b" if prepare == "hedged" else "a", stream=True, rooms={"a": 0} if prepare == "queued" else None)
    if prepare == "hedged":
        rig.wait()
    elif prepare == "waiting":
        rig.fail("connect")
    rig.exchange.drain_cut(rig.now_s)
    assert rig.sink.ends == ["fail"]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "server_draining"
    assert (rig.in_flight(), rig.retries_active, rig.plan.legs[0].queue.waiting) == (0, 0, 0)


def test_a_stopping_server_cuts_a_stream() -> None:
    rig = Rig(stream=True)
    rig.content()
    rig.exchange.drain_cut(rig.now_s)
    assert rig.sink.ends == ["begin", "cut"]
    assert rig.sink.cancelled == [rig.attempt]
    assert rig.sink.error is not None
    assert rig.sink.error.code == "server_draining"
    assert rig.failures("a") == 0


def test_a_stopping_server_ends_a_stream_that_had_its_finish_reason() -> None:
    rig = Rig(stream=True)
    rig.content(b"text;finish;", 4)
    rig.exchange.drain_cut(rig.now_s)
    assert rig.sink.ends == ["begin", "end"]


def test_the_rest_of_an_answer_comes_before_new_work() -> None:
    rig = Rig("a,b", stream=True, stream_failure="continue")
    rig.content(b"one ", 2)
    other = next(endpoint for name, endpoint in rig.endpoints.items() if name != rig.attempt.endpoint)
    # Full for every class but the highest.
    other.rooms = (0, 0, 0, 1)
    rig.fail("connect")
    assert rig.path == "a:interrupted b:running"
