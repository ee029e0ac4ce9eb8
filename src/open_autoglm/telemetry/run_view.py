"""A run of cooperation as it is shown: who was asked, what came of it, how it was decided, what it cost.

Invariant: made from the record alone, so a run that goes on, was cut off by a crash, or lies in an old file is shown
alike. Field names are stable: `autoglm trace` and other people's scripts read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.telemetry.run_record import RunRecord

ROWS_MAX: Final = 2048
"""Asks, and tasks, of one run that are shown."""


class AskView(Struct, omit_defaults=True):
    """One ask.

    Attributes:
        number, member, purpose: see `voting.candidate.Ask`.
        at_ms, ms: from the start of the run, and how long it took; to the end of the run where it was given up.
        outcome: `running`, `won`, `vote`, `no_vote`, `failed`, `cancelled`, `late`.
        letter: of its answer among all answers: A, B, …; empty where it has none.
        answer: as it was written down: itself, or a digest.
        weight: of its vote, where it had one.
        confidence, tokens, cost, version: see `voting.candidate.Candidate`.
        why: flags, or the failure.
    """

    number: int
    member: str
    purpose: str = "answer"
    at_ms: float = 0.0
    ms: float = 0.0
    outcome: str = "running"
    letter: str = ""
    answer: str = ""
    weight: float | None = None
    confidence: float | None = None
    tokens: int = 0
    cost: float = 0.0
    version: str = ""
    why: str = ""


class TaskView(Struct, omit_defaults=True):
    """One task of a graph.

    Attributes:
        id, tool: as planned.
        needs: ids whose results it waits for.
        level: 0 for those that need nothing, else one more than the highest of those they need.
        at_ms, ms: from the start of the run, and how long its last try took.
        outcome: `waiting`, `running`, `done`, `failed`, `held`.
        tries: how many were made.
        why: code of the failure.
    """

    id: str
    tool: str = ""
    needs: list[str] = []
    level: int = 0
    at_ms: float = 0.0
    ms: float = 0.0
    outcome: str = "waiting"
    tries: int = 0
    why: str = ""


class RunView(Struct, omit_defaults=True):
    """One run.

    Attributes:
        run, model, strategy, began_at: what it was.
        ms: how long it took, or goes on.
        state: `running`, `decided`, `undecided`, `failed`, `over` where there was nothing to decide.
        members: names.
        asks: in the order of asking.
        tasks: in an order in which each comes after what it needs.
        tools: calls of tools as they were told, with `at_ms`.
        reason, stopped: why it ended, see `voting.candidate.Decision`, and what told the strategy to stop.
        letter, answer, winner: what was decided, and the member whose text was given.
        posterior, agreement, tie, notes: see `voting.candidate.Decision`.
        cost: money, in all.
        failure: code of the error it ended with.
        labels: what was said of it later: `by`, `right`, `answer`, `time`.
        events_lost: those that were too many to be kept.
    """

    run: str
    model: str = ""
    strategy: str = ""
    began_at: str = ""
    ms: float = 0.0
    state: str = "running"
    members: list[str] = []
    asks: list[AskView] = []
    tasks: list[TaskView] = []
    tools: list[dict[str, Any]] = []
    reason: str = ""
    stopped: str = ""
    letter: str = ""
    answer: str = ""
    winner: str = ""
    posterior: float = 0.0
    agreement: float = 0.0
    tie: bool = False
    notes: list[str] = []
    cost: float = 0.0
    failure: str = ""
    labels: list[dict[str, Any]] = []
    events_lost: int = 0


def view_of(record: RunRecord) -> RunView:
    """Make the view of a run."""
    asks: dict[int, AskView] = {}
    tasks: dict[str, TaskView] = {}
    view = RunView(
        record.run,
        model=_text(record.header.get("model")),
        strategy=_text(record.header.get("strategy")),
        began_at=record.time,
        members=_members(record.header.get("members")),
        labels=[msgspec.to_builtins(label) for label in record.labels],
        events_lost=record.events_lost,
    )
    for event in record.events:
        view.ms = max(view.ms, _number(event.get("at_ms")))
        _take_ask(event, asks)
        _take_task(event, tasks)
        if event["kind"] == "tool_called":
            view.tools.append({name: value for name, value in event.items() if name != "kind"})
    _take_end(record, view)
    _take_decision(record.decision, view, asks)
    for ask in asks.values():
        if ask.outcome == "running" or not ask.ms:
            ask.ms = max(view.ms - ask.at_ms, 0.0)
    for task in tasks.values():
        if task.outcome == "running":
            task.ms = max(view.ms - task.at_ms, 0.0)
    view.asks = sorted(asks.values(), key=lambda ask: ask.number)[:ROWS_MAX]
    view.tasks = _levelled(tasks)[:ROWS_MAX]
    return view


def _take_ask(event: Mapping[str, Any], asks: dict[int, AskView]) -> None:
    number = event.get("ask" if event["kind"] == "candidate" else "number")
    if event["kind"] not in ("asked", "candidate", "failed") or not isinstance(number, int):
        return
    at_ms = _number(event.get("at_ms"))
    ask = asks.get(number)
    if ask is None:
        ask = asks[number] = AskView(number, _text(event.get("member")), at_ms=at_ms)
    if event["kind"] == "asked":
        ask.purpose = _text(event.get("purpose")) or "answer"
        return
    ask.ms = max(at_ms - ask.at_ms, 0.0)
    failure = _text(event.get("failure"))
    if event["kind"] == "failed":
        ask.outcome = failure if failure in ("cancelled", "late") else "failed"
        ask.why = "" if failure == ask.outcome else failure
        return
    flags = event.get("flags")
    ask.why = failure or ", ".join(map(str, flags if isinstance(flags, list) else ()))
    ask.answer = _text(event.get("answer"))
    ask.outcome = "failed" if failure else "no_vote" if ask.why or not ask.answer else "vote"
    confidence = event.get("confidence")
    ask.confidence = None if confidence is None else _number(confidence)
    ask.tokens = int(_number(event.get("prompt_tokens")) + _number(event.get("completion_tokens")))
    ask.cost = _number(event.get("cost"))
    ask.version = _text(event.get("version"))


def _take_task(event: Mapping[str, Any], tasks: dict[str, TaskView]) -> None:
    kind, at_ms = event["kind"], _number(event.get("at_ms"))
    if kind == "plan":
        planned = event.get("tasks")
        for task in planned if isinstance(planned, list) else ():
            if isinstance(task, dict) and "id" in task:
                view = tasks.setdefault(str(task["id"]), TaskView(str(task["id"])))  # it may have been started before
                view.tool = _text(task.get("tool"))
                view.needs = [str(each) for each in task.get("depends_on") or ()]
        return
    outcome = _TASK_OUTCOMES.get(kind)
    name = _text(event.get("task") or event.get("id"))
    if outcome is None or not name:
        return
    task = tasks.setdefault(name, TaskView(name))
    task.outcome = outcome
    if outcome == "running":
        task.tries += 1
        task.at_ms = at_ms
        task.tool = _text(event.get("tool")) or task.tool
    else:
        task.ms = max(at_ms - task.at_ms, 0.0)
        task.why = _text(event.get("code"))


_TASK_OUTCOMES: Final = {"task_started": "running", "task_done": "done", "task_failed": "failed", "held": "held"}


def _take_end(record: RunRecord, view: RunView) -> None:
    end = record.end
    if not end:
        return
    view.ms = max(view.ms, _number(end.get("ms")))
    view.cost = _number(end.get("cost"))
    view.failure = _text(end.get("failure"))
    view.stopped = _text(end.get("stopped"))
    if view.failure:
        view.state = "failed"
    elif record.decision:
        view.state = "decided" if _number(record.decision.get("candidate")) >= 0 else "undecided"
    else:
        view.state = "over"


def _take_decision(decision: Mapping[str, Any], view: RunView, asks: dict[int, AskView]) -> None:
    letters: dict[str, str] = {}
    for ask in asks.values():
        if ask.answer and ask.purpose != "judge":
            ask.letter = letters.setdefault(ask.answer, letter_of(len(letters)))
    if not decision:
        return
    votes = decision.get("votes")
    for vote in votes if isinstance(votes, list) else ():
        if isinstance(vote, dict) and (voted := asks.get(vote.get("ask", -1))) is not None:
            voted.weight = _number(vote.get("weight"))
    view.reason = _text(decision.get("reason"))
    view.answer = _text(decision.get("answer"))
    view.letter = letters.get(view.answer, "")
    view.posterior = _number(decision.get("posterior"))
    view.agreement = _number(decision.get("agreement"))
    view.tie = decision.get("tie") is True
    notes = decision.get("notes")
    view.notes = [str(note) for note in notes] if isinstance(notes, list) else []
    winner = asks.get(int(_number(decision.get("candidate"))))
    if winner is not None:
        winner.outcome = "won"
        view.winner = winner.member
    view.cost = view.cost or sum(ask.cost for ask in asks.values())


def letter_of(place: int) -> str:
    """A, B, … Z, A1, B1, …"""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def _levelled(tasks: dict[str, TaskView]) -> list[TaskView]:
    """Tasks in order, each after what it needs; what is in a circle, which no plan has, comes last."""
    done: dict[str, TaskView] = {}
    left = dict(tasks)
    level = 0
    while left:
        ready = [task for task in left.values() if not any(need in left for need in task.needs)]
        if not ready:
            return [*done.values(), *left.values()]
        for task in ready:
            task.level = level
            done[task.id] = left.pop(task.id)
        level += 1
    return list(done.values())


def _members(value: object) -> list[str]:
    named = value if isinstance(value, list) else []
    return [_text(each.get("name") if isinstance(each, dict) else each) for each in named]


def _text(value: object) -> str:
    if isinstance(value, dict):  # what was left out
        return _text(value.get("digest"))
    return "" if value is None else str(value)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
