"""Runs that planned, done again from their records: random plans, failures, replans; and what a changed one gives."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cooperation.plan_stage import Models, Stage, StreamingModels, Tool, failing

from open_autoglm.cooperation.plan_replay import replay_plan
from open_autoglm.cooperation.planner import Roles
from open_autoglm.errors import ServerError
from open_autoglm.telemetry.audit import AuditTrail
from open_autoglm.telemetry.run_record import RunRecord
from open_autoglm.tools.tool import Arguments, ToolError

TOOLS = ("get", "pay", "fail", "no_such")


def recorded(stage: Stage, *, texts: bool = False) -> RunRecord:
    """Play a run; return its record as it comes back from the file."""
    trail = AuditTrail(None, texts=texts).begin("req-1", {"strategy": "plan_execute", "question": stage.text})
    stage.trail = trail.event
    outcome = stage.play()
    trail.end(outcome.decision, cost=outcome.cost)
    return msgspec.json.decode(msgspec.json.encode(trail.record, order="sorted"), type=RunRecord)


class Lots:
    """Everything that is random in a run, out of one seed."""

    def __init__(self, seed: int) -> None:
        self.lots = random.Random(seed)

    def plan(self) -> str:
        """A plan: mostly sound, else with what planners get wrong."""
        lots = self.lots
        if lots.random() < 0.05:
            return lots.choice(["no plan", "[", '[{"id": 1, "tool": "get", "args": {"q": "${"}}]', "[]"])
        count = lots.randint(1, 6) if lots.random() < 0.9 else 30
        tasks = [self.task(place, lots) for place in range(1, count + 1)]
        if lots.random() < 0.3:
            lots.shuffle(tasks)
        if lots.random() < 0.05:
            tasks.append(tasks[0])
        return json.dumps(tasks)[: None if lots.random() < 0.95 else -1]

    def task(self, place: int, lots: random.Random) -> dict[str, Any]:
        tool = lots.choices(TOOLS, [10, 4, 3, 0.3])[0]
        needs = [each for each in range(1, place) if lots.random() < 0.3]
        needs += [9] if lots.random() < 0.03 else []
        asked = " and ".join(["tea", *(f"${each}" for each in needs if lots.random() < 0.5)])
        task: dict[str, Any] = {"id": place, "tool": tool, "args": {"q": asked, "n": lots.randint(1, 2)}}
        task |= {"depends_on": needs, "priority": lots.randint(0, 2), "retries": lots.randint(0, 2)}
        if lots.random() < 0.3:
            task |= {"on_failure": "fallback", "fallback": lots.choice(["none", 7, {"a": [1]}])}
        elif lots.random() < 0.3:
            task["on_failure"] = "skip"
        return task

    def say(self, member: str, prompt: str) -> str | Exception:
        if self.lots.random() < 0.05:
            return ServerError("upstream_error", "nobody is there")
        if member == "writer":
            return self.lots.choice(["It is so [1][2].", "Who knows.", "", "REPLAN: a price"])
        return self.plan()

    def pay(self, arguments: Arguments) -> Any:
        if self.lots.random() < 0.4:
            raise ToolError("tool_unavailable", "it broke off")
        return {"result": self.lots.randint(1, 3)}

    def get(self, arguments: Arguments) -> Any:
        if self.lots.random() < 0.2:
            raise ToolError("tool_unavailable", "it broke off", retryable=self.lots.random() < 0.7)
        return self.lots.choice(["", "tea", 3, {"name": "x"}, [1, 2]])


def random_stage(seed: int) -> Stage:
    chance = Lots(seed)
    lots = random.Random(seed + 1)
    tools = [
        Tool("get", chance.get, after_s=lots.choice([0.0, 0.5, 2.0]), cost=0.001),
        Tool("pay", chance.pay, after_s=lots.choice([0.0, 1.0]), cost=0.01, kind="write"),
        Tool("fail", failing),
    ]
    models = lots.choice([Models, StreamingModels])
    return Stage(
        models(chance.say, char_s=lots.choice([0.0, 0.01])),
        tools,
        roles=Roles("planner", TOOLS, ("helper",), lots.choice(["", "writer"]), lots.randint(0, 3)),
        tokens=lots.choice([0, 0, 9000]),
        money=lots.choice([0.0, 0.0, 0.02]),
        timeout_s=lots.choice([100.0, 100.0, 4.0, 1.0]),
    )


@given(seed=st.integers(0, 2**31 - 1), texts=st.booleans())
def test_every_run_is_repeated_from_its_record(seed: int, texts: bool) -> None:
    record = recorded(random_stage(seed), texts=texts)
    assert replay_plan(record) is None
    if not texts:
        assert "tea" not in msgspec.json.encode([record.events, record.end]).decode()


def test_the_random_runs_are_of_all_kinds() -> None:
    records = [recorded(random_stage(seed)) for seed in range(150)]
    reasons = {record.decision["reason"] for record in records}
    assert reasons == {"answered", "incomplete", "deadline", "budget_exhausted"}
    ends = [next(event for event in record.events if event["kind"] == "decided") for record in records]
    assert max(end["plans"] for end in ends) > 2
    assert any(end["parts"] for end in ends)
    steps = {event.get("step") for record in records for event in record.events}
    assert {"refused", "stopped", "joined"} <= steps


@given(seed=st.integers(0, 2**31 - 1), texts=st.booleans(), place=st.integers(0, 2**31 - 1))
def test_a_start_that_is_left_out_or_comes_at_another_time_is_found(seed: int, texts: bool, place: int) -> None:
    record = recorded(random_stage(seed), texts=texts)
    starts = [at for at, event in enumerate(record.events) if event["kind"] == "task_started"]
    if not starts or record.decision["reason"] not in ("answered", "incomplete"):
        return
    at = starts[place % len(starts)]
    left_out = copy.deepcopy(record)
    started = left_out.events.pop(at)
    difference = replay_plan(left_out)
    assert difference is not None
    assert difference.field in ("task_started", "settled")
    before = record.events[at - 1]
    if before["kind"] == "task_started" and before["task"] != started["task"]:
        record.events[at - 1 : at + 1] = [started, before]
        difference = replay_plan(record)
        assert difference is not None
        assert (difference.field, difference.replayed) == ("task_started", f'["{before["task"]}",{before["attempt"]}]')


@given(seed=st.integers(0, 2**31 - 1), texts=st.booleans(), name=st.sampled_from(["answer", "candidate", "reason"]))
def test_another_decision_is_found(seed: int, texts: bool, name: str) -> None:
    record = recorded(random_stage(seed), texts=texts)
    record.end["decision"][name] = {"answer": "other", "candidate": 5, "reason": "judged"}[name]
    difference = replay_plan(record)
    assert difference is not None
    assert difference.field == name


def task(name: int, tool: str, **args: Any) -> dict[str, Any]:
    return {"id": name, "tool": tool, "args": args}


def replanned() -> RunRecord:
    """Two plans: a task of the first fails, the second repeats one that succeeded and adds another."""
    first = [task(1, "get", q="a"), task(2, "get", q="b"), task(3, "fail", x="$1")]
    second = [task(1, "get", q="a"), task(2, "get", q="$1"), task(3, "get", q="c")]
    texts = [json.dumps(first), json.dumps(second)]
    tools = [Tool("get", lambda arguments: arguments["q"] * 2, after_s=1.0, cost=0.5), Tool("fail", failing)]
    return recorded(Stage(Models(lambda member, prompt: texts.pop(0)), tools, roles=Roles("planner", ("get", "fail"))))


def field_after(change: Callable[[RunRecord], None]) -> str:
    record = copy.deepcopy(replanned())
    change(record)
    difference = replay_plan(record)
    return "" if difference is None else difference.field


def find(record: RunRecord, kind: str, **fields: Any) -> dict[str, Any]:
    return next(
        event
        for event in record.events
        if event["kind"] == kind and all(event.get(name) == value for name, value in fields.items())
    )


def swap(record: RunRecord, one: dict[str, Any], other: dict[str, Any]) -> None:
    places = [record.events.index(one), record.events.index(other)]
    record.events[places[0]], record.events[places[1]] = other, one


CHANGES: list[tuple[str, Callable[[RunRecord], object]]] = [
    ("", lambda r: None),
    ("parts", lambda r: find(r, "decided")["parts"].clear()),
    ("answer", lambda r: r.end["decision"].update(answer="digest:0")),
    ("answer", lambda r: find(r, "decided").update(answer="digest:0")),
    ("reason", lambda r: find(r, "decided").update(reason="incomplete")),
    ("reason", lambda r: r.end["decision"].update(reason="incomplete")),
    ("cost", lambda r: r.end.update(cost=7.0)),
    ("plans", lambda r: find(r, "decided").update(plans=3)),
    ("sources", lambda r: find(r, "decided")["sources"][0].update(tool="fail")),
    ("task_started", lambda r: swap(r, find(r, "task_started", task="1"), find(r, "task_started", task="2"))),
    ("task_started", lambda r: find(r, "task_started", task="3").update(attempt=2)),
    ("task_started", lambda r: r.events.remove(find(r, "task_started", task="3"))),
    ("task_started", lambda r: r.events.remove(find(r, "task_done", task="1"))),
    ("task_started", lambda r: find(r, "course", step="written", id="2").update(refers=["1"])),
    ("plan", lambda r: find(r, "plan")["tasks"][0].update(tool="fail")),
    ("admitted", lambda r: find(r, "course", step="written", id="1").update(id="7")),
    ("next", lambda r: find(r, "task_failed").update(kind="task_done")),
    ("decision", lambda r: r.events.remove(find(r, "decided"))),
]


@pytest.mark.parametrize(("field", "change"), CHANGES)
def test_the_first_thing_that_is_not_as_it_was_is_named(field: str, change: Callable[[RunRecord], None]) -> None:
    assert field_after(change) == field


def test_what_was_done_is_not_repeated_however_its_record_is_changed() -> None:
    def other_work(record: RunRecord) -> None:
        *_, again = [event for event in record.events if event.get("step") == "written" and event["id"] == "1"]
        again["work"] = "digest:1"

    assert field_after(other_work) == "admitted"


def test_a_name_that_is_none_does_not_keep_a_run_from_being_repeated() -> None:
    stage = Stage(Models(lambda member, prompt: json.dumps([task(1, "x" * 300)])), [])
    assert replay_plan(recorded(stage)) is None


def test_records_that_do_not_hold_enough_say_so() -> None:
    trail = AuditTrail(None)
    with pytest.raises(ValueError, match="nothing was decided"):
        replay_plan(trail.begin("req-1", {}).record)
    record = replanned()
    record.events = [event for event in record.events if event["kind"] != "course"]
    with pytest.raises(ValueError, match="a version that did not write down enough"):
        replay_plan(record)
    record = replanned()
    record.events[3] = {"kind": "course", "left_out": "too long", "bytes": 9, "at_ms": 1.0}
    with pytest.raises(ValueError, match="too long"):
        replay_plan(record)
    record = replanned()
    record.end["events_lost"] = 1
    with pytest.raises(ValueError, match="more events"):
        replay_plan(record)
    record = replanned()
    find(record, "course", step="written")["priority"] = "high"
    with pytest.raises(ValueError, match="priority"):
        replay_plan(record)
