"""A run of a team in virtual time: who is asked, what is taken, what is cancelled, what it may spend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.cooperation.script import Line, Script

from open_autoglm import clock
from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.team_run import Means, Outcome, Rates, TeamRun, Terms
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import RequestError, UpstreamError
from open_autoglm.scheduling.budget import Ledger, Snapshot
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.catalog import Knowledge, Member, make_strategy
from open_autoglm.voting.settings import TeamSettings

QUESTION = Question((Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("6 * 7?"),))))
WRONG = UpstreamError("upstream_error", "no")


class Watch:
    """Notes events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, data: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(data)))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


def _read(ask: Ask, reply: Reply) -> tuple[str, tuple[str, ...]]:
    return reply.text, () if reply.text else ("empty",)


def _as_said(member: str, confidence: float | None) -> float | None:
    return confidence


def _run(
    script: Script,
    strategy: str = "dynamic_voting",
    members: str = "abc",
    *,
    ledger: Ledger | None = None,
    deadline_s: float = 10.0,
    watch: Watch | None = None,
    rates: dict[str, Rates] | None = None,
    **settings: Any,
) -> TeamRun:
    machine = make_strategy(strategy, tuple(Member(name) for name in members), TeamSettings(**settings), Knowledge(), 1)
    means = Means(script, script, _read, _as_said, ledger or Ledger())
    terms = Terms(START_S + deadline_s, START_S + 100.0, "tenant", 3, rates or {})
    return TeamRun(machine, QUESTION, means, terms, [watch] if watch else [])


def _play(script: Script, strategy: str = "dynamic_voting", members: str = "abc", **more: Any) -> tuple[Outcome, float]:
    async def scene() -> tuple[Outcome, float]:
        outcome = await _run(script, strategy, members, **more).run()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "a task outlives its run"
        return outcome, clock.monotonic() - START_S

    outcome, took_s = VirtualLoop().run(scene())
    assert script.running == 0
    return outcome, took_s


def test_all_are_asked_at_once_and_the_majority_answers() -> None:
    script = Script(a=[Line("42", 0.3)], b=[Line("41", 0.2)], c=[Line("42", 0.4)])
    outcome, took_s = _play(script, early_exit="none")
    assert outcome.reply is not None
    assert (outcome.reply.text, outcome.decision.reason) == ("42", "all_in")
    assert took_s == pytest.approx(0.4)
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (15, 30)
    assert outcome.cost == pytest.approx(0.03)
    assert [candidate.member for candidate in outcome.candidates] == ["b", "a", "c"]
    assert {arguments["priority"] for arguments in script.arguments} == {3}
    assert {arguments["tenant"] for arguments in script.arguments} == {"tenant"}


def test_a_decision_cancels_whoever_is_not_needed_any_more() -> None:
    watch = Watch()
    script = Script(a=[Line("42", 0.1)], b=[Line("42", 0.2)], c=[Line("41", 60.0)])
    outcome, took_s = _play(script, watch=watch)
    assert outcome.decision.reason == "decided"
    assert took_s == pytest.approx(0.2)
    assert script.cancelled == ["c"]
    assert watch.kinds() == ["asked", "asked", "asked", "candidate", "candidate", "failed", "decided"]
    assert watch.events[5][1] == {"number": 2, "member": "c", "failure": "cancelled", "at_ms": 200.0}


@pytest.mark.parametrize("said", [WRONG, ValueError("a defect"), ""])
def test_a_member_that_fails_is_no_vote_and_no_harm(said: str | Exception) -> None:
    script = Script(a=[Line("42")], b=[Line(said)], c=[Line("42")])
    outcome, _ = _play(script, early_exit="none")
    assert outcome.reply is not None
    assert outcome.reply.text == "42"
    assert [candidate.counts for candidate in outcome.candidates] == [True, False, True]


@pytest.mark.parametrize("broken", ["reader", "calibration"])
def test_a_reply_that_cannot_be_read_is_paid_for_and_ends_no_run(broken: str) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("a defect")

    script, ledger = Script(a=[Line("42")]), Ledger(tokens=9_000)
    readers: dict[str, Any] = {"reader": _read, "calibration": _as_said, broken: fails}
    means = Means(script, script, ledger=ledger, **readers)
    strategy = make_strategy("dynamic_voting", (Member("a"),), TeamSettings(), Knowledge(), 1)
    run = TeamRun(strategy, QUESTION, means, Terms(START_S + 10.0, START_S + 100.0))
    outcome = VirtualLoop().run(run.run())
    assert (outcome.reply, outcome.error and outcome.error.code) == (None, "internal_error")
    assert (ledger.snapshot().tokens, outcome.cost) == (15, pytest.approx(0.01))


