"""Messages of the gRPC service, as proto/mcp.proto has them, built from the tables below when this is first imported.

Needs the package `protobuf` (extra `grpc`); only the gRPC listener's side imports it. Invariant: a body passes as the
bytes that it is. On the wire a field of a message type and a field of bytes are one thing, so here `body` is of bytes,
and `codecs.ProtobufCodec` reads and writes them.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.opcodes import NO_RETRY, REASONING, STREAM
from open_autoglm.protocol.preambles import (
    NO_TRACE,
    PRIORITY_OF_KEY,
    read_response,
    write_request,
)
from open_autoglm.protocol.protobuf_body import PACKAGE

_Types: Final = descriptor_pb2.FieldDescriptorProto
SERVICE: Final = f"{PACKAGE}.ModelControl"
MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "InferRequest": {
        "model": (1, "string"),
        "session": (2, "string"),
        "priority": (3, "uint32"),
        "trace_id": (4, "bytes"),
        "no_retry": (5, "bool"),
        "body": (6, "Body"),
    },
    "InferResponse": {
        "prompt_tokens": (1, "uint32"),
        "completion_tokens": (2, "uint32"),
        "finish": (3, "string"),
        "attempts": (4, "uint32"),
        "version": (5, "string"),
        "model": (6, "string"),
        "chunks": (7, "uint32"),
        "body": (8, "Body"),
    },
    "InferChunk": {
        "seq": (1, "uint32"),
        "text": (2, "string"),
        "reasoning": (3, "bool"),
        "choice": (4, "uint32"),
    },
    "InferPart": {
        "chunk": (1, "InferChunk"),
        "response": (2, "InferResponse"),
    },
}
"""Number and type of each field by message."""
OPTIONAL: Final = "priority"
"""The field that may be absent; what is 0 or empty in the others is said by their absence."""
_WIRE_TYPES: Final = {
    "string": _Types.TYPE_STRING,
    "bytes": _Types.TYPE_BYTES,
    "uint32": _Types.TYPE_UINT32,
    "bool": _Types.TYPE_BOOL,
    "Body": _Types.TYPE_BYTES,
}


def message_classes() -> dict[str, Any]:
    """A class for each message, by its name."""
    file = descriptor_pb2.FileDescriptorProto(name="mcp_service.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "InferPart":
            message.oneof_decl.add(name="part")
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=_Types.LABEL_OPTIONAL)
            if kind in MESSAGES:
                added.type, added.type_name, added.oneof_index = _Types.TYPE_MESSAGE, f".{PACKAGE}.{kind}", 0
            else:
                added.type = _WIRE_TYPES[kind]
            if field == OPTIONAL:
                added.proto3_optional, added.oneof_index = True, 0
                message.oneof_decl.add(name=f"_{field}")
    pool = descriptor_pool.DescriptorPool()  # of our own: whoever has compiled mcp.proto keeps theirs
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


_CLASSES: Final = message_classes()


def read_request_message(data: bytes, *, streamed: bool) -> tuple[int, bytes]:
    """Flags and payload of the INFER_REQUEST that an `InferRequest` is.

    Raises:
        ProtocolError: `invalid_request`: it is none, or a field breaks a limit of a request's preamble.
    """
    message = _CLASSES["InferRequest"]()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError("invalid_request", f"the message is no InferRequest: {error}") from error
    priority = message.priority if message.HasField(OPTIONAL) else PRIORITY_OF_KEY
    if priority == PRIORITY_OF_KEY and message.HasField(OPTIONAL):
        raise ProtocolError("invalid_request", f"priority {priority}: 0 to 3, or absent for the key's own")
    preamble = write_request(message.model, message.session, priority, message.trace_id or NO_TRACE)
    flags = (NO_RETRY if message.no_retry else 0) | (STREAM if streamed else 0)
    return flags, preamble + message.body


def write_chunk_part(seq: int, flags: int, choice: int, text: bytes) -> bytes:
    """The `InferPart` that an INFER_CHUNK is."""
    part = _CLASSES["InferPart"]()
    part.chunk.seq, part.chunk.text, part.chunk.choice = seq, text.decode("utf-8", "replace"), choice
    part.chunk.reasoning = bool(flags & REASONING)
    data: bytes = part.SerializeToString()
    return data


def write_response_message(payload: bytes, chunks: int, attempts: int, *, streamed: bool) -> bytes:
    """The `InferResponse` that an INFER_RESPONSE's payload is; of a stream, the `InferPart` that holds it."""
    said = read_response(payload)
    part = _CLASSES["InferPart"]()
    response = part.response
    response.prompt_tokens, response.completion_tokens = said.prompt_tokens, said.completion_tokens
    response.finish, response.version, response.model = said.finish, said.version, said.model
    response.attempts, response.chunks, response.body = attempts, chunks, payload[said.body_at :]
    data: bytes = (part if streamed else response).SerializeToString()
    return data
