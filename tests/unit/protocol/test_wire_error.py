import pytest

from open_autoglm.errors import RequestError, ServerError
from open_autoglm.protocol import CODECS, read_error, write_error
from open_autoglm.protocol.opcodes import RETRYABLE


@pytest.mark.parametrize("name", ["json", "msgpack", "protobuf"])
def test_an_error_comes_back_as_it_was(name: str) -> None:
    codec = CODECS[name]
    error = RequestError("rate_limit_exceeded", "too many", param="model", retry_after_s=0.25)
    flags, status, retry_after_ms, payload = write_error(codec, error, {"request_id": "r1"})
    told = read_error(codec, status, flags, retry_after_ms, payload)
    assert (told.status, told.code, told.message, told.retryable, told.retry_after_ms) == (
        429,
        "rate_limit_exceeded",
        "too many",
        True,
        250,
    )
    assert told.details == {"request_id": "r1", "param": "model"}


def test_details_do_not_hide_what_is_said() -> None:
    codec = CODECS["json"]
    _, _, _, payload = write_error(codec, ServerError("overloaded", "no"), {"code": "ok", "message": "fine"})
    told = read_error(codec, 503, RETRYABLE, 0, payload)
    assert (told.code, told.message) == ("overloaded", "no")


def test_numbers_that_do_not_fit_are_said_as_the_largest() -> None:
    error = ServerError("overloaded", "x" * 5000, retry_after_s=1e9)
    _, _, retry_after_ms, payload = write_error(CODECS["json"], error)
    assert retry_after_ms == 2**32 - 1
    assert len(read_error(CODECS["json"], 503, 0, 0, payload).message) == 1000


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b'{"code":1,"message":2}', b'{"code":""}'])
def test_a_body_that_cannot_be_read_does_not_hide_the_error(payload: bytes) -> None:
    told = read_error(CODECS["json"], 502, RETRYABLE, 7, payload)
    assert (told.status, told.code, told.message, told.retryable, told.retry_after_ms) == (
        502,
        "internal_error",
        "",
        True,
        7,
    )


def test_a_code_of_a_later_version_is_kept() -> None:
    assert read_error(CODECS["json"], 418, 0, 0, b'{"code":"teapot"}').code == "teapot"