def test_at_the_deadline_the_best_so_far_counts() -> None:
    script = Script(a=[Line("42", 1.0)], b=[Line("x", 99.0)], c=[Line("y", 99.0)])
    outcome, took_s = _play(script, deadline_s=2.0, early_exit="none")
    assert outcome.reply is not None
    assert (outcome.reply.text, outcome.decision.reason) == ("42", "deadline")
    assert took_s == pytest.approx(2.0)
    assert sorted(script.cancelled) == ["b", "c"]


def test_without_any_answer_it_says_why() -> None:
    outcome, _ = _play(Script(a=[Line("x", 99.0)]), members="a", deadline_s=1.0)
    assert (outcome.reply, outcome.error and outcome.error.code) == (None, "deadline_exceeded")
    outcome, _ = _play(Script(a=[Line("")], b=[Line("")]), members="ab")
    assert outcome.error is not None
    assert outcome.error.code == "no_quorum"


def test_what_all_members_refuse_is_refused_in_their_words() -> None:
    error = RequestError("invalid_request", "temperature is 9", param="temperature")
    outcome, _ = _play(Script(a=[Line(error)], b=[Line(error)]), members="ab")
    assert outcome.error is error


def test_a_budget_ends_the_asking_but_not_what_is_paid_for() -> None:
    watch = Watch()
    script = Script(a=[Line("42", 0.1)])
    tokens = 2 * (QUESTION.prompt_tokens(Ask(0, "a")) + 1024)
    outcome, _ = _play(script, "ahead_by_k", "a", ledger=Ledger(tokens=tokens), watch=watch, lead=3)
    assert outcome.reply is not None
    assert outcome.decision.reason == "budget_exhausted"
    assert len(script.asked) == 2, "two fit at once; the third is not asked for"
    assert "budget" in watch.kinds()


def test_an_ask_that_ends_itself_counts_what_was_sent() -> None:
    ledger = Ledger(tokens=9_000)
    script = Script(a=[Line(asyncio.CancelledError())], b=[Line("42")], c=[Line("42")])
    outcome, _ = _play(script, early_exit="none", ledger=ledger)
    assert outcome.reply is not None
    assert outcome.reply.text == "42"
    assert [each.failure for each in outcome.candidates if each.member == "a"] == ["client_closed"]
    assert ledger.snapshot().tokens == QUESTION.prompt_tokens(Ask(0, "a")) + 2 * 15


def test_a_budget_too_small_for_one_ask_asks_nobody() -> None:
    script = Script(a=[Line("42")])
    outcome, _ = _play(script, members="a", ledger=Ledger(tokens=100))
    assert (outcome.reply, script.asked) == (None, [])
    assert outcome.error is not None
    assert outcome.error.code == "insufficient_quota"


def test_money_is_reserved_by_the_members_price() -> None:
    script = Script(a=[Line("42")], b=[Line("42")])
    rates = {"a": Rates(0.0, 1000.0), "b": Rates(0.0, 1.0)}
    outcome, _ = _play(script, members="ab", ledger=Ledger(money=0.5), rates=rates)
    assert [member for member, _ in script.asked] == [], "1024 tokens at 1000 a million do not fit"
    assert outcome.decision.reason == "budget_exhausted"


@pytest.mark.parametrize(
    ("ledger", "wished", "told"),
    [
        (Ledger(calls=9), None, None),
        (Ledger(tokens=9_000), None, 1024),
        (Ledger(money=1.0), None, 1024),
        (Ledger(tokens=9_000).child(), None, 1024),
        (Ledger(tokens=9_000), 7, 7),
    ],
)
def test_a_member_may_not_write_more_than_was_set_aside(ledger: Ledger, wished: int | None, told: int | None) -> None:
    script = Script(a=[Line("42")])
    strategy = make_strategy("dynamic_voting", (Member("a"),), TeamSettings(), Knowledge(), 1)
    means = Means(script, script, _read, _as_said, ledger)
    question = replace(QUESTION, max_tokens=wished)
    VirtualLoop().run(TeamRun(strategy, question, means, Terms(START_S + 10.0, START_S + 100.0)).run())
    assert [arguments["max_tokens"] for arguments in script.arguments] == [told]


def test_a_delayed_ask_waits_until_it_is_needed() -> None:
    fast, late = Script(a=[Line("42", 0.5)], b=[Line("x")]), Script(a=[Line("42", 9.0)], b=[Line("41", 0.2)])
    outcome, took_s = _play(fast, "hedged", "ab", hedge_delay_s=1.0)
    assert [member for member, _ in fast.asked] == ["a"]
    assert took_s == pytest.approx(0.5)
    outcome, took_s = _play(late, "hedged", "ab", hedge_delay_s=1.0)
    assert outcome.reply is not None
    assert (outcome.reply.text, late.cancelled) == ("41", ["a"])
    assert took_s == pytest.approx(1.2)
    failing = Script(a=[Line(WRONG, 0.1)], b=[Line("41", 0.2)])
    outcome, took_s = _play(failing, "hedged", "ab", hedge_delay_s=1.0)
    assert took_s == pytest.approx(0.3), "a failure costs no delay"


