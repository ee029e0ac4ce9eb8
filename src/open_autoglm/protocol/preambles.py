"""The fixed beginnings of payloads: what a relay needs without reading the body, which is in the connection's codec.

    request   u8 model bytes, u8 session bytes, u8 priority, u8 hops, 16 bytes trace id, model, session
    response  u32 prompt tokens, u32 completion tokens, u8 finish, u8 attempts, u8 version bytes, u8 model bytes,
              version, model
    tensor    u8 name bytes, u8 dtype, u8 dimensions, u8 zero, u32 for each dimension, name

Numbers are big-endian, names UTF-8. A body begins where its preamble ends (`body_at`). Source: `docs/protocol.md`.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from msgspec import Struct

from open_autoglm.protocol.errors import ProtocolError

PRIORITY_OF_KEY: Final = 255
"""Priority that says: the one that belongs to the key."""
PRIORITY_MAX: Final = 3
NAME_BYTES_MAX: Final = 255
TRACE_BYTES: Final = 16
HOPS_AT: Final = 3
"""Where a request's payload says how many servers have it from another server."""
HOPS_MAX: Final = 8
"""A request that has come so far goes in a circle."""
TRACE_AT: Final = 4
"""Where the trace id begins in a request's payload."""
NO_TRACE: Final = bytes(TRACE_BYTES)
"""The receiver makes a trace id."""

