"""A request in frames read as a face reads it, and answers written as frames."""

from __future__ import annotations

import pytest

from open_autoglm.dialects.canonical import Finish, ReasoningDelta, TextDelta, TokenScore, ToolCallDelta, Usage
from open_autoglm.dialects.face import Failover
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.gateway.framed_face import FramedFace
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.frames import HEADER, HEADER_BYTES
from open_autoglm.protocol.opcodes import ERROR, INFER_CHUNK, INFER_RESPONSE, NO_RETRY, REASONING, RETRYABLE
from open_autoglm.protocol.preambles import read_response, write_request

Frame = tuple[int, int, int, int, bytes]


def frames(data: bytes) -> list[Frame]:
    """Opcode, flags, aux, arg and payload of each; all are of stream 0."""
    found: list[Frame] = []
    while data:
        length, opcode, flags, aux, stream, arg = HEADER.unpack_from(data)
        assert stream == 0
        found.append((opcode, flags, aux, arg, data[HEADER_BYTES : HEADER_BYTES + length]))
        data = data[HEADER_BYTES + length :]
    return found


def body(codec: str, fields: dict[str, object], flags: int = 0, session: str = "") -> bytes:
    return bytes((flags,)) + write_request("chat", session) + CODECS[codec].encode(fields)


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_request_is_read(codec: str) -> None:
    face = FramedFace(CODECS[codec])
    sent = body(codec, {"prompt": "你好", "temperature": 0.5, "max_tokens": 9, "stop": ["x"]}, NO_RETRY, "s-1")
    view = face.read(sent)
    assert (view.model, view.session, view.no_retry, view.max_tokens_asked) == ("chat", "s-1", True, 9)
    request = face.infer(sent, view)
    assert request.messages[0].text() == "你好"
    assert (request.temperature, request.max_tokens, request.stop) == (0.5, 9, ("x",))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a", "messages": []},
        {},
        {"prompt": "a", "api_base": "http://elsewhere"},
        {"prompt": "a", "model": "another"},
        {"prompt": "a", "stream": True},
        {"prompt": 7},
        {"prompt": "a", "n": 2},
    ],
)
def test_what_messages_may_not_say_frames_may_not_either(fields: dict[str, object]) -> None:
    with pytest.raises(AutoGLMError) as caught:
        FramedFace(CODECS["msgpack"]).read(body("msgpack", fields))
    assert caught.value.code == "invalid_request"
    assert not (caught.value.param or "").startswith("payload")


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 21 + b"\xc1", b"\0\xff" + b"\0" * 30])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(AutoGLMError) as caught:
        FramedFace(CODECS["msgpack"]).read(data)
    assert caught.value.code == "invalid_request"


def test_a_whole_answer() -> None:
    face = FramedFace(CODECS["json"])
    encoder = face.encoder(face.read(body("json", {"prompt": "a"})), "req-1", "chat", 0)
    call = ToolCallDelta(0, "c1", "f", "{}")
    events = [ReasoningDelta("hm"), TextDelta("yes"), call, Finish("tool_calls", version="v3"), Usage(5, 6)]
    [(opcode, _, _, _, payload)] = frames(encoder.whole(events))
    preamble = read_response(payload)
    assert opcode == INFER_RESPONSE
    assert (preamble.prompt_tokens, preamble.completion_tokens, preamble.finish) == (5, 6, "tool_calls")
    assert (preamble.version, preamble.model) == ("v3", "chat")
    assert CODECS["json"].decode(payload[preamble.body_at :]) == {
        "text": "yes",
        "reasoning": "hm",
        "tool_calls": [{"id": "c1", "name": "f", "arguments": "{}"}],
    }


def test_a_streamed_answer_says_nothing_twice() -> None:
    face = FramedFace(CODECS["json"])
    encoder = face.encoder(face.read(body("json", {"prompt": "a"})), "req-1", "chat", 0)
    chunks = frames(encoder.stream([ReasoningDelta("hm"), TextDelta("ye"), TextDelta("s", 0)]))
    assert [(opcode, flags, seq, text) for opcode, flags, _, seq, text in chunks] == [
        (INFER_CHUNK, REASONING, 0, b"hm"),
        (INFER_CHUNK, 0, 1, b"ye"),
        (INFER_CHUNK, 0, 2, b"s"),
    ]
    encoder.failed_over(Failover("chat#1", "chat#2", 2))
    assert encoder.stream([Finish("stop")]) == b""
    [(opcode, _, _, count, payload)] = frames(encoder.end())
    assert (opcode, count) == (INFER_RESPONSE, 3)
    assert CODECS["json"].decode(payload[read_response(payload).body_at :]) == {
        "usage_estimated": True,
        "x_mcp_failover": {"from": "chat#1", "to": "chat#2", "at_char": 2},
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_how_likely_tokens_were_comes_with_the_response(streamed: bool) -> None:
    face = FramedFace(CODECS["json"])
    encoder = face.encoder(face.read(body("json", {"prompt": "a"})), "req-1", "chat", 0)
    events = [TokenScore(b"ye", -0.5), TextDelta("ye"), TokenScore(b"s", 0.0), TextDelta("s"), Finish("stop")]
    if streamed:
        encoder.stream(events)
    [(_, _, _, _, payload)] = frames(encoder.end() if streamed else encoder.whole(events))
    content = CODECS["json"].decode(payload[read_response(payload).body_at :])["logprobs"]["content"]
    assert [(entry["token"], entry["logprob"]) for entry in content] == [("ye", -0.5), ("s", 0.0)]


def test_errors() -> None:
    face = FramedFace(CODECS["json"])
    error = ServerError("overloaded", "too much to do", retry_after_s=1.5)
    [(opcode, flags, status, retry_ms, payload)] = frames(face.error_body(error, "req-1"))
    assert (opcode, flags, status, retry_ms) == (ERROR, RETRYABLE, 503, 1500)
    said = CODECS["json"].decode(payload)
    assert (said["code"], said["request_id"], said["retry_after_ms"]) == ("overloaded", "req-1", 1500)
    [(_, _, _, _, payload)] = frames(face.error_event(error, "req-1", 17))
    assert CODECS["json"].decode(payload)["delivered_chars"] == 17
