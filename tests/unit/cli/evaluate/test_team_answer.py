"""A virtual model's stream, with the events of its run."""

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


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read(data: bytes) -> None:
    read_stream(b"data: " + data)
    read_stream(data + STREAM)
