"""A run as it is shown: its view, its picture in the terminal, and its drawing."""

import unicodedata
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_autoglm.telemetry.audit import AuditTrail, RunTrail
from open_autoglm.telemetry.run_picture import draw_run
from open_autoglm.telemetry.run_record import Label
from open_autoglm.telemetry.run_svg import draw_svg
from open_autoglm.telemetry.run_view import RunView, letter_of, view_of
from open_autoglm.voting.candidate import Decision, Vote

HOSTILE = "\x1b[2J\r\n<script>&\"'" + "模" * 300
MEMBERS = [{"name": name} for name in ("a", "b", "c", "d", "e")]


def begun(**header: Any) -> RunTrail:
    told = {"model": "team", "strategy": "dynamic_voting", "members": MEMBERS, **header}
    return AuditTrail(None, texts=True).begin("req-1", told)


def voted() -> RunTrail:
    run = begun()
    for number, member in enumerate("abcde"):
        run.event("asked", {"number": number, "member": member, "purpose": "answer", "at_ms": float(number)})
    run.event("candidate", {"ask": 0, "member": "a", "answer": "42", "confidence": 0.9, "cost": 0.5, "at_ms": 100.0})
    run.event("candidate", {"ask": 1, "member": "b", "answer": "41", "prompt_tokens": 7, "at_ms": 200.0})
    run.event("candidate", {"ask": 2, "member": "c", "flags": ["truncated"], "at_ms": 300.0})
    run.event("candidate", {"ask": 3, "member": "d", "failure": "upstream_error", "at_ms": 350.0})
    run.event("failed", {"number": 4, "member": "e", "failure": "cancelled", "at_ms": 400.0})
    votes = (Vote(0, "a", "42", 1.5), Vote(1, "b", "41", -0.25))
    run.end(Decision("42", 0, 0.95, 0.5, votes, "decided", notes=("correlated",)), ms=400.0)
    return run


def planned() -> RunTrail:
    run = begun(strategy="plan")
    tasks = [
        {"id": "one", "tool": "http"},
        {"id": "two", "tool": "http"},
        {"id": "sum", "tool": "python", "depends_on": ["one", "two"]},
        {"id": "end", "tool": "model:chat", "depends_on": ["sum"]},
    ]
    run.event("task_started", {"task": "one", "tool": "http", "at_ms": 2.0})  # before the plan is whole
    run.event("plan", {"tasks": tasks, "at_ms": 2.0})
    for kind, task, at_ms in (
        *(("task_started", "two", 2.0), ("task_done", "two", 10.0)),
        *(("task_done", "one", 20.0), ("task_started", "sum", 21.0)),
    ):
        run.event(kind, {"task": task, "at_ms": at_ms})
    run.event("task_failed", {"task": "sum", "code": "tool_timeout", "at_ms": 50.0})
    run.event("tool_called", {"tool": "http", "task": "one", "outcome": "ok", "at_ms": 19.0, "ms": 16.0})
    return run


def test_what_became_of_every_ask() -> None:
    view = view_of(voted().record)
    assert [(ask.member, ask.outcome, ask.letter, ask.why) for ask in view.asks] == [
        ("a", "won", "A", ""),
        ("b", "vote", "B", ""),
        ("c", "no_vote", "", "truncated"),
        ("d", "failed", "", "upstream_error"),
        ("e", "cancelled", "", ""),
    ]
    assert [(ask.at_ms, ask.ms) for ask in view.asks][:2] == [(0.0, 100.0), (1.0, 199.0)]
    assert (view.state, view.winner, view.letter, view.reason) == ("decided", "a", "A", "decided")
    assert [ask.weight for ask in view.asks] == [1.5, -0.25, None, None, None]
    assert view.cost == 0.5


def test_tasks_stand_behind_what_they_need() -> None:
    view = view_of(planned().record)
    assert [(task.id, task.level, task.needs, task.outcome) for task in view.tasks] == [
        ("one", 0, [], "done"),
        ("two", 0, [], "done"),
        ("sum", 1, ["one", "two"], "failed"),
        ("end", 2, ["sum"], "waiting"),
    ]
    assert (view.tasks[2].why, view.tasks[2].ms, view.tasks[0].ms) == ("tool_timeout", 29.0, 18.0)


def test_a_circle_and_strange_events_are_shown_all_the_same() -> None:
    run = begun()
    run.event("plan", {"tasks": [{"id": "a", "depends_on": ["b"]}, {"id": "b", "depends_on": ["a"]}, "no task"]})
    run.event("candidate", {"ask": "no number"})
    run.event("task_done", {})
    run.event("something new", {"x": 1})
    view = view_of(run.record)
    assert [task.id for task in view.tasks] == ["a", "b"]
    assert view.state == "running"
    assert "still running" in draw_run(view, 80)


def test_the_view_survives_the_wire() -> None:
    view = view_of(voted().record)
    assert msgspec.convert(msgspec.to_builtins(view), RunView) == view


