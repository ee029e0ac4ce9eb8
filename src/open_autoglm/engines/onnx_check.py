"""Reads what an ONNX file refers to, before a library sees it: other files, and operators from elsewhere.

Invariant: a file that passes is well-formed down to its tensors, nests no deeper than `DEPTH_MAX`, names no file at all
and uses the operators of ONNX and of ONNX Runtime only. Bytes of tensors are passed over, so that the check takes
milliseconds. Source: onnx.proto3 of the ONNX project (field numbers), Protocol Buffers' wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

DEPTH_MAX: Final = 16
FIELDS_MAX: Final = 4_000_000
DOMAINS: Final = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "pkg.onnxscript.torch_lib.common"))
"""Of operators: ONNX's own, ONNX Runtime's own, and the functions that PyTorch's exporter writes into the file."""

_LOOKED_BYTES: Final = 8 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL: Final = 1  # TensorProto.DataLocation
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 8: "opset", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
"""Messages that can lead to a tensor or an operator: field number -> message."""
_TYPE_FIELD, _FLOATS_FIELD, _RAW_FIELD, _DOUBLES_FIELD = 2, 4, 9, 10
_FLOATS: Final[dict[int, str]] = {1: "<f4", 10: "<f2", 11: "<f8"}
"""TensorProto.DataType -> numbers that may be none."""
_DOMAIN_FIELD: Final = {"node": 7, "opset": 1, "function": 10}
_EXTERNAL_DATA_FIELD: Final = 13
_LOCATION_FIELD: Final = 14


class NotANumber(ValueError):
    """A weight is NaN."""


def check_onnx(data: bytes) -> None:
    """Raise unless a file stands alone; see the module.

    Args:
        data: the whole file.

    Raises:
        ValueError: what is wrong with it.
    """
    _Walk(memoryview(data)).message("model", 0, len(data), 0)


def check_numbers(data: bytes) -> None:
    """Raise unless every weight is a number; infinite ones are let pass, since masks are written with them.

    Args:
        data: a file that `check_onnx` let pass.

    Raises:
        NotANumber: a tensor holds a NaN.
        ValueError: `check_onnx` was not asked.
    """
    _Walk(memoryview(data), numbers=True).message("model", 0, len(data), 0)


class _Walk:
    """One pass over a file; `left` bounds the work, and with `numbers` tensors are looked into."""

    __slots__ = ("data", "left", "numbers", "seen_graph")

    def __init__(self, data: memoryview, *, numbers: bool = False) -> None:
        self.data = data
        self.numbers = numbers
        self.left = FIELDS_MAX
        self.seen_graph = False

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Check one message and all in it."""
        if depth > DEPTH_MAX:
            raise ValueError(f"nests deeper than {DEPTH_MAX}")
        inner, domain_field = _MESSAGES[kind], _DOMAIN_FIELD.get(kind)
        for field, wire, value, at in self.fields(start, end):
            message = inner.get(field)
            if message is not None:
                if wire != _BYTES:
                    raise ValueError(f"has a {message} that is none")
                self.message(message, at, at + value, depth + 1)
            elif field == domain_field and wire == _BYTES:
                self.domain(at, value)
            elif kind == "tensor" and (
                field == _EXTERNAL_DATA_FIELD or (field == _LOCATION_FIELD and value == _EXTERNAL)
            ):
                raise ValueError("keeps tensors in other files; export it with its weights inside")
        if kind == "tensor" and self.numbers:
            self.tensor(start, end)
        self.seen_graph |= kind == "graph"
        if kind == "model" and not self.seen_graph:
            raise ValueError("holds no graph")

    def tensor(self, start: int, end: int) -> None:
        """Look for weights that are no numbers."""
        fields = list(self.fields(start, end))
        kind = next((value for field, wire, value, _ in fields if (field, wire) == (_TYPE_FIELD, _VARINT)), 0)
        as_told = {_RAW_FIELD: _FLOATS.get(kind), _FLOATS_FIELD: "<f4", _DOUBLES_FIELD: "<f8"}
        for field, wire, value, at in fields:
            numbers = as_told.get(field)
            if numbers is None or wire == _VARINT:
                continue
            item = np.dtype(numbers).itemsize
            size = value - value % item  # also of a number that stands alone, whose value is its size
            for place in range(at, at + size, _LOOKED_BYTES):
                part = self.data[place : min(place + _LOOKED_BYTES, at + size)]
                if np.isnan(np.frombuffer(part, numbers)).any():
                    raise NotANumber("has weights that are NaN")

    def domain(self, at: int, size: int) -> None:
        """Check whose operators are used."""
        name = bytes(self.data[at : at + min(size, 200)]).decode("utf-8", "replace")
        if name not in DOMAINS:
            raise ValueError(f"uses operators of {name!r}; only those of ONNX and ONNX Runtime are run")

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, value (a length for bytes) and place of each field of a message."""
        at = start
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"has more than {FIELDS_MAX} fields")
            tag, at = self.varint(at, end)
            field, wire = tag >> 3, tag & 7
            value = 0
            if wire == _VARINT:
                value, at = self.varint(at, end)
                yield field, wire, value, at
                continue
            if wire == _BYTES:
                value, at = self.varint(at, end)
            elif wire == _FIXED64:
                value = 8
            elif wire == _FIXED32:
                value = 4
            else:
                raise ValueError(f"has a field of wire type {wire} at byte {at}")
            if value > end - at:
                raise ValueError(f"ends inside the field at byte {at}")
            yield field, wire, value, at
            at += value

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number and the place after it."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise ValueError(f"ends inside a number at byte {at}")
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError(f"has a number of more than ten bytes at byte {at}")
