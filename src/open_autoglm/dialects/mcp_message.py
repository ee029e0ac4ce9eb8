"""Messages of the Model Control Protocol in JSON: their forms, and the two ways to name their kind.

| form | request | answers |
|---|---|---|
| typed | `mcp_version`, `type`, `trace_id`, `payload` | the same fields |
| meta | `type`, `payload`, `meta` | `type`, `payload`, `meta`, and `trace_id` if the request had one |
| opcode | `opcode`, `session_id`, `payload` | the same fields |

An answer takes the form of its request, and carries the ids that the request carried. An error whose request could
not be read has both `type` and `opcode`.

Every form may also have `vector`, what its sender knew, and `ttl`, how many servers may pass it on: 0 is too late.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from open_autoglm.errors import RequestError

VERSION: Final = "1.0"

MessageType = Literal["INFER_REQUEST", "INFER_RESPONSE", "INFER_CHUNK", "INFER_EVENT", "ERROR"]
OPCODES: Final[dict[MessageType, int]] = {
    "INFER_REQUEST": 10,
    "INFER_RESPONSE": 11,
    "INFER_CHUNK": 12,
    "ERROR": 14,
    "INFER_EVENT": 23,
}

_ID_CHARS_MAX: Final = 256
_VECTOR_MEMBERS_MAX: Final = 64
_MEMBER_BYTES_MAX: Final = 64
_COUNTER_MAX: Final = 2**53 - 1
_TTL_MAX: Final = 2**32 - 1
_NO_PAYLOAD: Final = Raw(b"{}")


class Meta(Struct, frozen=True, gc=False):
    """`meta` of a message.

    Attributes:
        timestamp: when it was written: seconds or milliseconds since 1970, or ISO 8601.
        retry: whether it may be tried again.
    """

    timestamp: int | float | str | None = None
    retry: bool | None = None


class Envelope(Struct, frozen=True, gc=False):
    """A message around its payload, as it comes from the wire; see the module."""

    mcp_version: str | None = None
    type: str | None = None
    opcode: int | None = None
    trace_id: str | None = None
    session_id: str | None = None
    payload: Raw = _NO_PAYLOAD
    meta: Meta | None = None
    vector: dict[str, int] | None = None
    ttl: int | None = None


ENVELOPE_KEYS: Final = {name: f'"{name}"'.encode() for name in Envelope.__struct_fields__}


def check_request(envelope: Envelope) -> None:
    """Raise unless a message is a request that is understood.

    Raises:
        RequestError: `invalid_request`, with the field.
    """
    version = envelope.mcp_version
    if version is not None and version.partition(".")[0] != VERSION.partition(".")[0]:
        raise RequestError(
            "invalid_request", f"mcp_version is {version[:20]!r}; this server speaks {VERSION}", param="mcp_version"
        )
    if envelope.type is None and envelope.opcode is None:
        raise RequestError(
            "invalid_request", "the message has neither type nor opcode; send INFER_REQUEST or 10", param="type"
        )
    if envelope.type not in (None, "INFER_REQUEST"):
        raise RequestError(
            "invalid_request", f"type is {envelope.type[:40]!r}; this route takes INFER_REQUEST", param="type"
        )
    if envelope.opcode not in (None, OPCODES["INFER_REQUEST"]):
        raise RequestError("invalid_request", "this route takes opcode 10 (INFER_REQUEST) only", param="opcode")
    for name, value in (("trace_id", envelope.trace_id), ("session_id", envelope.session_id)):
        if value is not None and len(value) > _ID_CHARS_MAX:
            raise RequestError("invalid_request", f"{name} is longer than {_ID_CHARS_MAX} characters", param=name)
    if envelope.vector is not None:
        _check_vector(envelope.vector)
    ttl = envelope.ttl
    if ttl is not None and not 0 < ttl <= _TTL_MAX:
        message = "ttl is 0: the message has expired" if ttl == 0 else f"ttl is no number from 0 to {_TTL_MAX}"
        raise RequestError("invalid_request", message, param="ttl")


def _check_vector(vector: dict[str, int]) -> None:
    """The bounds are those of `protocol.version_vector`."""
    if len(vector) > _VECTOR_MEMBERS_MAX:
        message = f"vector has {len(vector)} members; {_VECTOR_MEMBERS_MAX} are the most"
        raise RequestError("invalid_request", message, param="vector")
    if not all(0 < len(member.encode()) <= _MEMBER_BYTES_MAX for member in vector):
        message = f"vector names a member by something else than 1 to {_MEMBER_BYTES_MAX} bytes"
        raise RequestError("invalid_request", message, param="vector")
    if not all(0 <= counter <= _COUNTER_MAX for counter in vector.values()):
        raise RequestError("invalid_request", "vector counts from 0 to 2^53 - 1", param="vector")


def encode_answer(
    request: Envelope, kind: MessageType, payload: dict[str, Any], *, request_id: str, created_s: int | None
) -> bytes:
    """Write a message in the form of the request that it answers.

    Args:
        request: the request's envelope.
        kind: of the message.
        payload: plain values.
        request_id: the trace id where the form wants one and the request had none.
        created_s: wall seconds, for `meta`; None leaves it out.
    """
    message: dict[str, Any]
    if request.type is None and request.opcode is not None:
        message = {"opcode": OPCODES[kind]}
    elif request.type is None:
        # Nobody knows the form: refused before the body was read, or unreadable. Whoever asked finds their own.
        message = {"mcp_version": VERSION, "type": kind, "opcode": OPCODES[kind], "trace_id": request_id}
    elif request.meta is not None and request.mcp_version is None:
        message = {"type": kind}
    else:
        message = {"mcp_version": VERSION, "type": kind, "trace_id": request.trace_id or request_id}
    if request.trace_id is not None:
        message["trace_id"] = request.trace_id
    if request.session_id is not None:
        message["session_id"] = request.session_id
    message["payload"] = payload
    if request.meta is not None and created_s is not None:
        message["meta"] = {"timestamp": created_s, "retry": False}
    return msgspec.json.encode(message)