def test_the_votes_and_the_timeline_in_the_terminal() -> None:
    record = voted().record
    record.labels.append(Label("human", False, "41", ""))
    lines = draw_run(view_of(record), 100).splitlines()
    assert lines[:5] == [
        "team  dynamic_voting of 5 members  400.0 ms  cost 0.5",
        "answer A 42 by a: 95.0% sure, 50% of the votes",
        "stopped because nothing outstanding could change it",
        "notes: correlated",
        "human said: wrong, the answer is 41",
    ]
    assert lines[6:13] == [
        "A 42  +1.50  ◀ decided",
        "└─ #0 a  +1.50",
        "B 41  -0.25",
        "└─ #1 b  -0.25",
        "no vote",
        "├─ #2 c  no vote, truncated",
        "├─ #3 d  failed, upstream_error",
    ]
    bars = {line[:4]: line.count("█") for line in lines if line.startswith("#")}
    assert bars == {"#0 a": 20, "#1 b": 40, "#2 c": 60, "#3 d": 70, "#4 e": 80}
    assert "    given to the client, answer A 42, weight +1.50, 90% sure, cost 0.5" in lines


def test_the_tasks_in_the_terminal() -> None:
    picture = draw_run(view_of(planned().record), 100)
    assert "\none: http, done\ntwo: http, done\n└─ sum: python, failed, tool_timeout, after one, two\n" in picture
    assert "\n   └─ end: model:chat, waiting, after sum\n" in picture
    assert "tool http" in picture


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


@given(st.integers(0, 160), st.text(max_size=40), st.booleans())
def test_no_line_is_too_wide_and_none_moves_the_cursor(width: int, name: str, ascii_only: bool) -> None:
    run = begun(model=HOSTILE, members=[{"name": name}])
    run.event("asked", {"number": 0, "member": name, "purpose": HOSTILE})
    run.event("candidate", {"ask": 0, "member": name, "answer": HOSTILE + name, "flags": [HOSTILE]})
    run.event("plan", {"tasks": [{"id": name, "tool": HOSTILE}, {"id": HOSTILE, "depends_on": [name]}]})
    run.event("tool_called", {"tool": HOSTILE})
    run.end(Decision(HOSTILE + name, 0, 0.5, 1.0, (Vote(0, name, HOSTILE + name, 1.0),), name), failure="")
    picture = draw_run(view_of(run.record), width, ascii_only=ascii_only)
    assert not set(picture) & {"\x1b", "\r", "\x07", "\x9b", "\u2028"}
    assert not ascii_only or picture.isascii()
    assert all(
        sum(0 if unicodedata.combining(letter) else columns(letter) for letter in line) <= max(width, 40)
        for line in picture.split("\n")
    )


def test_wide_letters_keep_the_bars_in_one_column() -> None:
    run = begun()
    for number, member in enumerate(("模型", "ab", "longer")):
        run.event("asked", {"number": number, "member": member, "at_ms": 0.0})
        run.event("candidate", {"ask": number, "member": member, "answer": "1", "at_ms": 10.0})
    rows = [line for line in draw_run(view_of(run.record), 80).splitlines() if "█" in line]
    assert len({columns(row[: row.index("█")]) for row in rows}) == 1


@pytest.mark.parametrize("run", [voted(), planned()])
def test_a_drawing_is_well_formed_and_loads_nothing(run: RunTrail) -> None:
    drawn = draw_svg(view_of(run.record))
    root = ET.fromstring(drawn)  # what it reads was drawn here
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "title", "style", "rect", "text", "path", "line")
    }
    assert "href" not in drawn
    assert "url(" not in drawn
    assert drawn == draw_svg(view_of(run.record))


def test_a_drawing_shows_every_vote_and_the_decision() -> None:
    root = ET.fromstring(draw_svg(view_of(voted().record)))
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for expected in ("#0 a", "won, weight +1.50", "A 42", "1 vote, -0.25", "decided", "95.0% sure", "#4 e", "400.0 ms"):
        assert expected in texts
    edges = [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert [("stroke-dasharray" in edge, edge["stroke-width"]) for edge in edges] == [
        *((False, "6.0"), (True, "1.8"), (False, "3.0"))
    ]


@given(st.text(max_size=30))
@example("\ufffe\uffff\x00\x1b]]>")
def test_nobody_s_text_is_part_of_the_drawing_s_code(name: str) -> None:
    run = begun(model=HOSTILE)
    run.event("asked", {"number": 0, "member": name + HOSTILE})
    run.event("plan", {"tasks": [{"id": HOSTILE + name}]})
    root = ET.fromstring(draw_svg(view_of(run.record)))
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert int(root.attrib["width"]) == 1000


def test_a_large_run_is_drawn_in_part_and_says_so() -> None:
    run = begun()
    for number in range(300):
        run.event("asked", {"number": number, "member": "a"})
    view = view_of(run.record)
    assert "and 200 asks more" in draw_run(view, 80)
    assert "and 200 asks more" in draw_svg(view)


def test_letters_of_answers_never_end() -> None:
    assert [letter_of(place) for place in (0, 25, 26, 52)] == ["A", "Z", "A1", "A2"]
