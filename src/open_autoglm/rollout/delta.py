"""How a chunk of weights travels: as it is, as the difference to the version before, or as a difference in int8.

| codec | payload |
|---|---|
| `RAW` 0 | the bytes |
| `DELTA` 1 | u8 word size; zlib of the byte planes of the words' differences, zigzag: exact |
| `INT8` 2 | zlib of a float32 scale for every 128 fp16 words, then of one signed byte for each word |

Invariant: what arrives is what was announced, byte for byte. The loss of `INT8` lies in `quantise` alone, which makes
the version that can be sent in int8 and keeps what was lost for the next one (error feedback); a chunk that would not
be rebuilt exactly goes as `DELTA`, and one that would not shrink goes as `RAW`.
Source of error feedback: Seide et al., 1-bit SGD (2014).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from open_autoglm.rollout.chunks import ChunkPlan
from open_autoglm.rollout.refusal import UpdateRefused

RAW: Final = 0
DELTA: Final = 1
INT8: Final = 2

GROUP_WORDS: Final = 128
_GROUP_BYTES: Final = 2 * GROUP_WORDS
_LEVEL: Final = 6
_WORDS: Final[dict[int, tuple[Any, Any]]] = {1: ("u1", "i1"), 2: ("<u2", "<i2"), 4: ("<u4", "<i4")}

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Quantised:
    """A version that differs from its parent by int8 steps.

    Attributes:
        body: its bytes.
        scales: `(groups,)`, float32.
        steps: `(groups, 128)`, int8; the last group is filled up with zeros.
        residual: `(words,)`, float32: what the version lacks of the one that was wanted.
    """

    body: bytes
    scales: NDArray[np.float32]
    steps: NDArray[np.int8]
    residual: NDArray[np.float32]


class ChunkSource(Protocol):
    """Where a sender takes its chunks from."""

    plan: ChunkPlan

    def encoded(self, index: int) -> tuple[int, bytes]:
        """Codec and payload of a chunk."""
        ...


class BodySource:
    """Chunks of a body in memory, as small as they can be made.

    Args:
        plan: of `body`.
        body: the version to send.
        parent: the bytes of the version that the receiver has; None to send all as it is.
        word_bytes: size of most weights, 1, 2 or 4.
        quantised: of which `body` is the body, to send int8.
    """

    def __init__(
        self,
        plan: ChunkPlan,
        body: bytes,
        parent: bytes | None = None,
        *,
        word_bytes: int = 2,
        quantised: Quantised | None = None,
    ) -> None:
        self.plan = plan
        self._body = memoryview(body)
        self._parent = None if parent is None else memoryview(parent)
        self._word_bytes = word_bytes
        self._quantised = quantised

    def encoded(self, index: int) -> tuple[int, bytes]:
        """See `ChunkSource`."""
        start, end = self.plan.span(index)
        target = self._body[start:end]
        if self._parent is None:
            return RAW, bytes(target)
        parent = self._parent[start:end]
        if len(parent) != len(target):
            return RAW, bytes(target)
        best = RAW, bytes(target)
        if self._quantised is not None:
            payload = _int8_payload(self._quantised, start, end)
            if decode(INT8, payload, parent, len(target)) == target:
                best = INT8, payload
        if best[0] == RAW:
            payload = _delta_payload(target, parent, self._word_bytes)
            if len(payload) < len(best[1]):
                best = DELTA, payload
        return best


def decode(codec: int, payload: Bytes, parent: Bytes | None, size: int) -> bytes:
    """The bytes of a chunk.

    Args:
        codec: `RAW`, `DELTA` or `INT8`.
        payload: as it came.
        parent: the same chunk of the parent version, if it is here.
        size: of the chunk in bytes; nothing longer is unpacked.

    Raises:
        UpdateRefused: `chunk`, the payload is none; `parent`, it needs a parent that is not here.
    """
    if codec == RAW:
        return bytes(payload)
    if codec not in (DELTA, INT8):
        raise UpdateRefused("chunk", f"there is no codec {codec!r}")
    if parent is None or len(parent) != size:
        raise UpdateRefused("parent", "a difference came, but the version that it changes is not here")
    return _undo_delta(payload, parent, size) if codec == DELTA else _undo_int8(payload, parent, size)


def quantise(wanted: bytes, parent: bytes, residual: NDArray[np.float32] | None = None) -> Quantised:
    """Round a version of fp16 weights to int8 steps from its parent.

    Args:
        wanted: fp16 words.
        parent: as many.
        residual: what earlier rounds lost, `(words,)`; it is added before rounding.

    Raises:
        ValueError: the sizes differ, or are odd.
    """
    if len(wanted) != len(parent) or len(wanted) % 2:
        raise ValueError(f"fp16 bodies of {len(wanted)} and {len(parent)} bytes")
    words = len(wanted) // 2
    before = np.frombuffer(parent, "<f2").astype(np.float32)
    target = np.frombuffer(wanted, "<f2").astype(np.float32)
    if residual is not None:
        target = target + residual
    difference = np.zeros(-(-words // GROUP_WORDS) * GROUP_WORDS, np.float32)
    with np.errstate(invalid="ignore"):
        difference[:words] = target - before
    grouped = np.where(np.isfinite(difference), difference, 0).astype(np.float32).reshape(-1, GROUP_WORDS)
    scales = (np.abs(grouped).max(axis=1) / np.float32(127)).astype(np.float32)
    divisor = np.where(scales > 0, scales, np.float32(1))
    steps = np.clip(np.rint(grouped / divisor[:, None]), -127, 127).astype(np.int8)
    rebuilt = _stepped(before, scales, steps)
    lost = target - rebuilt.astype(np.float32)
    return Quantised(rebuilt.tobytes(), scales, steps, np.where(np.isfinite(lost), lost, 0).astype(np.float32))


def _stepped(before: NDArray[np.float32], scales: NDArray[np.float32], steps: NDArray[np.int8]) -> NDArray[np.float16]:
    """fp16 words that lie `steps` from `before`; the one place that says how int8 is undone."""
    moved = (steps.astype(np.float32) * scales[:, None]).reshape(-1)[: len(before)]
    with np.errstate(over="ignore", invalid="ignore"):
        words: NDArray[np.float16] = (before + moved).astype("<f2")
        return words


def _int8_payload(quantised: Quantised, start: int, end: int) -> bytes:
    first, last = start // _GROUP_BYTES, -(-end // _GROUP_BYTES)
    return zlib.compress(quantised.scales[first:last].tobytes() + quantised.steps[first:last].tobytes(), _LEVEL)


def _undo_int8(payload: Bytes, parent: Bytes, size: int) -> bytes:
    if size % 2:
        raise UpdateRefused("chunk", f"{size} bytes are no fp16 words")
    groups = -(-size // _GROUP_BYTES)
    data = _unpacked(payload, groups * (4 + GROUP_WORDS))
    scales = np.frombuffer(data, "<f4", groups)
    if not np.isfinite(scales).all():
        raise UpdateRefused("chunk", "a scale is not finite")
    steps = np.frombuffer(data, np.int8, groups * GROUP_WORDS, 4 * groups).reshape(groups, GROUP_WORDS)
    return _stepped(np.frombuffer(parent, "<f2").astype(np.float32), scales, steps).tobytes()


def _delta_payload(target: Bytes, parent: Bytes, word_bytes: int) -> bytes:
    """The words' differences modulo their size, small ones near zero whatever their sign, plane by plane."""
    unsigned, signed = _WORDS[word_bytes]
    whole = len(target) // word_bytes * word_bytes
    after, before = (np.frombuffer(part[:whole], unsigned) for part in (target, parent))
    difference = (after - before).view(signed)
    folded = ((difference << 1) ^ (difference >> (8 * word_bytes - 1))).view(np.uint8)
    planes = np.ascontiguousarray(folded.reshape(-1, word_bytes).T)
    tail = bytes(target[whole:])
    return bytes((word_bytes,)) + zlib.compress(planes.tobytes() + tail, _LEVEL)


