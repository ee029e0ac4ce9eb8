"""Errors as OpenAI's API writes them, in bodies and in streams."""

from __future__ import annotations

from typing import Any

import msgspec

from open_autoglm.errors import CODES, AutoGLMError


def error_body(error: AutoGLMError, request_id: str) -> bytes:
    """`{"error": {...}}`."""
    return msgspec.json.encode({"error": _fields(error, request_id)})


def error_event(error: AutoGLMError, request_id: str, delivered_chars: int) -> bytes:
    """The last event of a stream that broke after content. No `[DONE]` follows."""
    fields = _fields(error, request_id)
    fields["delivered_chars"] = delivered_chars
    fields["retryable"] = error.retryable
    if error.code == "server_draining":
        fields["resumable"] = True
    return b"data: " + msgspec.json.encode({"error": fields}) + b"\n\n"


def _fields(error: AutoGLMError, request_id: str) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": CODES[error.code].openai_type,
        "code": error.code,
        "param": error.param,
        "request_id": request_id,
    }
