"""Strict reader of safetensors files (header length, JSON header, raw data), and nothing else.

Invariant: a file is either exactly what its manifest's SHA-256 says and wholly accounted for by its header
(tensors back to back, no gap, no overlap, no rest), or it is refused; nothing in it is ever executed.
Source: the safetensors format description of Hugging Face.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from open_autoglm.errors import ServerError

HEADER_BYTES_MAX: Final = 1 << 20  # our largest header is 6 KiB; a hostile one must not be parsed for long
FILE_BYTES_MAX: Final = 64 << 20  # 30 times the largest embedded model
DIMENSIONS_MAX: Final = 4
_DTYPES: Final[dict[str, np.dtype[np.generic]]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}

Array = NDArray[np.float32]


def read_file(path: Path, bytes_max: int) -> bytes:
    """Bytes of a regular file of at most `bytes_max` bytes; symbolic links are refused.

    Raises:
        ServerError: `internal_error`, when it cannot be read, is no regular file or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, f"cannot be opened ({error.strerror}); install the package again") from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise _refused(path, f"is larger than {bytes_max} bytes")
    return data


def read_safetensors(path: Path, sha256: str) -> dict[str, Array]:
    """Tensors of a file, as float32 arrays of the caller's own.

    Args:
        path: the file.
        sha256: lowercase hexadecimal SHA-256 that the whole file must have.

    Raises:
        ServerError: `internal_error`, when the file is not exactly what the hash and the format ask for.
    """
    data = read_file(path, FILE_BYTES_MAX)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise _refused(path, f"has SHA-256 {found!r}, the manifest says {sha256!r}; install the package again")
    try:
        return parse_safetensors(data)
    except ValueError as error:
        raise _refused(path, str(error)) from error


def parse_safetensors(data: bytes) -> dict[str, Array]:
    """Tensors of a safetensors file's bytes, as float32.

    Raises:
        ValueError: what is wrong with the bytes.
    """
    if len(data) < 8:
        raise ValueError(f"has {len(data)} bytes, too few for a header")
    (header_bytes,) = struct.unpack_from("<Q", data)
    if header_bytes > min(HEADER_BYTES_MAX, len(data) - 8):
        raise ValueError(f"has a header of {header_bytes!r} bytes, more than the file or the limit holds")
    try:
        header = json.loads(data[8 : 8 + header_bytes], object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"has a header that is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError("has a header that is no JSON object")
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + header_bytes :]
    spans = sorted(((*_span(name, entry), name) for name, entry in header.items()), key=lambda span: span[:2])
    tensors: dict[str, Array] = {}
    reached = 0
    for start, end, name in spans:
        if start != reached:
            raise ValueError(f"has a gap or an overlap at byte {reached} before {name!r}")
        if end > len(body):
            raise ValueError(f"ends at byte {len(body)}, inside {name!r}")
        entry = header[name]
        raw = np.frombuffer(body[start:end], dtype=_DTYPES[entry["dtype"]])
        tensors[name] = raw.astype(np.float32).reshape(entry["shape"])
        reached = end
    if reached != len(body):
        raise ValueError(f"has {len(body) - reached} bytes after its last tensor")
    return tensors


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of the header; a name given twice would make two readers see two models."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("names a field of the header twice")
    return fields


def _span(name: str, entry: object) -> tuple[int, int]:
    """First byte and end of a tensor's data, checked against its type and shape."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"describes {name!r} with other fields than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"has {name!r} of type {dtype!r}; only F16 and F32 are read")
    if not _is_sizes(shape) or not 1 <= len(shape) <= DIMENSIONS_MAX:
        raise ValueError(f"has {name!r} of shape {shape!r}")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"has {name!r} at offsets {offsets!r}")
    if offsets[1] - offsets[0] != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise ValueError(f"has {name!r} with offsets {offsets!r} that do not fit {dtype} {shape!r}")
    return offsets[0], offsets[1]


def _is_sizes(value: object) -> bool:
    """Whether `value` is a list of non-negative integers (JSON's true and false are not)."""
    return isinstance(value, list) and all(type(part) is int and 0 <= part < 1 << 40 for part in value)


def _refused(path: Path, reason: str) -> ServerError:
    return ServerError("internal_error", f"weights file {str(path)!r} {reason}")
