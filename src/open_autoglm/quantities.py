"""Quantities in configuration: durations, sizes and ratios as annotated types, and their reading.

Inside the program a duration is a float of seconds and a size an int of bytes. The annotation tells the
configuration reader which notation to accept (`500ms`, `2s`, `30`; `32MiB`, `1024`) and the published
schema what to say.
"""

import re
from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0.001, le=31_622_400, extra={"quantity": "duration"})]
"""Seconds, 1 ms to 366 days: a limit of time that is zero would let nothing through.

Written `500ms`, `2s`, `5m`, `72h` or a plain number of seconds.
"""

Delay = Annotated[float, Meta(ge=0, le=31_622_400, extra={"quantity": "duration"})]
"""Seconds, 0 to 366 days, for what may also happen at once. Written as `Seconds` are."""

Bytes = Annotated[int, Meta(ge=1, le=2**50, extra={"quantity": "size"})]
"""Bytes, 1 to 1 PiB: none of the limits can be switched off.

Written `32MiB`, `64KiB`, `1GiB`, `10MB` or a plain number of bytes.
"""

Ratio = Annotated[float, Meta(ge=0, le=1)]
"""A share of a whole, 0 to 1."""

Count = Annotated[int, Meta(ge=0)]
"""A whole number, >= 0."""

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0 asks the system for a free one."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_DURATION_UNITS_S = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)?", re.IGNORECASE)
_SIZE_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_duration(text: str) -> float:
    """Read `500ms`, `2s`, `5m`, `72h`, `30` as seconds.

    Raises:
        ValueError: the text is none of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 500ms, 2s, 5m, 72h or a number of seconds")
    return float(match[1]) * _DURATION_UNITS_S[match[2]]


def parse_size(text: str) -> int:
    """Read `32MiB`, `64KiB`, `10MB`, `1024` as bytes.

    Raises:
        ValueError: the text is none of these, or beyond all measure.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 64KiB, 32MiB, 1GiB or a number of bytes")
    size = float(match[1]) * _SIZE_UNITS[(match[2] or "B").lower()]
    if size >= 2**63:
        raise ValueError(f"{text[:80]!r} is larger than anything")
    return int(size)