def _undo_delta(payload: Bytes, parent: Bytes, size: int) -> bytes:
    word_bytes = payload[0] if len(payload) else 0
    if word_bytes not in _WORDS:
        raise UpdateRefused("chunk", f"words of {word_bytes} bytes")
    unsigned, signed = _WORDS[word_bytes]
    data = _unpacked(payload[1:], size)
    whole = size // word_bytes * word_bytes
    planes = np.frombuffer(data, np.uint8, whole).reshape(word_bytes, -1)
    folded = np.ascontiguousarray(planes.T).reshape(-1).view(unsigned)
    difference = (folded >> 1) ^ (-(folded & 1).view(signed)).view(unsigned)
    after: NDArray[Any] = np.frombuffer(parent[:whole], unsigned) + difference
    return after.tobytes() + data[whole:]


def _unpacked(payload: Bytes, size: int) -> bytes:
    """Exactly `size` bytes out of a zlib stream, and never more than that in memory."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(payload, size)
        if not inflater.eof:
            data += inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise UpdateRefused("chunk", f"the payload cannot be unpacked: {error}") from error
    if len(data) != size or not inflater.eof or inflater.unused_data:
        raise UpdateRefused("chunk", f"the payload unpacks to {len(data)} bytes or more, {size} were announced")
    return data


def word_size(dtypes: dict[str, int]) -> int:
    """Size of the words to take differences of: that of the type that holds most bytes.

    Args:
        dtypes: bytes of the body by type.
    """
    if not dtypes:
        return 1
    largest = max(dtypes, key=lambda name: dtypes[name])
    return struct.calcsize({"F32": "f", "I32": "i", "F16": "e", "BF16": "e"}.get(largest, "b"))
