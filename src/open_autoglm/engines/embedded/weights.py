"""Strict reader of safetensors files, and nothing else.

Invariant: a file is either exactly what its manifest's SHA-256 says and wholly accounted for by its header
(tensors back to back, no gap, no overlap, no rest), or it is refused; nothing in it is ever executed.
The header is read by `rollout.layout`, as that of a version on its way is.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from open_autoglm.errors import ServerError
from open_autoglm.rollout.layout import read_header
from open_autoglm.rollout.refusal import UpdateRefused

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
    try:
        places, body_at = read_header(data, len(data))
    except UpdateRefused as error:
        raise ValueError(error.message) from error
    body = memoryview(data)[body_at:]
    tensors: dict[str, Array] = {}
    for place in places:
        if place.dtype not in _DTYPES:
            raise ValueError(f"has {place.name!r} of type {place.dtype!r}; only F16 and F32 are read")
        if not 1 <= len(place.shape) <= DIMENSIONS_MAX:
            raise ValueError(f"has {place.name!r} of shape {place.shape!r}")
        raw = np.frombuffer(body[place.start : place.end], dtype=_DTYPES[place.dtype])
        tensors[place.name] = raw.astype(np.float32).reshape(place.shape)
    return tensors


def _refused(path: Path, reason: str) -> ServerError:
    return ServerError("internal_error", f"weights file {str(path)!r} {reason}")