FINISHES: Final = ("", "stop", "length", "tool_calls", "content_filter")
"""Reason to finish by its number on the wire; the empty one says that none is known."""
DTYPES: Final = ("float32", "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
"""Element type by its number on the wire."""
DTYPE_BYTES: Final = (4, 2, 2, 8, 1, 2, 4, 8, 1, 1)
DIMENSIONS_MAX: Final = 8

_REQUEST: Final = struct.Struct(">BBBB16s")
_RESPONSE: Final = struct.Struct(">IIBBBB")
_TENSOR: Final = struct.Struct(">BBBB")
REQUEST_BYTES: Final = _REQUEST.size
RESPONSE_BYTES: Final = _RESPONSE.size
_TOKENS_MAX: Final = 2**32 - 1
_HOPS_MOST: Final = 255


class RequestPreamble(Struct, frozen=True, gc=False):
    """What is asked of whom.

    Attributes:
        model: name of the model; empty leaves the choice to the server.
        session: id of the session; empty for none.
        priority: 0 (given up first) to 3, or 255 for the key's own.
        trace_id: 16 bytes; zeros when the receiver is to make one.
        body_at: where the body begins in the payload.
        hops: how many servers have it from another server, 0 to 255.
    """

    model: str
    session: str
    priority: int
    trace_id: bytes
    body_at: int
    hops: int = 0


class ResponsePreamble(Struct, frozen=True, gc=False):
    """What came of it.

    Attributes:
        prompt_tokens, completion_tokens: what was counted.
        finish: one of `FINISHES`.
        attempts: how many endpoints were tried, 1 to 255; 0 when that is not said.
        version: of the model that computed the answer; empty when unknown.
        model: that answered.
        body_at: where the body begins in the payload.
    """

    prompt_tokens: int
    completion_tokens: int
    finish: str
    attempts: int
    version: str
    model: str
    body_at: int


class TensorPreamble(Struct, frozen=True, gc=False):
    """A tensor whose elements follow, little-endian, the last dimension fastest.

    Attributes:
        name: what the model calls it.
        dtype: one of `DTYPES`.
        shape: at most 8 dimensions.
        body_at: where the elements begin in the payload.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    body_at: int


def write_request(
    model: str, session: str = "", priority: int = PRIORITY_OF_KEY, trace_id: bytes = NO_TRACE, hops: int = 0
) -> bytes:
    """Preamble of a request; the body follows it.

    Args:
        model, session: at most 255 bytes of UTF-8 each.
        priority: 0 to 3, or 255.
        trace_id: 16 bytes.
        hops: as the server got it, 0 to 255; of a client 0.

    Raises:
        ProtocolError: `invalid_request`: a name is too long, or a number is none of these.
    """
    names = _name(model, "model"), _name(session, "session")
    if not (0 <= priority <= PRIORITY_MAX or priority == PRIORITY_OF_KEY) or len(trace_id) != TRACE_BYTES:
        raise ProtocolError(
            "invalid_request", f"priority {priority}, trace id of {len(trace_id)} bytes: 0-3 or 255, 16"
        )
    if not 0 <= hops <= _HOPS_MOST:
        raise ProtocolError("invalid_request", f"{hops} hops: 0 to {_HOPS_MOST} can be said")
    return _REQUEST.pack(len(names[0]), len(names[1]), priority, hops, trace_id) + names[0] + names[1]


def read_request(payload: bytes) -> RequestPreamble:
    """Read the beginning of a request's payload.

    Raises:
        ProtocolError: `invalid_request`: it is too short, not UTF-8, or of no known priority.
    """
    try:
        model_bytes, session_bytes, priority, hops, trace_id = _REQUEST.unpack_from(payload)
        session_at = REQUEST_BYTES + model_bytes
        body_at = session_at + session_bytes
        model = payload[REQUEST_BYTES:session_at].decode()
        session = payload[session_at:body_at].decode() if session_bytes else ""
    except (struct.error, UnicodeDecodeError) as error:
        raise _unreadable("request", error, payload, REQUEST_BYTES) from error
    if body_at > len(payload):
        raise ProtocolError("invalid_request", f"the request's names end at {body_at} of {len(payload)} bytes")
    if priority > PRIORITY_MAX and priority != PRIORITY_OF_KEY:
        raise ProtocolError("invalid_request", f"priority {priority}: 0 to 3, or 255 for the key's own")
    return RequestPreamble(model, session, priority, trace_id, body_at, hops)


def write_response(
    prompt_tokens: int, completion_tokens: int, finish: str = "", attempts: int = 0, version: str = "", model: str = ""
) -> bytes:
    """Preamble of a response; the body follows it.

    Args:
        prompt_tokens, completion_tokens: not negative; more than 2**32 - 1 is said as that.
        finish: one of `FINISHES`; any other word is said as the empty one.
        attempts: not negative; more than 255 is said as that.
        version, model: at most 255 bytes of UTF-8 each.

    Raises:
        ProtocolError: `invalid_request`: a name is too long.
    """
    version_name, model_name = version.encode(), model.encode()
    number = _FINISH_NUMBERS.get(finish, 0)
    sizes = len(version_name), len(model_name)
    try:
        head = _RESPONSE.pack(prompt_tokens, completion_tokens, number, attempts, *sizes)
    except struct.error:  # something is larger than its place
        _name(version, "version")
        _name(model, "model")
        prompt, completion = min(prompt_tokens, _TOKENS_MAX), min(completion_tokens, _TOKENS_MAX)
        head = _RESPONSE.pack(prompt, completion, number, min(attempts, 255), *sizes)
    return head + version_name + model_name


def read_response(payload: bytes) -> ResponsePreamble:
    """Read the beginning of a response's payload. A finish that is not known to us is read as the empty one.

    Raises:
        ProtocolError: `invalid_request`: it is too short, or not UTF-8.
    """
    try:
        prompt, completion, finish, attempts, version_bytes, model_bytes = _RESPONSE.unpack_from(payload)
        model_at = RESPONSE_BYTES + version_bytes
        body_at = model_at + model_bytes
        version = payload[RESPONSE_BYTES:model_at].decode()
        model = payload[model_at:body_at].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise _unreadable("response", error, payload, RESPONSE_BYTES) from error
    if body_at > len(payload):
        raise ProtocolError("invalid_request", f"the response's names end at {body_at} of {len(payload)} bytes")
    word = FINISHES[finish] if finish < len(FINISHES) else ""
    return ResponsePreamble(prompt, completion, word, attempts, version, model, body_at)


def write_tensor(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Preamble of a tensor; its elements follow it, little-endian, the last dimension fastest.

    Raises:
        ProtocolError: `invalid_request`: a long name, an unknown `dtype`, too many dimensions or too large a one.
    """
    data = _name(name, "tensor name")
    if dtype not in DTYPES or len(shape) > DIMENSIONS_MAX or any(not 0 <= size < 2**32 for size in shape):
        raise ProtocolError("invalid_request", f"no tensor of {dtype!r} and shape {shape} can be sent")
    head = _TENSOR.pack(len(data), DTYPES.index(dtype), len(shape), 0)
    return head + struct.pack(f">{len(shape)}I", *shape) + data


def read_tensor(payload: bytes) -> TensorPreamble:
    """Read the beginning of a tensor's payload; the elements that follow are as many as its shape says.

    Raises:
        ProtocolError: `invalid_request`: it is too short, of an unknown type, or not of the size that it says.
    """
    try:
        name_bytes, number, dimensions, _ = _TENSOR.unpack_from(payload)
        if number >= len(DTYPES) or dimensions > DIMENSIONS_MAX:
            raise ProtocolError("invalid_request", f"a tensor of type {number} and {dimensions} dimensions")
        shape = struct.unpack_from(f">{dimensions}I", payload, _TENSOR.size)
        name_at = _TENSOR.size + 4 * dimensions
        body_at = name_at + name_bytes
        name = payload[name_at:body_at].decode()
    except (struct.error, UnicodeDecodeError) as error:
        least = _TENSOR.size + (4 * payload[2] if len(payload) >= _TENSOR.size else 0)
        raise _unreadable("tensor", error, payload, least) from error
    body_bytes = math.prod(shape) * DTYPE_BYTES[number]
    if body_at + body_bytes != len(payload):
        found = max(0, len(payload) - body_at)
        raise ProtocolError("invalid_request", f"tensor {name!r} has {found} bytes: its shape says {body_bytes}")
    return TensorPreamble(name, DTYPES[number], shape, body_at)


_FINISH_NUMBERS: Final = {word: number for number, word in enumerate(FINISHES)}


def _unreadable(what: str, error: Exception, payload: bytes, least: int) -> ProtocolError:
    """Say in words of ours why a preamble cannot be read."""
    reason = f"it has {len(payload)} bytes, {least} are the least"
    if isinstance(error, UnicodeDecodeError):
        reason = "a name is not UTF-8"
    return ProtocolError("invalid_request", f"the {what}'s preamble cannot be read: {reason}")


def _name(text: str, what: str) -> bytes:
    data = text.encode()
    if len(data) > NAME_BYTES_MAX:
        raise ProtocolError("invalid_request", f"the {what} has {len(data)} bytes: {NAME_BYTES_MAX} at most")
    return data
