import re
import struct
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.protobuf_body import EXTRA_NUMBER, MESSAGES_NUMBER, PACKAGE, SCALARS, STOP_NUMBER
from open_autoglm.protocol.protobuf_body import decode_body as decode
from open_autoglm.protocol.protobuf_body import encode_body as encode

PROTO = Path(__file__).parents[3] / "proto" / "mcp.proto"


def test_the_published_file_says_what_the_tables_say() -> None:
    text = PROTO.read_text().partition("\nservice ")[0]
    assert f"package {PACKAGE};" in text
    found = re.findall(r"^ +(optional|repeated) (\w+) (\w+) = (\d+);", text, re.MULTILINE)
    scalars = {("optional", kind, name, str(number)) for name, (number, kind) in SCALARS.items()}
    repeated = {
        ("repeated", "string", "stop", str(STOP_NUMBER)),
        ("repeated", "Message", "messages", str(MESSAGES_NUMBER)),
    }
    message = {("optional", "string", "role", "1"), ("optional", "string", "content", "2")}
    extra = {("optional", "bytes", "extra", str(EXTRA_NUMBER))}
    assert set(found) == scalars | repeated | message | extra
    assert len(found) == len(scalars) + len(repeated) + len(message) + 2


def test_a_field_of_its_own_type_has_its_place() -> None:
    assert encode({"prompt": "hi"}) == b"\x0a\x02hi"
    assert encode({"max_tokens": 7}) == b"\x28\x07"
    assert encode({"stop": ["a", "b"]}) == b"\x32\x01a\x32\x01b"
    assert encode({"messages": [{"role": "user", "content": "x"}]}) == b"\x12\x09\x0a\x04user\x12\x01x"
    assert encode({"retryable": False}) == b"\xd0\x01\x00", "absent and false are two things"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ["a", "b"]},
        {"stop": "a"},
        {"stop": []},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": ["hi"]},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"seed": 2**63},
        {"temperature": None},
        {"tools": [{"type": "function"}]},
    ],
)
def test_what_has_no_place_is_in_extra(body: dict[str, Any]) -> None:
    data = encode(body)
    assert data[0] == EXTRA_NUMBER << 3 | 2
    assert decode(data) == body


def test_more_fields_of_a_message_are_kept() -> None:
    body = {"messages": [{"role": "user", "content": "x", "name": "n"}, {"role": "assistant", "content": ""}]}
    assert decode(encode(body)) == body


def test_a_key_is_not_taken_twice() -> None:
    with pytest.raises(ProtocolError, match="'prompt' twice"):
        decode(encode({"prompt": "a"}) + b'\x7a\x0e{"prompt":"b"}')


@pytest.mark.parametrize("data", [b"\x7a\x01x", b"\x7a\x02[]", b"\x0a\x02\xff\xff", b"\x0a\x05a"])
def test_what_is_no_body_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_text_without_utf8_cannot_be_written() -> None:
    with pytest.raises(ProtocolError, match="cannot be written"):
        encode({"prompt": "\ud800"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_neither_read_nor_written(value: float) -> None:
    with pytest.raises(ProtocolError, match="which is no number in JSON"):
        decode(b"\x19" + struct.pack("<d", value))
    with pytest.raises(ProtocolError, match="which is no number in JSON"):
        encode({"temperature": value})
