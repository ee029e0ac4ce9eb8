"""What the other side said went wrong, and what went wrong here, as errors of our one tree.

    AutoGLMError
    ├── RequestError ── RejectedError      4xx: the request cannot be served as it is
    ├── UpstreamError ─ FailedError        502, 504: whoever computes the answer failed
    └── ServerError ─── UnavailableError   other 5xx: not now

`code`, `http_status`, `retryable` and `retry_after_s` are the peer's words, also those of a later version.
"""

from __future__ import annotations

from typing import Any, Final

from open_autoglm.errors import CODES, AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.wire_error import WireError, read_error

_UPSTREAM: Final = (502, 504)


class _ToldError(AutoGLMError):
    """What the peer told.

    Attributes:
        request_id: the server's name for the request, to ask its operator about; empty when it gave none.
        details: what else it said, by field.
    """

    def __init__(self, told: WireError) -> None:
        retry_after_s = told.retry_after_ms / 1000 if told.retry_after_ms else None
        param = told.details.get("param")
        super().__init__(
            told.code,
            told.message or told.code,
            param=param if isinstance(param, str) else None,
            retry_after_s=retry_after_s,
        )
        self._status = told.status
        self._retryable = told.retryable
        self.request_id = str(told.details.get("request_id", ""))
        self.details: dict[str, Any] = told.details

    @property
    def http_status(self) -> int:
        """As HTTP has it."""
        return self._status

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when it is sent again."""
        return self._retryable


class RejectedError(_ToldError, RequestError):
    """The request cannot be served as it is."""


class FailedError(_ToldError, UpstreamError):
    """Whoever computes the answer failed."""


class UnavailableError(_ToldError, ServerError):
    """The server cannot serve the request now."""


def told(error: WireError) -> AutoGLMError:
    """The error that the peer told of."""
    if error.status in _UPSTREAM:
        return FailedError(error)
    return RejectedError(error) if error.status < 500 else UnavailableError(error)


def read_failure(codec: Codec, status: int, flags: int, retry_after_ms: int, payload: bytes) -> AutoGLMError:
    """The error that an ERROR frame is."""
    return told(read_error(codec, status, flags, retry_after_ms, payload))


def refused(code: str, message: str) -> AutoGLMError:
    """The error that a connection was turned away with."""
    known = CODES.get(code)
    status = known.http_status if known is not None else 503
    return told(WireError(status, code, message, known is not None and known.retryable, 0, {}))


class LostError(UpstreamError):
    """The connection was lost with the request, which may have been served; nobody told of it."""


def lost(detail: str) -> LostError:
    """See `LostError`."""
    return LostError("stream_interrupted", f"the answer did not come: {detail}")


def late(timeout_s: float) -> UpstreamError:
    """The caller's time is up."""
    return UpstreamError("deadline_exceeded", f"no whole answer within {timeout_s:g} s")
