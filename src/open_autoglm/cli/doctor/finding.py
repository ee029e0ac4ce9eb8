"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        state: `ok`; `warn`: it works, but not as well or as safely as it could; `fail`: the server will not work.
        topic: what was looked at, as `python` or `port 8080`.
        message: what was found.
        advice: what to do; empty when there is nothing to do.
    """

    state: State
    topic: str
    message: str
    advice: str = ""


def ok(topic: str, message: str) -> Finding:
    """All is well."""
    return Finding("ok", topic, message)


def warn(topic: str, message: str, advice: str) -> Finding:
    """It works, but could be better."""
    return Finding("warn", topic, message, advice)


def fail(topic: str, message: str, advice: str) -> Finding:
    """It will not work."""
    return Finding("fail", topic, message, advice)
