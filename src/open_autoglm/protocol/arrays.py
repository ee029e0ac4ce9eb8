"""Tensors as arrays: payloads of TENSOR frames, read and written with numpy; elements are copied only where they must.

Apart from `preambles`, so that who sends no tensors need not load numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_autoglm.errors import RequestError
from open_autoglm.protocol.preambles import read_tensor, write_tensor

Tensors = dict[str, NDArray[Any]]


def read_array(payload: bytes) -> tuple[str, NDArray[Any]]:
    """Name and elements of a TENSOR frame: the same memory, unless they lie where they cannot be computed with.

    Args:
        payload: of the frame. Where its elements begin at a multiple of their size, nothing is copied.

    Raises:
        ProtocolError: `invalid_request`: it cannot be read.
        RequestError: `invalid_request`: elements of type bfloat16, for which numpy has no type.
    """
    head = read_tensor(payload)
    if head.dtype == "bfloat16":
        raise RequestError("invalid_request", f"tensor {head.name!r:.80} is of bfloat16, which is not taken here")
    kind = np.dtype(head.dtype).newbyteorder("<")
    elements = np.frombuffer(payload, kind, offset=head.body_at).reshape(head.shape)
    return head.name, np.require(elements, requirements=["A", "C"])


def write_array(name: str, array: NDArray[Any]) -> bytes:
    """Payload of a TENSOR frame.

    Args:
        name: at most 255 bytes of UTF-8.
        array: of at most 8 dimensions, of a type that `preambles.DTYPES` has.

    Raises:
        ProtocolError: `invalid_request`: no such tensor can be sent.
    """
    head = write_tensor(name, array.dtype.name, array.shape)
    body = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).view(np.uint8)
    return b"".join((head, body.data))
