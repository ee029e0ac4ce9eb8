"""How busy a member is: a report of 32 bytes, in datagrams between members and in LOAD frames of the protocol.

Layout, big-endian, 32 bytes:

| at | size | what |
|---|---|---|
| 0 | 1 | version of this layout: 1 |
| 1 | 1 | 0 |
| 2 | 2 | CPU in use, in 1/65535 of all |
| 4 | 2 | memory that is free, in 1/65535 of all; of the accelerator where there is one |
| 6 | 2 | fill of the last batches, in 1/65535 |
| 8 | 2 | slots: requests that can run at once |
| 10 | 2 | requests running |
| 12 | 4 | requests waiting |
| 16 | 4 | number of the report, growing by one or more from the member's start |
| 20 | 4 | tokens per second, 32-bit float |
| 24 | 8 | free memory, bytes |
"""

from __future__ import annotations

from math import isfinite
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from open_autoglm.membership.errors import GossipError

LOAD_BYTES: Final = 32
LOAD_VERSION: Final = 1

_LAYOUT: Final = Layout(">BBHHHHHIIfQ")
_WHOLE: Final = 65535
_COUNT_MAX: Final = 2**32 - 1
_BYTES_MAX: Final = 2**64 - 1
_RATE_MAX: Final = 2.0**99
_SHARE_STEP: Final = 0.05
_RATE_STEP: Final = 0.2
"""Less than this is noise."""


class LoadReport(Struct, frozen=True):
    """See the module.

    Attributes:
        cpu: share of the processors in use, 0.0 to 1.0.
        memory_free: share of the memory that is free, 0.0 to 1.0.
        memory_free_bytes: the same in bytes.
        batch_fill: how full the last batches were, 0.0 to 1.0.
        slots: requests that can run at once; 0 when the member runs none itself.
        running: requests that run.
        queue: requests that wait.
        tokens_per_s: made in the last second or so.
        number: of two reports of one start the higher is the newer.
    """

    cpu: float = 0.0
    memory_free: float = 1.0
    memory_free_bytes: int = 0
    batch_fill: float = 0.0
    slots: int = 0
    running: int = 0
    queue: int = 0
    tokens_per_s: float = 0.0
    number: int = 0


def is_news(former: LoadReport, load: LoadReport) -> bool:
    """Whether a report differs so much from the one before that others should hear of it."""
    return (
        (former.slots, former.running, former.queue) != (load.slots, load.running, load.queue)
        or abs(former.cpu - load.cpu) >= _SHARE_STEP
        or abs(former.memory_free - load.memory_free) >= _SHARE_STEP
        or abs(former.batch_fill - load.batch_fill) >= _SHARE_STEP
        or abs(former.tokens_per_s - load.tokens_per_s) > _RATE_STEP * former.tokens_per_s
    )


def write_load(load: LoadReport) -> bytes:
    """Return the 32 bytes of a report; figures beyond what fits are the most that does."""
    return _LAYOUT.pack(
        LOAD_VERSION,
        0,
        _share(load.cpu),
        _share(load.memory_free),
        _share(load.batch_fill),
        min(max(load.slots, 0), _WHOLE),
        min(max(load.running, 0), _WHOLE),
        min(max(load.queue, 0), _COUNT_MAX),
        min(max(load.number, 0), _COUNT_MAX),
        min(max(load.tokens_per_s, 0.0), _RATE_MAX),
        min(max(load.memory_free_bytes, 0), _BYTES_MAX),
    )


def read_load(data: bytes) -> LoadReport:
    """Read a report.

    Raises:
        GossipError: it has another length or version, or holds a rate that is no number.
    """
    if len(data) != LOAD_BYTES:
        raise GossipError(f"a load report has {LOAD_BYTES} bytes, not {len(data)}")
    version, _, cpu, memory, fill, slots, running, queue, number, rate, free = _LAYOUT.unpack(data)
    if version != LOAD_VERSION:
        raise GossipError(f"version {version} of load reports is not known here")
    if not 0.0 <= rate <= _RATE_MAX:
        raise GossipError("a load report's tokens per second are no number")
    return LoadReport(
        cpu=cpu / _WHOLE,
        memory_free=memory / _WHOLE,
        memory_free_bytes=free,
        batch_fill=fill / _WHOLE,
        slots=slots,
        running=running,
        queue=queue,
        tokens_per_s=rate,
        number=number,
    )


def _share(value: float) -> int:
    """A share as a whole number; what is no number counts as none of it."""
    return round(min(max(value, 0.0), 1.0) * _WHOLE) if isfinite(value) else 0
