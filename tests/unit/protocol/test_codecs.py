from typing import Any

import msgspec
import pytest

from open_autoglm.protocol.codecs import CODECS, DEPTH_MAX, VALUES_MAX, available_codecs
from open_autoglm.protocol.errors import ProtocolError

BODIES: list[dict[str, Any]] = [
    {},
    {"prompt": "中文", "temperature": 0.5, "max_tokens": 10, "stop": ["a", "b"], "seed": 7},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"a": None, "b": True, "c": [1, -2, 3.5, [], {}], "d": {"e": {"f": "g"}}},
    {"text": "x" * 100_000, "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]
NAMES = ["json", "msgpack", "protobuf"]


def deep(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_comes_back_as_it_was(name: str, body: dict[str, Any]) -> None:
    codec = CODECS[name]
    assert codec.name == name
    assert codec.decode(codec.encode(body)) == body


@pytest.mark.parametrize("name", NAMES)
def test_no_bytes_are_an_empty_body(name: str) -> None:
    assert CODECS[name].decode(b"") == {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data", [b"\xff\xff", b"\xc1", b"\x81\xa1a", b"[1]", b"\x93\x01\x02\x03", b'{"a":', b"\x0a\xff"]
)
def test_what_is_no_body_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        CODECS[name].decode(data)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_depth_has_a_limit(name: str) -> None:
    codec = CODECS[name]
    assert codec.decode(codec.encode(deep(DEPTH_MAX))) == deep(DEPTH_MAX)
    with pytest.raises(ProtocolError, match="deeper than 64"):
        codec.decode(codec.encode(deep(DEPTH_MAX + 1)))
    bottomless = b'{"a":' + b"[" * 100_000 if name == "json" else b"\x81\xa1a" + b"\x91" * 100_000
    with pytest.raises(ProtocolError):
        codec.decode(bottomless)


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_the_number_of_values_has_a_limit(name: str) -> None:
    codec = CODECS[name]
    codec.decode(codec.encode({"a": [0] * (VALUES_MAX - 1)}))
    with pytest.raises(ProtocolError, match="more than 100000 values"):
        codec.decode(codec.encode({"a": [0] * VALUES_MAX}))


@pytest.mark.parametrize(
    "body", [{1: "a"}, {"a": {2: 3}}, {"a": b"raw"}, {"a": msgspec.msgpack.Ext(5, b"x")}, {"a": float("nan")}]
)
def test_msgpack_holds_what_json_can_hold_and_no_more(body: Any) -> None:
    with pytest.raises(ProtocolError):
        CODECS["msgpack"].decode(msgspec.msgpack.encode(body))


def test_a_timestamp_is_an_extension_too() -> None:
    with pytest.raises(ProtocolError):
        CODECS["msgpack"].decode(b"\x81\xa1a\xd6\xff\0\0\0\1")


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_form_cannot_be_written(name: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be written"):
        CODECS[name].encode({"a": object()})


def test_every_codec_is_there_where_the_tests_run() -> None:
    assert set(available_codecs()) == set(NAMES)
