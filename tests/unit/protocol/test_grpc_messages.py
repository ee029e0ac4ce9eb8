"""Messages of the gRPC service: the published file, and the way to frames and back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.grpc_messages import (
    MESSAGES,
    OPTIONAL,
    SERVICE,
    message_classes,
    read_request_message,
    write_chunk_part,
    write_response_message,
)
from open_autoglm.protocol.opcodes import NO_RETRY, REASONING, STREAM
from open_autoglm.protocol.preambles import NO_TRACE, PRIORITY_OF_KEY, read_request, write_response

PROTO = Path(__file__).parents[3] / "proto" / "mcp.proto"
CLASSES = message_classes()


def test_the_published_file_says_what_the_tables_say() -> None:
    text = PROTO.read_text().partition("\nservice ")[2]
    name, rest = text.split(maxsplit=1)
    assert SERVICE.rpartition(".")[2] == name
    assert re.findall(r"rpc (\w+)\((\w+)\) returns \(([\w ]+)\)", rest) == [
        ("Infer", "InferRequest", "InferResponse"),
        ("InferStream", "InferRequest", "stream InferPart"),
    ]
    for message, fields in MESSAGES.items():
        block = rest.partition(f"message {message} {{")[2].partition("\n}")[0]
        found = re.findall(r"^ +(optional )?(\w+) (\w+) = (\d+);", block, re.MULTILINE)
        assert {field: (int(number), kind) for _, kind, field, number in found} == fields
        assert [field for optional, _, field, _ in found if optional] == [
            field for field in fields if field == OPTIONAL
        ]


def test_a_request_becomes_what_a_frame_has() -> None:
    message = CLASSES["InferRequest"](
        model="模型", session="s", priority=1, trace_id=bytes(range(16)), no_retry=True, body=b"\x0a\x02hi"
    )
    flags, payload = read_request_message(message.SerializeToString(), streamed=True)
    assert flags == NO_RETRY | STREAM
    read = read_request(payload)
    assert (read.model, read.session, read.priority, read.trace_id) == ("模型", "s", 1, bytes(range(16)))
    assert payload[read.body_at :] == b"\x0a\x02hi"


def test_what_a_request_leaves_out() -> None:
    flags, payload = read_request_message(b"", streamed=False)
    read = read_request(payload)
    assert (flags, read.model, read.priority, read.trace_id) == (0, "", PRIORITY_OF_KEY, NO_TRACE)
    assert read.body_at == len(payload)


@pytest.mark.parametrize(
    "fields", [{"priority": 4}, {"priority": 255}, {"trace_id": b"x"}, {"model": "x" * 256}, {"session": "x" * 256}]
)
def test_what_breaks_a_limit_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        read_request_message(CLASSES["InferRequest"](**fields).SerializeToString(), streamed=False)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no InferRequest"):
        read_request_message(b"\x0a\x05a", streamed=False)


def test_chunks_and_responses() -> None:
    part = CLASSES["InferPart"].FromString(write_chunk_part(3, REASONING, 1, "想".encode()))
    assert (part.chunk.seq, part.chunk.text, part.chunk.reasoning, part.chunk.choice) == (3, "想", True, 1)
    payload = write_response(5, 7, "length", version="v1", model="m") + b"\x0a\x02hi"
    whole = CLASSES["InferResponse"].FromString(write_response_message(payload, 0, 2, streamed=False))
    assert (whole.prompt_tokens, whole.completion_tokens, whole.finish) == (5, 7, "length")
    assert (whole.version, whole.model, whole.attempts, whole.body) == ("v1", "m", 2, b"\x0a\x02hi")
    last = CLASSES["InferPart"].FromString(write_response_message(payload, 4, 2, streamed=True))
    assert last.response.chunks == 4
