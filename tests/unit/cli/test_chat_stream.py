"""A stream's pieces, whole or broken, whole characters only."""

import json

import pytest

from open_autoglm.cli.chat_stream import Failed, Finished, Piece, Reasoning, Text, read_pieces, refusal_message


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str, finish_reason: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


DONE = b"data: [DONE]\n\n"
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 2})


def pieces(*chunks: bytes) -> list[Piece]:
    return list(read_pieces(chunks))


def test_a_whole_answer() -> None:
    assert pieces(delta("9"), delta("32"), delta("", "stop"), USAGE, DONE) == [
        Text("9"),
        Text("32"),
        Finished("stop", 7, 2),
    ]


@pytest.mark.parametrize("cut", range(1, 40))
def test_chinese_is_whole_wherever_the_bytes_are_cut(cut: int) -> None:
    data = delta("你好，世界") + delta("！", "stop") + DONE
    chunks = [data[i : i + cut] for i in range(0, len(data), cut)]
    assert "".join(p.text for p in pieces(*chunks) if isinstance(p, Text)) == "你好，世界！"


def test_reasoning_is_told_apart() -> None:
    thought = event(choices=[{"delta": {"reasoning_content": "4+8"}}])
    assert pieces(thought, delta("12", "stop"), DONE) == [Reasoning("4+8"), Text("12"), Finished("stop")]


def test_an_error_inside_a_stream_is_never_an_end() -> None:
    broken = event(error={"message": "the upstream broke off", "code": "stream_interrupted"})
    assert pieces(delta("half"), broken) == [Text("half"), Failed("the upstream broke off")]
    assert pieces(delta("half"), broken, DONE)[-1] == Failed("the upstream broke off")


def test_a_stream_that_just_ends_has_failed() -> None:
    assert pieces(delta("half")) == [Text("half"), Failed("the stream broke off before the answer was whole")]
    assert pieces() == [Failed("the stream broke off before the answer was whole")]


def test_a_finish_reason_without_done_is_an_end() -> None:
    assert pieces(delta("all", "length")) == [Text("all"), Finished("length")]


def test_what_is_no_json_has_failed() -> None:
    assert isinstance(pieces(b"data: {\n\n", DONE)[-1], Failed)


def test_events_without_end_have_failed() -> None:
    endless = [b"data: " + b"x" * 65536 + b"\n"] * 40
    assert isinstance(pieces(*endless)[-1], Failed)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "none"},
        {"choices": [None, 3]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": 5, "reasoning_content": []}}]},
        {"usage": "much"},
        [1, 2],
        "text",
        None,
    ],
)
def test_chunks_of_any_shape_do_no_harm(chunk: object) -> None:
    odd = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    assert pieces(odd, delta("x", "stop"), DONE) == [Text("x"), Finished("stop")]


def test_refusals_say_what_to_do() -> None:
    body = json.dumps({"error": {"message": "model 'x' is not known; there are: a, b"}}).encode()
    assert refusal_message(404, body) == "model 'x' is not known; there are: a, b"
    assert "MCP_API_KEY" in refusal_message(401, b"{}")
    assert "502" in refusal_message(502, b"<html>")
