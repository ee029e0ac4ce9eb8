"""ERROR and GOODBYE: what they say, and how it is written."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.opcodes import RETRYABLE

MESSAGE_CHARS_MAX: Final = 1000
_SAID: Final = ("code", "message", "retryable", "retry_after_ms")


class WireError(Struct, frozen=True):
    """What the peer says went wrong.

    Attributes:
        status: as HTTP has it.
        code: one of `errors.CODES`, unless the peer is of a later version.
        message: for people.
        retryable: whether the same request may succeed when it is sent again.
        retry_after_ms: when; 0 when that is not said.
        details: everything else, as `request_id`.
    """

    status: int
    code: str
    message: str
    retryable: bool
    retry_after_ms: int
    details: dict[str, Any]


def read_error(codec: Codec, status: int, flags: int, retry_after_ms: int, payload: bytes) -> WireError:
    """Read ERROR or GOODBYE: `status` is the frame's aux. A body that cannot be read does not hide the error."""
    try:
        body = codec.decode(payload)
    except ProtocolError:
        body = {}
    code, message = body.get("code"), body.get("message")
    return WireError(
        status=status,
        code=code if isinstance(code, str) and code else "internal_error",
        message=message[:MESSAGE_CHARS_MAX] if isinstance(message, str) else "",
        retryable=bool(flags & RETRYABLE),
        retry_after_ms=retry_after_ms,
        details={name: value for name, value in body.items() if name not in _SAID},
    )


def write_error(
    codec: Codec, error: AutoGLMError, details: dict[str, Any] | None = None
) -> tuple[int, int, int, bytes]:
    """Flags, aux, arg and payload of ERROR.

    Args:
        codec: of the connection.
        error: what happened; its message reaches the client.
        details: more fields for the body, as `request_id`.
    """
    retry_after_ms = min(round((error.retry_after_s or 0) * 1000), 2**32 - 1)
    body = {
        **(details or {}),
        "code": error.code,
        "message": error.message[:MESSAGE_CHARS_MAX],
        "retryable": error.retryable,
        "retry_after_ms": retry_after_ms,
    }
    if error.param is not None:
        body["param"] = error.param
    return (RETRYABLE if error.retryable else 0), error.http_status, retry_after_ms, codec.encode(body)
