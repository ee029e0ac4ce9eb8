"""What the machine asks of its driver."""

from __future__ import annotations

from typing import NamedTuple

from open_autoglm.membership.member import Member, Record, State


class Send(NamedTuple):
    """Send a message to `HOST:PORT`, sealed, as one datagram; it may be lost."""

    to: str
    message: bytes


class Sync(NamedTuple):
    """Exchange full states with `HOST:PORT`; give what came to `Swim.merge`, or nothing when it failed."""

    to: str


class Changed(NamedTuple):
    """A member came, changed its state, or said something new of itself; `former` is its state before, None if new."""

    member: Member
    former: State | None


class Loaded(NamedTuple):
    """A member's load is another one."""

    member: Member


class Forgotten(NamedTuple):
    """A member that was dead or had left is not shown any more."""

    member: Member


class Displaced(NamedTuple):
    """Another process, started later, uses this member's name from another address; this one says no more."""

    record: Record


Effect = Send | Sync | Changed | Loaded | Forgotten | Displaced
