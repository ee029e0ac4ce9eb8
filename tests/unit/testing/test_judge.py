"""What a gateway did, and what the judge says of it."""

import re

import pytest

from open_autoglm.testing.cases import CASES, SIXTEEN, Case
from open_autoglm.testing.faults import FAULTS, FILTER_REASON, PREFILL_REASON
from open_autoglm.testing.hearing import Heard
from open_autoglm.testing.judge import FALLBACK, FALLBACK_MODEL, judge
from open_autoglm.testing.outage import DOWN
from open_autoglm.testing.reply import Asked
from open_autoglm.testing.speech import TOKENS, text_of

QUESTION = "drill-03-u-0-00000000"
TEXT = text_of(QUESTION)
CASE = Case(3, "some", "something", "error-500", within_s=10.0, tries_max=2)


def whole(**other: object) -> Heard:
    fields = {"text": TEXT, "finish": "stop", "done": True, "usage": {"completion_tokens": TOKENS}, "end": "whole"}
    return Heard(**({"stream": True, "asked_s": 100.0, "ended_s": 101.0, "status": 200} | fields | other))


def failed(**other: object) -> Heard:
    return whole(
        **({"text": "", "finish": "", "done": False, "usage": {}, "status": 502, "error": "no answer"} | other)
    )


def a_try(upstream: str = "primary", arrived_s: float = 100.0, done_s: float = 100.5) -> Asked:
    asked = Asked(upstream, "/v1/chat/completions", {}, {}, arrived_s)
    asked.done_s = done_s
    return asked


def grade(case: Case, heard: Heard, *tries: Asked) -> tuple[str, str]:
    verdict = judge(case, QUESTION, heard, tries, 110.0)
    return verdict.grade, verdict.why


def test_the_whole_right_answer_is_a_rescue() -> None:
    assert grade(CASE, whole(), a_try(), a_try("secondary")) == ("rescued", "")


@pytest.mark.parametrize(
    "heard",
    [failed(), failed(text=TEXT[:50], status=200, end="broken"), failed(status=200, error="", text="x", end="broken")],
    ids=["refused", "told in the stream", "another text, and broken off"],
)
def test_an_error_tells_unless_what_was_shown_is_wrong(heard: Heard) -> None:
    assert grade(CASE, heard)[0] == ("wrong" if heard.text == "x" else "told")


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        (whole(text=TEXT[:100]), "100 of"),
        (whole(text=TEXT[:100], finish="", done=False), "100 of"),
        (whole(text=TEXT[:100] + TEXT[90:]), "from character 100 on"),
        (whole(finish="length"), "finish reason"),
        (whole(usage={}), "no usage"),
        (whole(malformed=True), "no JSON"),
        (whole(end="late", ended_s=115.0), "neither answer nor error after 15 s"),
        (whole(ended_s=111.0), "only after 11.0 s"),
        (whole(text="", finish="", done=False), "empty answer"),
    ],
)
def test_what_is_wrong_in_what_the_client_saw(heard: Heard, why: str) -> None:
    told = judge(CASE, QUESTION, heard, [], 120.0)
    assert told.grade == "wrong"
    assert re.search(why, told.why)


def test_a_finish_reason_ends_a_stream_as_well_as_done_does() -> None:
    assert grade(CASE, whole(done=False))[0] == "rescued"


def test_too_many_tries_are_wrong() -> None:
    assert grade(CASE, whole(), a_try(), a_try(), a_try())[1].startswith("3 tries at the group")
    assert grade(CASE, whole(), a_try(), a_try(), a_try(FALLBACK))[0] == "rescued"


def test_a_route_that_cannot_help_is_not_tried_again() -> None:
    case = Case(6, "silent", "", "silent", "route", same_route=False)
    assert grade(case, whole(), a_try("primary"), a_try("secondary"))[0] == "rescued"
    assert "tried again" in grade(case, whole(), a_try("primary"), a_try("primary"))[1]


def test_a_slow_first_token_needs_another_endpoint_in_time() -> None:
    case = Case(7, "slow", "", "slow-first-token", "route", 20.0, switch_s=15.0)
    late = whole(ended_s=119.0)
    assert grade(case, late, a_try(), a_try("secondary", 112.0, 112.5))[0] == "rescued"
    assert "within 15 s" in grade(case, late, a_try(), a_try("secondary", 116.0, 116.5))[1]
    assert "within 15 s" in grade(case, late, a_try())[1]


def test_work_must_end_with_the_request() -> None:
    running = a_try(done_s=0.0)
    assert "goes on upstream" in grade(CASE, whole(), running)[1]
    running.left_s = 101.5
    assert grade(CASE, whole(), running)[0] == "rescued"


def test_of_a_client_that_leaves_only_the_work_counts() -> None:
    case = Case(33, "leaves", "", "stall", "group", leaves_s=1.0)
    gone = whole(end="late", text="", finish="", done=False)
    running = a_try(done_s=0.0)
    assert "goes on upstream" in grade(case, gone, running)[1]
    running.left_s = 101.1
    assert grade(case, gone, running)[0] == "rescued"


def test_a_refusal_must_come_with_its_reason_and_not_as_an_answer() -> None:
    case = Case(13, "filter", "", "content-filter", "group", refusal=FILTER_REASON, tries_max=1)
    assert grade(case, failed(status=400, error=f"refused: {FILTER_REASON}"), a_try())[0] == "rescued"
    assert "lost" in grade(case, failed(status=400, error="bad request"), a_try())[1]
    assert "lost" in grade(case, failed(status=502, error=FILTER_REASON), a_try())[1]
    assert "shown as an answer" in grade(case, whole(), a_try())[1]
    assert "not passed on" in grade(case, failed(status=200, error=FILTER_REASON, text=TEXT[:9]), a_try())[1]


def test_another_s_error_is_never_shown() -> None:
    case = Case(14, "cut", "", "cut", never=PREFILL_REASON)
    assert grade(case, failed(error=f"400: {PREFILL_REASON}"))[0] == "wrong"
    assert grade(case, failed())[0] == "told"


def test_a_fallback_says_that_it_answered_and_counts_its_own() -> None:
    case = Case(16, "fallback", "", "bad-gateway", "group", fallback=True)
    usage = {"prompt_tokens": 1010, "completion_tokens": TOKENS}
    assert grade(case, whole(model=FALLBACK_MODEL, usage=usage))[0] == "rescued"
    assert grade(case, whole(headers={"x-model": FALLBACK_MODEL}, usage=usage))[0] == "rescued"
    assert "nothing says" in grade(case, whole(model="drill-16", usage=usage))[1]
    assert "not the fallback's" in grade(case, whole(model=FALLBACK_MODEL))[1]


def test_the_cases_are_sixteen_and_name_behaviours_that_exist() -> None:
    assert [case.number for case in CASES] == list(range(1, len(CASES) + 1))
    assert [case.number for case in SIXTEEN] == list(range(1, 17))
    assert {case.fault for case in CASES} | {case.later for case in CASES} <= FAULTS.keys() | {DOWN}
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_behaviour_says_what_it_does() -> None:
    assert all(fault.summary and "\n" not in fault.summary for fault in FAULTS.values())
