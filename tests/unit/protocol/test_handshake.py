import json

import pytest
from tests.unit.protocol.pair import HELLO, Pair, Recording, frames, names

from open_autoglm.errors import RequestError
from open_autoglm.protocol import PREFACE, ConnectionSettings, Credentials, Hello, ServerConnection, encode_frame
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.handshake import read_hello, read_welcome, write_hello


def test_hello_is_answered_by_welcome() -> None:
    pair = Pair(open_now=False, requests_max=7)
    sent = pair.to_server()
    assert sent.startswith(PREFACE)
    assert names(sent[8:]) == ["HELLO"]
    assert names(pair.to_client()) == ["WELCOME"]
    assert pair.client.opened
    assert pair.server.opened
    [(_, welcome)] = pair.asking.take()
    assert (welcome.version, welcome.codec, welcome.connection, welcome.requests_max) == ("1.0", "json", "c1", 7)
    assert pair.client.room == 7


def test_the_first_codec_that_both_know_is_chosen() -> None:
    pair = Pair(Hello(versions=["2.0", "1.0"], codecs=["cbor", "msgpack", "json"]))
    assert pair.client.codec.name == pair.server.codec.name == "msgpack"
    assert pair.client.welcome is not None
    assert pair.client.welcome.version == "1.0"


@pytest.mark.parametrize(("versions", "codecs"), [(["0.9"], ["json"]), (["1.0"], ["cbor"])])
def test_who_speaks_nothing_that_is_spoken_is_told_what_is(versions: list[str], codecs: list[str]) -> None:
    pair = Pair(Hello(versions=versions, codecs=codecs), open_now=False)
    pair.settle()
    [(_, code, message)] = pair.asking.take()
    assert code == "not_implemented"
    assert "is spoken here" in message
    assert pair.client.finished
    assert pair.server.finished


def test_an_answer_to_hello_may_come_later_and_may_be_a_refusal() -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    server.receive(PREFACE + encode_frame(1, 0, write_hello(HELLO)), 0.0)
    assert role.take() == [("hello", HELLO)]
    assert server.take() == []
    server.refuse(RequestError("invalid_api_key", "the key is not known"))
    [(opcode, _, status, _, _, payload)] = frames(b"".join(server.take()))
    assert (opcode, status, json.loads(payload)["code"]) == (8, 401, "invalid_api_key")
    assert server.finished
    server.accept()
    assert server.take() == []


def test_a_preface_may_come_byte_by_byte_and_must_be_right() -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    for byte in PREFACE + encode_frame(1, 0, write_hello(HELLO)):
        server.receive(bytes((byte,)), 0.0)
    assert role.take() == [("hello", HELLO)]
    other = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    other.receive(b"GET / HTTP/1.1\r\n", 0.0)
    assert other.finished
    assert role.take()[0][:2] == ("closed", "invalid_request")


@pytest.mark.parametrize("frame", [encode_frame(3, 0), encode_frame(10, 1, b"x"), encode_frame(1, 0, b"{}")])
def test_nothing_comes_before_a_good_hello(frame: bytes) -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    server.receive(PREFACE + frame, 0.0)
    assert names(b"".join(server.take())) == ["GOODBYE"]
    assert role.take()[0][:2] == ("closed", "invalid_request")


def test_nothing_comes_between_hello_and_welcome() -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    server.receive(PREFACE + encode_frame(1, 0, write_hello(HELLO)) + encode_frame(10, 1, b"x"), 0.0)
    assert [call[0] for call in role.take()] == ["hello", "closed"]


def test_a_long_hello_is_refused_by_its_length() -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0)
    server.receive(PREFACE + encode_frame(1, 0, b" " * 65537)[:16], 0.0)
    assert role.take()[0][:2] == ("closed", "request_too_large")


def test_a_handshake_has_an_end() -> None:
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(handshake_s=10), 0.0)
    assert server.next_deadline() == 10.0
    server.receive(PREFACE[:3], 9.0)
    assert server.next_deadline() == 10.0, "a byte now and then gains no time"
    server.handle_timeout(9.9)
    assert not server.finished
    server.handle_timeout(10.0)
    assert role.take() == [("closed", "request_timeout", "no handshake in 10 s")]


def test_a_secret_is_in_no_text() -> None:
    hello = Hello(versions=["1.0"], codecs=["json"], auth=Credentials(key="mcp_secret"))
    assert "mcp_secret" not in repr(hello)
    assert read_hello(write_hello(hello)).auth.key == "mcp_secret"
    with pytest.raises(ProtocolError) as caught:
        read_hello(b'{"versions":["1.0"],"codecs":["json"],"auth":{"key":["mcp_secret"]}}')
    assert "mcp_secret" not in caught.value.message


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (b"\xff", "cannot be read"),
        (b'{"versions":[],"codecs":["json"]}', "versions"),
        (b'{"versions":["1.0"]}', "codecs"),
        (b'{"versions":["1.0"],"codecs":["json"],"window":1}', "window"),
        (b'{"versions":["1.0"],"codecs":["json"],"auth":{"key":"a","ticket":"b"}}', "key and ticket"),
    ],
)
def test_a_hello_that_is_wrong_is_refused_with_the_field(payload: bytes, word: str) -> None:
    with pytest.raises(ProtocolError, match=word):
        read_hello(payload)


@pytest.mark.parametrize(
    "payload",
    [b"[]", b'{"version":"1.0","codec":"msgpack"}', b'{"version":"2.0","codec":"json"}',
     b'{"version":"1.0","codec":"json","requests_max":0}'],
)  # fmt: skip
def test_a_welcome_that_was_not_offered_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_welcome(payload, HELLO)


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert read_hello(b'{"versions":["1.0"],"codecs":["json"],"colour":"red"}') == HELLO
