"""A virtual model's stream, with the events of its run."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.cli.evaluate.team_answer import TeamAnswer, read_stream

STREAM = b"""event: mcp.asked
data: {"number":0,"member":"a"}

event: mcp.asked
data: {"number":1,"member":"b"}

event: mcp.asked
data: {"number":2,"member":"a"}

event: mcp.decided
data: {"answer":"5","posterior":0.75}

data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"it is "}}]}

data: {"choices":[{"index":0,"delta":{"content":"5"}}]}\r
\r
data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"cost":0.5}}

data: [DONE]

"""


def test_a_stream_with_events() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.5}
    assert read_stream(STREAM) == TeamAnswer("it is 5", True, "", usage, {"a": 2, "b": 1}, 0.75)


def test_a_stream_that_fails_or_breaks_off() -> None:
    broken = read_stream(STREAM[: STREAM.index(b"data: [DONE]")])
    assert (broken.complete, broken.text) == (False, "it is 5")
    failed = read_stream(b'data: {"error":{"message":"no quorum","code":"x"}}\n\n')
    assert (failed.failure, failed.complete) == ("no quorum", False)


TIMED = b"""event: mcp.asked
data: {"number":0,"member":"a","at_ms":0}

event: mcp.asked
data: {"number":1,"member":"a","at_ms":10}

event: mcp.asked
data: {"number":2,"member":"b","at_ms":10.5}

event: mcp.candidate
data: {"ask":0,"member":"a","answer":"5","at_ms":100}

event: mcp.asked
data: {"number":3,"member":"a","at_ms":100}

event: mcp.failed
data: {"number":1,"member":"a","failure":"cancelled","at_ms":160}

event: mcp.failed
data: {"number":9,"member":"a","failure":"cancelled","at_ms":160}

event: mcp.asked
data: {"number":4,"member":"c"}

event: mcp.decided
data: {"answer":"5","posterior":0.75,"at_ms":200}

"""


def test_members_are_busy_from_the_question_to_its_end() -> None:
    told = read_stream(TIMED)
    assert told.busy == {"a": pytest.approx(0.1 + 0.15 + 0.1), "b": pytest.approx(0.1895)}
    assert told.slots == {"a": 2, "b": 1}
    assert told.members == {"a": 3, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (
            [
                {"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}},
                {"index": 0, "function": {"arguments": '{"a":'}},
                {"index": 0, "function": {"arguments": "1}"}},
            ],
            '{"name":"f","arguments":{"a":1}}',
        ),
        ([{"index": number, "function": {"name": "f", "arguments": "{}"}} for number in (0, 1)], ""),
        ([{"index": 0, "function": {"name": "f", "arguments": "{"}}], ""),
        ([{"function": 7}, 8, {"index": "x", "function": {"name": None, "arguments": []}}], ""),
    ],
)
def test_a_tool_call_is_read_as_a_single_model_s_is(pieces: list[Any], text: str) -> None:
    events = [json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}) for piece in pieces]
    assert read_stream("".join(f"data: {event}\n\n" for event in events).encode()).text == text


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read(data: bytes) -> None:
    read_stream(b"data: " + data)
    read_stream(data + STREAM)
