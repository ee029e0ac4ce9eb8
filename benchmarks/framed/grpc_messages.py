"""Messages of the gRPC sides: as small as protobuf makes them, built from their fields without a compiler."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD: Final = "/autoglm.bench.Model/Infer"
_TEXT: Final = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_NUMBER: Final = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_DOUBLE: Final = descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE
_MESSAGES: Final = {
    "Ask": {"model": _TEXT, "prompt": _TEXT, "max_tokens": _NUMBER, "temperature": _DOUBLE},
    "Told": {
        "text": _TEXT,
        "model": _TEXT,
        "version": _TEXT,
        "finish_reason": _TEXT,
        "prompt_tokens": _NUMBER,
        "completion_tokens": _NUMBER,
    },
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="autoglm.bench", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            message.field.add(name=field, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"autoglm.bench.{name}")) for name in _MESSAGES
    }


_classes = _build()
Ask: Final = _classes["Ask"]
"""A request."""
Told: Final = _classes["Told"]
"""An answer."""
