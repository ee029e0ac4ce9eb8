"""Bodies as protobuf writes them: `Body` of proto/mcp.proto, built from the tables below when this is first imported.

Needs the package `protobuf` (extra `grpc`); only `codecs.ProtobufCodec` imports this, and only when it is used.
Invariant: a body has one form, and comes back as it was but for whole numbers where a double stands.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from open_autoglm.protocol.codecs import JSON, VALUES_MAX, Body
from open_autoglm.protocol.errors import ProtocolError

_Types: Final = descriptor_pb2.FieldDescriptorProto
PACKAGE: Final = "autoglm.mcp.v1"
EXTRA_NUMBER: Final = 15
SCALARS: Final[dict[str, tuple[int, str]]] = {
    "prompt": (1, "string"),
    "temperature": (3, "double"),
    "top_p": (4, "double"),
    "max_tokens": (5, "int64"),
    "seed": (7, "int64"),
    "text": (16, "string"),
    "reasoning": (17, "string"),
    "code": (24, "string"),
    "message": (25, "string"),
    "retryable": (26, "bool"),
    "retry_after_ms": (27, "int64"),
    "request_id": (28, "string"),
}
"""Field, number and type of the values that stand alone."""
_DOUBLES: Final = frozenset(name for name, (_, kind) in SCALARS.items() if kind == "double")
MESSAGES_NUMBER: Final = 2
STOP_NUMBER: Final = 6
_WIRE_TYPES: Final = {
    "string": _Types.TYPE_STRING,
    "double": _Types.TYPE_DOUBLE,
    "int64": _Types.TYPE_INT64,
    "bool": _Types.TYPE_BOOL,
    "bytes": _Types.TYPE_BYTES,
}
_INT64: Final = range(-(2**63), 2**63)


def encode_body(body: Body) -> bytes:
    """Bytes of a body.

    Raises:
        ProtocolError: `invalid_request`: a value has no form in JSON, or a text none in UTF-8.
    """
    message = _BODY()
    extra = {}
    try:
        for name, value in body.items():
            if type(value) is float and not isfinite(value):
                raise ValueError(f"{name} is {value}, which is no number in JSON")
            if name in SCALARS and _fits(value, SCALARS[name][1]):
                setattr(message, name, value)
            elif name == "stop" and _texts(value):
                message.stop.extend(value)
            elif name == "messages" and _plain_messages(value):
                for item in value:
                    _write_message(message.messages.add(), item)
            else:
                extra[name] = value
        if extra:
            message.extra = JSON.encode(extra)
        data: bytes = message.SerializeToString(deterministic=True)
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise ProtocolError("invalid_request", f"the body cannot be written as protobuf: {error}") from error
    return data


def decode_body(data: bytes) -> Body:
    """The body that some bytes are.

    Raises:
        ProtocolError: `invalid_request`: they are none, or break a limit of `codecs`.
    """
    message = _BODY()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError("invalid_request", f"the body is not protobuf: {error}") from error
    if len(message.messages) + len(message.stop) > VALUES_MAX:
        raise ProtocolError("invalid_request", f"a body of more than {VALUES_MAX} values")
    body: Body = {name: getattr(message, name) for name in SCALARS if message.HasField(name)}
    for name in _DOUBLES & body.keys():
        if not isfinite(body[name]):
            raise ProtocolError("invalid_request", f"{name} is {body[name]}, which is no number in JSON")
    if message.stop:
        body["stop"] = list(message.stop)
    if message.messages:
        body["messages"] = [_read_message(item) for item in message.messages]
    _add_extra(body, message)
    return body


def _fits(value: object, kind: str) -> bool:
    if kind == "string":
        return type(value) is str
    if kind == "bool":
        return type(value) is bool
    if kind == "int64":
        return type(value) is int and value in _INT64
    return type(value) is float or (type(value) is int and abs(value) <= 2**53)


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is str for item in value)


def _plain_messages(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(
        type(item) is dict and type(item.get("role")) is str and type(item.get("content")) is str for item in value
    )


def _write_message(message: Any, item: dict[str, Any]) -> None:
    message.role = item["role"]
    message.content = item["content"]
    extra = {name: value for name, value in item.items() if name not in ("role", "content")}
    if extra:
        message.extra = JSON.encode(extra)


def _read_message(message: Any) -> dict[str, Any]:
    item = {name: getattr(message, name) for name in ("role", "content") if message.HasField(name)}
    _add_extra(item, message)
    return item


def _add_extra(body: dict[str, Any], message: Any) -> None:
    if not message.HasField("extra"):
        return
    extra = JSON.decode(message.extra)
    twice = body.keys() & extra.keys()
    if twice:
        raise ProtocolError("invalid_request", f"the body has {sorted(twice)[0]!r} twice: as a field and in extra")
    body.update(extra)


def _body_class() -> Any:
    """The class of `Body`, out of the tables."""
    file = descriptor_pb2.FileDescriptorProto(name="mcp.proto", package=PACKAGE, syntax="proto3")
    item = file.message_type.add(name="Message")
    for name, number, kind in (("role", 1, "string"), ("content", 2, "string"), ("extra", EXTRA_NUMBER, "bytes")):
        _add_optional(item, name, number, kind)
    body = file.message_type.add(name="Body")
    for name, (number, kind) in SCALARS.items():
        _add_optional(body, name, number, kind)
    _add_optional(body, "extra", EXTRA_NUMBER, "bytes")
    repeated = _Types.LABEL_REPEATED
    body.field.add(name="stop", number=STOP_NUMBER, label=repeated, type=_Types.TYPE_STRING)
    message = f".{PACKAGE}.Message"
    body.field.add(name="messages", number=MESSAGES_NUMBER, label=repeated, type=_Types.TYPE_MESSAGE, type_name=message)
    pool = descriptor_pool.DescriptorPool()  # of our own: whoever has compiled mcp.proto keeps theirs
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Body"))


def _add_optional(message: Any, name: str, number: int, kind: str) -> None:
    message.field.add(
        name=name,
        number=number,
        label=_Types.LABEL_OPTIONAL,
        type=_WIRE_TYPES[kind],
        proto3_optional=True,
        oneof_index=len(message.oneof_decl),
    )
    message.oneof_decl.add(name=f"_{name}")


_BODY: Final = _body_class()
