from collections.abc import Callable

import pytest

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.preambles import (
    NO_TRACE,
    TRACE_AT,
    read_request,
    read_response,
    read_tensor,
    write_request,
    write_response,
    write_tensor,
)

TRACE = bytes(range(16))


def test_a_request_comes_back_as_it_was() -> None:
    payload = write_request("glm-4", "会话", 2, TRACE) + b"{}"
    read = read_request(payload)
    assert (read.model, read.session, read.priority, read.trace_id) == ("glm-4", "会话", 2, TRACE)
    assert payload[read.body_at :] == b"{}"
    assert payload[TRACE_AT : TRACE_AT + 16] == TRACE


def test_a_request_says_through_how_many_servers_it_has_come() -> None:
    assert [read_request(write_request("m", hops=hops)).hops for hops in (0, 1, 255)] == [0, 1, 255]
    with pytest.raises(ProtocolError):
        write_request("m", hops=256)


def test_a_request_needs_no_names() -> None:
    read = read_request(write_request(""))
    assert (read.model, read.session, read.priority, read.trace_id, read.body_at) == ("", "", 255, NO_TRACE, 20)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        write_request("glm")[:-1],
        write_request("glm")[:19],
        write_request("", "s")[:-1],
        b"\x01\x00\x04" + bytes(17) + b"m",
        b"\x01\x00\xff" + bytes(17) + b"\xff",
    ],
)
def test_a_request_that_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_request(payload)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("model", "priority", "trace"), [("m" * 256, 255, TRACE), ("m", 4, TRACE), ("m", -1, TRACE), ("m", 1, b"x")]
)
def test_a_request_that_cannot_be_said_is_refused(model: str, priority: int, trace: bytes) -> None:
    with pytest.raises(ProtocolError):
        write_request(model, "", priority, trace)


def test_a_response_comes_back_as_it_was() -> None:
    payload = write_response(12, 34, "tool_calls", 2, "sha256:ab", "glm-4") + b"body"
    read = read_response(payload)
    assert (read.prompt_tokens, read.completion_tokens, read.finish, read.attempts) == (12, 34, "tool_calls", 2)
    assert (read.version, read.model, payload[read.body_at :]) == ("sha256:ab", "glm-4", b"body")


def test_figures_that_do_not_fit_are_said_as_the_largest() -> None:
    read = read_response(write_response(2**40, 2**32, "stop", 1000))
    assert (read.prompt_tokens, read.completion_tokens, read.attempts) == (2**32 - 1, 2**32 - 1, 255)


def test_a_finish_without_a_number_is_said_and_read_as_none() -> None:
    assert read_response(write_response(0, 0, "made_up")).finish == ""
    assert read_response(bytes(8) + b"\xc8\0\0\0").finish == ""


@pytest.mark.parametrize(
    "payload", [b"", bytes(11), write_response(1, 1, "", 0, "v", "m")[:-1], bytes(10) + b"\1\0\xff"]
)
def test_a_response_that_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_response(payload)


def test_a_tensor_comes_back_as_it_was() -> None:
    payload = write_tensor("pixels", "float16", (2, 3)) + bytes(12)
    read = read_tensor(payload)
    assert (read.name, read.dtype, read.shape, len(payload) - read.body_at) == ("pixels", "float16", (2, 3), 12)
    assert read_tensor(write_tensor("scalar", "bool", ()) + b"\1").shape == ()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        write_tensor("a", "float32", (2,)) + bytes(7),
        write_tensor("a", "float32", (2,)) + bytes(9),
        write_tensor("a", "float32", (2**32 - 1,) * 8),
        b"\0\x0a\0\0",
        b"\0\0\x09\0" + bytes(36),
        b"\1\0\0\0\xff" + bytes(4),
    ],
)
def test_a_tensor_of_another_size_than_its_shape_says_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_tensor(payload)


@pytest.mark.parametrize(
    ("name", "dtype", "shape"), [("n" * 256, "bool", ()), ("n", "str", ()), ("n", "bool", (1,) * 9)]
)
def test_a_tensor_that_cannot_be_said_is_refused(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        write_tensor(name, dtype, shape)


@pytest.mark.parametrize("read", [read_request, read_response, read_tensor])
@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x01\x00\x05\x00", b"\xff" * 300])
def test_what_cannot_be_read_is_said_in_words_of_ours(read: Callable[[bytes], object], payload: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(payload)
    assert "unpack" not in caught.value.message
    assert "codec" not in caught.value.message
