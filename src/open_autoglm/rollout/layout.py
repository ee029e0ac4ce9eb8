"""The bytes of a model's weights: one order of tensors, back to back, and the safetensors header in front of them.

Invariant: the same tensors give the same bytes wherever they come from, because the order (by name) and the header
(no spaces, padded to 8 bytes) are fixed; so a file can be put together again from its manifest and its body, and one
hash names it. A file is wholly accounted for by its header (no gap, no overlap, no rest), or it is refused.
Source: the safetensors format description of Hugging Face.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Final

from open_autoglm.rollout.refusal import UpdateRefused

HEADER_BYTES_MAX: Final = 1 << 20
TENSORS_MAX: Final = 10_000
DIMENSIONS_MAX: Final = 8
BODY_BYTES_MAX: Final = 1 << 40
NAME_CHARS_MAX: Final = 256
DTYPE_BYTES: Final[dict[str, int]] = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "I32": 4, "I64": 8}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in the body.

    Attributes:
        name, dtype, shape: as in the file's header.
        start, end: bytes of the body.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Size of a tensor.

    Raises:
        UpdateRefused: `format`, the type is none that we know, or the shape is none.
    """
    if dtype not in DTYPE_BYTES:
        raise UpdateRefused("format", f"tensors of type {dtype!r} are not read; {', '.join(DTYPE_BYTES)} are")
    if len(shape) > DIMENSIONS_MAX or not all(0 <= size < BODY_BYTES_MAX for size in shape):
        raise UpdateRefused("format", f"a tensor cannot have the shape {shape!r}")
    return math.prod(shape) * DTYPE_BYTES[dtype]


def write_header(places: list[Place]) -> bytes:
    """Length and header of the safetensors file whose body holds `places`, in that order."""
    fields = {
        place.name: {"dtype": place.dtype, "shape": list(place.shape), "data_offsets": [place.start, place.end]}
        for place in places
    }
    header = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header


def read_header(data: bytes, file_bytes: int) -> tuple[list[Place], int]:
    """Tensors of a safetensors file, in the order of their bytes, and where its body begins.

    Args:
        data: the file's first bytes: all of its header, at least.
        file_bytes: size of the whole file.

    Raises:
        UpdateRefused: `format`, with what is wrong.
    """
    if len(data) < 8:
        raise UpdateRefused("format", f"{len(data)} bytes are too few for a safetensors header")
    (header_bytes,) = struct.unpack_from("<Q", data)
    if header_bytes > min(HEADER_BYTES_MAX, len(data) - 8):
        raise UpdateRefused("format", f"a header of {header_bytes!r} bytes is more than the file or the limit holds")
    try:
        header = json.loads(data[8 : 8 + header_bytes], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UpdateRefused("format", f"the safetensors header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise UpdateRefused("format", "the safetensors header is no JSON object")
    header.pop("__metadata__", None)
    if len(header) > TENSORS_MAX:
        raise UpdateRefused("format", f"{len(header)} tensors are more than {TENSORS_MAX}")
    places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: (place.start, place.end))
    body_at = 8 + header_bytes
    check_back_to_back(places, file_bytes - body_at)
    return places, body_at


def check_back_to_back(places: list[Place], body_bytes: int) -> None:
    """Refuse (`format`) tensors that leave a gap, overlap, or do not fill `body_bytes`."""
    reached = 0
    for place in places:
        if place.start != reached:
            raise UpdateRefused("format", f"there is a gap or an overlap at byte {reached} before {place.name!r}")
        reached = place.end
    if reached != body_bytes:
        raise UpdateRefused("format", f"the tensors have {reached} bytes, the body {body_bytes}")


def canonical(places: list[Place]) -> list[Place]:
    """The same tensors in the order of their names."""
    ordered, reached = [], 0
    for place in sorted(places, key=lambda place: place.name):
        size = place.end - place.start
        ordered.append(Place(place.name, place.dtype, place.shape, reached, reached + size))
        reached += size
    return ordered


def canonical_body(data: bytes) -> tuple[list[Place], bytes]:
    """Tensors and body of a whole safetensors file, in canonical order.

    Raises:
        UpdateRefused: `format`.
    """
    places, body_at = read_header(data, len(data))
    body = memoryview(data)[body_at:]
    by_name = {place.name: place for place in places}
    ordered = canonical(places)
    return ordered, b"".join(body[by_name[place.name].start : by_name[place.name].end] for place in ordered)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of the header; a name given twice would make two readers see two models."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is named twice")
    return fields


def _place(name: str, entry: object) -> Place:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UpdateRefused("format", f"{name!r} has other fields than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not 1 <= len(name) <= NAME_CHARS_MAX or not isinstance(dtype, str):
        raise UpdateRefused("format", f"a tensor is named {name[:NAME_CHARS_MAX]!r}, of type {dtype!r}")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise UpdateRefused("format", f"{name!r} has shape {shape!r} at offsets {offsets!r}")
    if offsets[1] - offsets[0] != tensor_bytes(dtype, tuple(shape)):
        raise UpdateRefused("format", f"{name!r} has offsets {offsets!r} that do not fit {dtype} {shape!r}")
    return Place(name, dtype, tuple(shape), offsets[0], offsets[1])


def _is_sizes(value: object) -> bool:
    """Whether `value` is a list of non-negative whole numbers (JSON's true and false are not)."""
    return isinstance(value, list) and all(type(part) is int and 0 <= part <= BODY_BYTES_MAX for part in value)
