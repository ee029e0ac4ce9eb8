"""How long to wait before a group is tried again, and what servers and clients tell each other about it.

Full jitter as in the AWS Builders' Library; `Retry-After` as in RFC 9110 10.2.3 with the three date forms of 5.6.7.
"""

import random
import re
from datetime import UTC, datetime

BASE_S = 0.1
"""Longest wait before the first pass is repeated."""
CAP_S = 2.0
"""Longest wait before any pass."""

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CENTURY = 100
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{{2}}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{{2}})-(?P<year>\d\d) {_TIME} GMT",
        rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def backoff_s(rng: random.Random, passes: int) -> float:
    """Wait before a group is used once more: uniform between nothing and a bound that doubles with each pass.

    Args:
        rng: the only source of chance.
        passes: full passes over the group so far, less one; >= 0.

    Returns:
        Seconds, 0.0 to 2.0.
    """
    # 2^30 is far above the cap already, and a float ends at 2^1023.
    return rng.uniform(0.0, min(CAP_S, BASE_S * 2.0 ** min(passes, 30)))


def pushback_s(rng: random.Random, base_s: float) -> float:
    """What `Retry-After` to tell a client, so that those refused together do not come back together: base to 2 base."""
    return base_s + rng.uniform(0.0, base_s)


def parse_retry_after(value: str, wall_s: float) -> float | None:
    """Read an upstream's `Retry-After`.

    Args:
        value: seconds (a fraction is understood too) or an HTTP date.
        wall_s: seconds since 1970 UTC now, for dates.

    Returns:
        Seconds >= 0.0, 0.0 for a date that has passed; None when it is negative or not understood: do not retry.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    at_s = _parse_date(value, wall_s)
    return None if at_s is None else max(at_s - wall_s, 0.0)


def _parse_date(value: str, wall_s: float) -> float | None:
    match = next(filter(None, (pattern.fullmatch(value) for pattern in _DATES)), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        # Two digits mean the year with these digits that is at most 50 years ahead.
        this_year = datetime.fromtimestamp(wall_s, UTC).year
        year += this_year - this_year % _CENTURY
        year -= _CENTURY if year > this_year + _CENTURY // 2 else 0
    try:
        date = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            # A leap second is the second before it: datetime knows none.
            59 if match["second"] == "60" else int(match["second"]),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return date.timestamp()
