from __future__ import annotations

import pytest
from tests.unit.client.fake_link import CODEC

from open_autoglm.client.answer import Answer, AnswerReader, Usage, codec_of
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.preambles import write_response

TRACE = bytes(range(16))


@pytest.mark.parametrize("name", CODECS)
def test_an_answer_is_read_from_preamble_and_body(name: str) -> None:
    codec = CODECS[name]
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    body = {"text": "zwölf", "reasoning": "hm", "tool_calls": calls, "usage_estimated": True, "later": 1}
    answer = AnswerReader(codec).read(write_response(3, 4, "length", 2, "v", "m") + codec.encode(body), TRACE)
    assert answer == Answer("zwölf", "length", Usage(3, 4, True), "m", "v", TRACE, "hm", tuple(calls), 2, None)
    assert answer.trace_id == "000102030405060708090a0b0c0d0e0f"
    assert answer.usage.total_tokens == 7


def test_chunks_come_before_what_the_response_says() -> None:
    payload = write_response(3, 4) + CODEC.encode({"text": "!", "x_mcp_failover": {"attempts": 2}})
    answer = AnswerReader(CODEC).read(payload, TRACE, "hello", "hm")
    assert (answer.text, answer.reasoning, answer.failover) == ("hello!", "hm", {"attempts": 2})
    assert AnswerReader(CODEC).read(write_response(3, 4), TRACE).text == ""


def test_names_are_read_again_when_they_change() -> None:
    reader = AnswerReader(CODEC)
    for number in [*range(2000), 3, 3]:
        answer = reader.read(write_response(1, 1, "stop", 1, f"v{number}", f"m{number}"), TRACE)
        assert (answer.model, answer.model_version) == (f"m{number}", f"v{number}")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"short",
        write_response(1, 1, "stop", 1, "v", "model")[:-2],
        write_response(1, 1) + b"\xc1",
        write_response(1, 1) + CODEC.encode({"text": 5}),
        write_response(1, 1, "stop", 1, "", "m")[:-1] + b"\xff",
    ],
)
def test_what_cannot_be_read(payload: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        AnswerReader(CODEC).read(payload, TRACE)
    assert caught.value.code == "invalid_request"


def test_a_codec_is_known_or_named() -> None:
    assert codec_of("json") is CODECS["json"]
    with pytest.raises(ProtocolError, match="'xml'"):
        codec_of("xml")
