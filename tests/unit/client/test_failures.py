from __future__ import annotations

import pytest
from tests.unit.client.fake_link import CODEC

from open_autoglm.client.failures import FailedError, RejectedError, UnavailableError, read_failure, refused, told
from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.protocol.wire_error import WireError, write_error


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        (404, RejectedError, RequestError),
        (429, RejectedError, RequestError),
        (502, FailedError, UpstreamError),
        (504, FailedError, UpstreamError),
        (503, UnavailableError, ServerError),
        (507, UnavailableError, ServerError),
    ],
)
def test_the_kind_follows_the_status(status: int, kind: type[AutoGLMError], ours: type[AutoGLMError]) -> None:
    error = told(WireError(status, "a_later_code", "what", True, 250, {"request_id": "req-1", "param": "stop"}))
    assert isinstance(error, kind)
    assert isinstance(error, ours)
    assert (error.code, error.http_status, error.retryable, error.retry_after_s) == ("a_later_code", status, True, 0.25)
    assert (error.request_id, error.param) == ("req-1", "stop")


def test_an_error_comes_as_it_was_sent() -> None:
    flags, aux, arg, payload = write_error(CODEC, ServerError("overloaded", "later", retry_after_s=3.0))
    error = read_failure(CODEC, aux, flags, arg, payload)
    assert (str(error), error.http_status, error.retryable, error.retry_after_s) == ("later", 503, True, 3.0)


def test_a_refusal_has_the_status_of_its_code() -> None:
    assert isinstance(refused("invalid_api_key", "no"), RejectedError)
    assert refused("of_a_later_version", "no").http_status == 503
