"""One line per request, whatever is in its record."""

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.telemetry.request_line import LineBuilder

FOREIGN = ["request_id", "trace_id", "model", "key", "client", "code", "message", "finish_reason", "route"]

MakeRecord = Callable[..., RequestRecord]


def built(record: RequestRecord) -> dict[str, object]:
    data = LineBuilder(as_json=True).build([record])
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    line: dict[str, object] = json.loads(data)
    return line


def test_a_success_has_these_fields(make_record: MakeRecord) -> None:
    assert built(make_record()) == {
        "time": "2001-09-09T01:46:40.125Z",
        "level": "INFO",
        "event": "request",
        "request_id": "req-0123456789abcdef00000001",
        "trace_id": "0123456789abcdef0123456789abcdef",
        "route": "/v1/chat/completions",
        "model": "chat",
        "key": "default",
        "client": "127.0.0.1",
        "status": 200,
        "ms": pytest.approx(2.15, abs=0.002),
        "first_ms": pytest.approx(2.1, abs=0.002),
        "finish_reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 40,
        "bytes_in": 446,
        "bytes_out": 629,
        "attempts": 1,
        "endpoint": "local:8001",
        "outcome": "ok",
        "revision": 1,
    }


def test_a_failure_says_what_was_tried(make_record: MakeRecord, attempt_record: Callable[..., AttemptRecord]) -> None:
    attempts = [
        attempt_record(outcome="connect"),
        attempt_record(endpoint="b", outcome="failed", detail="the upstream answered 500"),
    ]
    line = built(
        make_record(status=502, code="upstream_error", message="no luck", attempts=attempts, served_by="spare")
    )
    assert line["level"] == "ERROR"
    assert line["attempts"] == 2
    assert (line["endpoint"], line["outcome"]) == ("b", "failed")
    assert line["tried"] == "local:8001:connect"
    assert line["detail"] == "the upstream answered 500"
    assert line["served_by"] == "spare"


def test_of_two_at_once_the_one_that_answered_is_named(
    make_record: MakeRecord, attempt_record: Callable[..., AttemptRecord]
) -> None:
    attempts = [attempt_record(), attempt_record(endpoint="b", outcome="cancelled", detail="another was faster")]
    line = built(make_record(attempts=attempts))
    assert (line["endpoint"], line["outcome"], line["tried"]) == ("local:8001", "ok", "b:cancelled")
    assert "detail" not in line


def test_a_line_says_how_long_a_request_stood_in_line_and_why_it_was_sent_away(make_record: MakeRecord) -> None:
    line = built(make_record(status=503, code="overloaded", queue_position=3, queued_s=0.25, rejected="shed_in_queue"))
    assert (line["queued_ms"], line["rejected"]) == (250.0, "shed_in_queue")
    assert not {"queued_ms", "rejected"} & built(make_record()).keys()


@pytest.mark.parametrize(
    ("status", "code", "level"),
    [
        (200, "", "INFO"),
        (200, "stream_interrupted", "WARNING"),
        (404, "model_not_found", "WARNING"),
        (499, "client_closed", "WARNING"),
        (500, "internal_error", "ERROR"),
    ],
)
def test_the_level_follows_from_how_it_ended(make_record: MakeRecord, status: int, code: str, level: str) -> None:
    assert built(make_record(status=status, code=code))["level"] == level


def test_seconds_change_within_a_batch(make_record: MakeRecord) -> None:
    data = LineBuilder(as_json=True).build([make_record(received_wall_s=1e9 + n + 0.5) for n in range(3)])
    assert [json.loads(line)["time"][-13:] for line in data.splitlines()] == [
        "01:46:40.500Z",
        "01:46:41.500Z",
        "01:46:42.500Z",
    ]


@pytest.mark.parametrize("field", FOREIGN)
@pytest.mark.parametrize(
    "hostile",
    [
        'x"}\n{"level":"ERROR","message":"forged"}',
        "\r\n2026-01-01 forged",
        "\x1b[2J\x9b31m\x7f",
        "line\u2028separator",
        "lone \ud800 surrogate",
        "y" * 1_000_000,
    ],
    ids=["json", "crlf", "ansi", "u2028", "surrogate", "flood"],
)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_nothing_forges_a_line_or_floods_the_log(
    make_record: MakeRecord, field: str, hostile: str, as_json: bool
) -> None:
    changes = {"status": 404, "code": "model_not_found", "message": "m", field: hostile}
    data = LineBuilder(as_json=as_json).build([make_record(**changes), make_record()])
    lines = data.decode().splitlines()
    assert len(lines) == 2, "one line per record, also for readers that split at every Unicode separator"
    assert all(character.isprintable() for line in lines for character in line)
    assert len(lines[0]) < 8000
    if as_json:
        assert len(json.loads(lines[0])[field].encode()) <= 2048
        assert json.loads(lines[0])["level"] == "WARNING"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture is a function without state
@given(st.lists(st.dictionaries(st.sampled_from(FOREIGN), st.text()), max_size=5), st.booleans())
def test_any_text_gives_one_line_per_record(
    make_record: MakeRecord, changes: list[dict[str, str]], as_json: bool
) -> None:
    data = LineBuilder(as_json=as_json).build([make_record(**change) for change in changes])
    lines = data.decode().splitlines()
    assert len(lines) == len(changes)
    for line in lines:
        assert not as_json or json.loads(line)["event"] == "request"


@pytest.mark.parametrize("field", FOREIGN)
@pytest.mark.parametrize(
    "hostile",
    [
        '"}\n{',
        "\\",
        "\x1b[2J\x7f",
        "line\u2028separator",
        "\ud800",
        "y" * 5000,
        "sk-0123456789abcdef",
        "Bearer quiet-canary",
    ],
)
def test_a_success_is_no_safer_than_its_texts(make_record: MakeRecord, field: str, hostile: str) -> None:
    changes = {} if field == "code" else {field: hostile}
    builder = LineBuilder(as_json=True)
    for _ in range(2):  # the second line is made from what was remembered of the first
        line = builder.build([make_record(**changes)]).decode()
        assert line.count("\n") == 1
        assert len(line) < 4000
        assert line[:-1].isprintable()
        assert json.loads(line)["status"] == 200
        assert "0123456789abcdef" not in line.replace(make_record().request_id, "").replace(make_record().trace_id, "")
        assert "canary" not in line


def test_lines_of_like_requests_differ_in_what_they_should(make_record: MakeRecord) -> None:
    builder = LineBuilder(as_json=True)
    changes = [{"request_id": "req-2", "own_id": True, "ended_s": 100.0124, "first_s": 100.012}, {"prompt_tokens": 7}]
    changes += [{"model": "other"}, {"bytes_in": 3, "bytes_out": 5}, {"stream": True}, {"first_s": 0.0}]
    plain = built(make_record())
    assert json.loads(builder.build([make_record()])) == plain
    for change in changes:
        line = json.loads(builder.build([make_record(**change)]))
        assert line == built(make_record(**change))
        shown = {"ms" if name == "ended_s" else "first_ms" if name == "first_s" else name for name in change} - {
            "own_id"
        }
        assert {name for name in plain | line if line.get(name) != plain.get(name)} - {"served_by"} == shown


def test_text_for_people(make_record: MakeRecord) -> None:
    line = LineBuilder(as_json=False).build([make_record(ended_s=100.0124)]).decode()
    assert line == (
        "2001-09-09T01:46:40.125Z INFO    200 /v1/chat/completions chat -> local:8001 12.4 ms"
        " request_id=req-0123456789abcdef00000001 key=default\n"
    )
