"""Values that are typed, checked as they are read: argparse names the option in front of what these say."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError


def port_number(text: str) -> int:
    """Read a port, 0 to 65535.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no port; write a number from 0 to 65535")


def wait_s(text: str) -> float:
    """Read a time to wait: more than 0 and at most a day, in seconds.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if 0 < seconds <= 86_400:
        return seconds
    raise ArgumentTypeError(f"{text!r} is no time to wait; write seconds, more than 0 and at most 86400")


def count(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no count; write a whole number of at least 1")
