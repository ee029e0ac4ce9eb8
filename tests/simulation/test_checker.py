"""Each promise can be broken: a doctored run for every rule of the checker, and a good one that breaks none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.testing.checker import PROMISES, Bounds, Revision, Run, Span, judge
from open_autoglm.testing.client import Question, Seen
from open_autoglm.testing.reply import Asked


def asked(id_: str, at_s: float, host: str = "up-1", model: str = "chat", took_s: float = 0.1) -> Asked:
    one = Asked(host, "/v1/chat/completions", {"x-request-id": id_}, {"model": model}, at_s)
    one.done_s = at_s + took_s
    return one


def written(id_: str, status: int = 200, outcomes: tuple[str, ...] = ("ok",)) -> RequestRecord:
    record = RequestRecord("/v1/chat/completions", 0.0, 1, id_)
    record.status, record.model = status, "chat"
    record.attempts = [AttemptRecord("up-1", "chat", n, "", 0.0) for n in range(len(outcomes))]
    for attempt, outcome in zip(record.attempts, outcomes, strict=True):
        attempt.outcome = outcome
    return record


def good_run() -> Run:
    """Two requests, one of them a stream, both answered rightly."""
    run = Run(Bounds(), {}, [], [])
    assert run.records is not None
    for number, stream in ((1, False), (2, True)):
        question = Question(f"q-{number}", f"question {number}", stream=stream)
        seen = Seen(sent_s=10.0, first_s=10.1, ended_s=10.2, end="whole", ends=1, status=200, finish="length")
        seen.text, seen.done, seen.roles = question.right, stream, int(stream)
        run.seen[question.id] = question, seen
        run.asked.append(asked(question.id, 10.01))
        run.records.append(written(question.id))
    return run


def seen(run: Run, number: int = 1) -> Seen:
    return run.seen[f"q-{number}"][1]


def change(number: int = 1, **fields: Any) -> Callable[[Run], None]:
    def doctor(run: Run) -> None:
        for name, value in fields.items():
            setattr(seen(run, number), name, value)

    return doctor


def call_twice(run: Run) -> None:
    run.asked[0].done_s = 10.19
    run.asked.append(asked("q-1", 10.02, "up-2", took_s=0.15))


def retry_often(run: Run) -> None:
    assert run.records is not None
    run.records += [written(f"other-{n}", outcomes=("failed", "ok")) for n in range(40)]


def ask_late(run: Run) -> None:
    run.asked.append(asked("q-1", 11.0, took_s=0.01))


def let_run_on(run: Run) -> None:
    run.asked[0].done_s = 0.0
    run.asked[0].left_s = 12.0


def hammer(run: Run) -> None:
    run.failing.append(Span("up-1", 20.0, 40.0))
    run.asked += [asked("", 20.0 + n * 0.5) for n in range(40)]


def ask_early(run: Run) -> None:
    run.throttled.append(Span("up-1", 9.0, 12.0))


def mix(run: Run) -> None:
    run.revisions += [
        Revision(0.0, frozenset({("up-1", "chat")})),
        Revision(5.0, frozenset({("up-1", "chat-second")})),
    ]


def drop_in_drain(run: Run) -> None:
    run.closed_s = 11.0
    change(error={"code": "server_draining"}, status=503)(run)


def refuse_late(run: Run) -> None:
    change(error={"code": "overloaded"}, status=503, ended_s=15.0)(run)
    run.asked.clear()


def prefer_the_lower(run: Run) -> None:
    for number in range(40):
        question = Question(f"c-{number}", "x")
        one = Seen(sent_s=10.0, ended_s=10.1, end="whole", ends=1, status=200, finish="stop", text=question.right)
        run.seen[question.id] = question, one
        run.classes[question.id] = class_ = number % 2 * 2
        assert run.records is not None
        if class_ == 2:
            one.status, one.error, one.text = 503, {"code": "overloaded"}, ""
        run.records.append(written(question.id, one.status))


def storm_in_the_calm(run: Run) -> None:
    run.calm_s = 5.0
    change(error={"code": "upstream_error"}, status=502)(run)


def write_twice(run: Run) -> None:
    assert run.records is not None
    run.records.append(written("q-1"))


DOCTORED: dict[str, Callable[[Run], None]] = {
    "one_end": change(ends=2),
    "right_text": change(finish=""),
    "true_part": change(text="something else"),
    "honest_break": change(2, end="cut", done=False),
    "errors_have_a_code": change(status=502, error=None),
    "attempts_bounded": call_twice,
    "retries_bounded": retry_often,
    "no_late_call": ask_late,
    "cancelled_in_time": let_run_on,
    "limits_kept": change(ended_s=1000.0),
    "failing_left_alone": hammer,
    "asked_time_is_kept": ask_early,
    "one_configuration": mix,
    "nothing_lost_in_drain": drop_in_drain,
    "refused_in_time": refuse_late,
    "higher_class_first": prefer_the_lower,
    "calm_after_the_storm": storm_in_the_calm,
    "one_record": write_twice,
    "nothing_left": lambda run: run.leftovers.update({"permits": 1.0}),
    "no_defect": lambda run: run.failures.append("an exception"),
}


def test_a_good_run_breaks_no_promise() -> None:
    assert judge(good_run()) == []


def test_every_promise_has_its_doctored_run() -> None:
    assert set(DOCTORED) == set(PROMISES)


@pytest.mark.parametrize("promise", PROMISES)
def test_the_promise_can_be_broken(promise: str) -> None:
    run = good_run()
    DOCTORED[promise](run)
    assert promise in {broken.promise for broken in judge(run)}


@pytest.mark.parametrize(
    "doctor",
    [
        change(text="short"),
        change(2, done=False),
        change(2, roles=2),
        change(unreadable="garbage"),
    ],
    ids=["other text", "no end mark", "two voices", "unreadable"],
)
def test_a_wrong_answer_is_never_right(doctor: Callable[[Run], None]) -> None:
    run = good_run()
    doctor(run)
    assert "right_text" in {broken.promise for broken in judge(run)}


@pytest.mark.parametrize(
    "doctor",
    [
        change(2, late=1),
        change(2, error={"code": "x"}),
        change(status=0, end="cut"),
    ],
    ids=["text after the end", "error and end mark", "no answer at all"],
)
def test_a_break_is_told(doctor: Callable[[Run], None]) -> None:
    run = good_run()
    doctor(run)
    assert "honest_break" in {broken.promise for broken in judge(run)}


def test_what_the_network_held_up_is_not_held_against_the_gateway() -> None:
    run = good_run()
    let_run_on(run)
    run.unreachable.append(Span("up-1", 9.0, 12.0))
    assert judge(run) == []
