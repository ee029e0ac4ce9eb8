"""The picture of a request in the terminal."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.telemetry.explain import draw, explain

MakeRecord = Callable[..., RequestRecord]
MakeAttempt = Callable[..., AttemptRecord]


def test_one_bar_per_stage_and_attempt(make_record: MakeRecord, attempt_record: MakeAttempt) -> None:
    attempts = [
        attempt_record(
            endpoint="a", outcome="connect", started_s=100.0, ended_s=100.25, status=0, head_s=0.0, first_s=0.0
        ),
        attempt_record(endpoint="b", number=1, started_s=100.5, head_s=100.7, first_s=100.75, ended_s=101.0),
    ]
    record = make_record(admitted_s=100.0, read_s=100.0, first_s=101.0, ended_s=101.0, attempts=attempts)
    picture = draw(json.loads(json.dumps(explain(record, {"chat": ["a", "b", "c"]}))), 60)
    lines = picture.splitlines()
    assert lines[0] == "req-0123456789abcdef00000001  2001-09-09T01:46:40.125Z"
    assert lines[1] == "/v1/chat/completions  chat  200  1000.0 ms"
    bars = {
        line.split()[0] if line[0] != "#" else line[:4]: line for line in lines[2:-1] if not line.startswith("    ")
    }
    assert list(bars) == ["admit", "read", "route", "upstream", "answer", "#0 a", "#1 b"]
    assert bars["upstream"].count("█") == 60 - 8 - 14
    assert bars["#0 a"].count("█") == 9
    assert bars["#1 b"].count("█") == 19
    assert "    connect, least_connections of 2" in lines
    assert any(line.startswith("    ok, status 200, least_connections of 2, head after 20") for line in lines)
    assert lines[-1] == "not tried: c"


def test_a_failure_shows_its_message(make_record: MakeRecord) -> None:
    told = explain(make_record(status=404, code="model_not_found", message="no such model", attempts=[], first_s=0.0))
    picture = draw(told, 100)
    assert "404 model_not_found" in picture
    assert "\nno such model\n" in picture


def test_a_wait_in_line_and_its_end_are_shown(make_record: MakeRecord) -> None:
    told = explain(make_record(status=503, queue_position=3, queued_s=1.0, rejected="shed_in_queue", attempts=[]))
    lines = draw(told, 100).splitlines()
    assert lines[2:4] == ["turned away: shed_in_queue", "stood in line for 1000.0 ms, from place 3 on"]
    assert "line" not in draw(explain(make_record()), 100)


@pytest.mark.parametrize("width", [0, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_none_moves_the_cursor(make_record: MakeRecord, width: int) -> None:
    hostile = "\x1b[2J\r\n" + "模" * 300
    told = explain(make_record(model=hostile, request_id=hostile, message=hostile, code="not_found"))
    for line in draw(told, width).splitlines():
        assert len(line) + line.count("模") <= max(width, 40)
        assert line.isprintable()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["stages", "attempts", "candidates", "total_ms", "model", "status", "message", "queue", "ms"])


@given(st.dictionaries(NAMES, VALUES | st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=3)))
def test_any_answer_of_a_server_can_be_drawn(told: dict[str, object]) -> None:
    assert isinstance(draw(told, 80), str)