def test_who_was_still_to_be_asked_when_it_was_decided_is_neither_asked_nor_paid_for() -> None:
    watch, ledger = Watch(), Ledger()
    script = Script(a=[Line("42", 0.5)], b=[Line("x")], c=[Line("x")])
    outcome, _ = _play(script, "hedged", hedge_delay_s=1.0, watch=watch, ledger=ledger, rates={"b": Rates(1000.0, 0.0)})
    assert watch.kinds() == ["asked", "candidate", "decided"]
    assert (ledger.snapshot().calls, outcome.cost) == (1, pytest.approx(0.01))


def test_a_prompt_takes_the_place_of_the_users_last_message() -> None:
    script = Script(a=[Line("1")], b=[Line("42")], c=[Line("41")])
    _play(script, "best_of_n", scorer="judge", judge="a", samples=2, frequency_min=0.0)
    judged = [messages for member, messages in script.asked if member == "a"]
    assert judged
    for system, user in judged:
        assert system.text() == "Be brief."
        assert "6 * 7?" in user.text()
        assert "42" in user.text()


def test_a_run_that_is_cancelled_leaves_nothing_running() -> None:
    script = Script(a=[Line("42", 5.0)], b=[Line("42", 5.0)], c=[Line("42", 5.0)])

    async def scene() -> float:
        task = asyncio.ensure_future(_run(script).run())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return clock.monotonic() - START_S

    assert VirtualLoop().run(scene()) == pytest.approx(1.0)
    assert sorted(script.cancelled) == ["a", "b", "c"]


class Endless:
    """A strategy that would go on for ever."""

    decision: Decision | None = None

    def __init__(self) -> None:
        self._number = 0

    def begin(self) -> list[Ask]:
        return self._more()

    def take(self, candidate: Candidate) -> list[Ask]:
        return self._more()

    def stop(self, reason: str) -> None:
        self.decision = Decision("", -1, 0.0, 0.0, (), reason)

    def _more(self) -> list[Ask]:
        self._number += 1
        return [Ask(self._number - 1, "a")]


def test_calls_are_bounded_whatever_a_strategy_wants() -> None:
    script = Script(a=[Line("x", 0.0)])
    means = Means(script, script, _read, _as_said, Ledger(calls=7))
    run = TeamRun(Endless(), QUESTION, means, Terms(START_S + 100.0, START_S + 100.0))
    assert VirtualLoop().run(run.run()).decision.reason == "budget_exhausted"
    assert len(script.asked) == 7


TIMES = st.floats(0.0, 5.0)
SAID = st.sampled_from(["42", "41", "", WRONG])


@given(st.lists(st.tuples(SAID, TIMES), min_size=1, max_size=5), st.floats(0.1, 4.0))
def test_every_run_ends_in_time_with_its_books_closed(lines: list[tuple[Any, float]], deadline_s: float) -> None:
    names = "abcde"[: len(lines)]
    script = Script(**{name: [Line(said, after_s)] for name, (said, after_s) in zip(names, lines, strict=True)})
    ledger = Ledger(tokens=10**6, money=1.0)
    watch = Watch()
    outcome, took_s = _play(script, members=names, ledger=ledger, deadline_s=deadline_s, watch=watch)
    assert took_s <= deadline_s + 1e-6
    spent = ledger.snapshot()
    assert (spent.tokens_reserved, spent.money_reserved, spent.calls) == (0, 0.0, len(script.asked))
    assert watch.kinds().count("asked") == watch.kinds().count("candidate") + watch.kinds().count("failed")
    assert watch.kinds()[-1] == "decided"
    if outcome.reply is None:
        assert outcome.error is not None


def test_a_team_that_drew_on_the_ledger_itself_is_not_paid_for_twice() -> None:
    script, ledger = Script(a=[Line("42", drawn=True)], b=[Line("42")]), Ledger(tokens=5000)
    outcome, _ = _play(script, members="ab", ledger=ledger, rates={"a": Rates(answers=False)}, early_exit="none")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (10, 20)
    assert ledger.snapshot() == Snapshot(tokens=15, money=0.01, calls=2)


def test_a_team_is_not_asked_when_nothing_is_left() -> None:
    script, ledger = Script(a=[Line("42")]), Ledger(tokens=10)
    ledger.spend(10, 0.0)
    outcome, _ = _play(script, members="a", ledger=ledger, rates={"a": Rates(answers=False)})
    assert (script.asked, outcome.decision.reason) == ([], "budget_exhausted")
