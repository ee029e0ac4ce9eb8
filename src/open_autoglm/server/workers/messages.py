"""What the supervisor and its workers say to each other.

Both are the same program, of the same start, on the two ends of a socket pair that nobody else holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_autoglm.config import Loaded
from open_autoglm.server.options import Started

# To a worker.


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what is begun, then end; `hurry` when nobody needs to learn of it first."""

    hurry: bool


@dataclass(frozen=True, slots=True)
class EndNow:
    """End at once."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Other workers serve on the same sockets: finish what is begun, then end."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Open the log anew; the leader reads the configuration again, for `by`."""

    by: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make the active one what the leader has made so."""

    loaded: Loaded
    by: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The question of a number has gone to so many others."""

    number: int
    count: int


# To the supervisor.


@dataclass(frozen=True, slots=True)
class Ready:
    """This worker takes requests."""

    started: Started


@dataclass(frozen=True, slots=True)
class Alive:
    """The event loop turns."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The leader is done with `Reload`, however it went."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The leader has made another configuration the active one."""

    loaded: Loaded
    by: str


# Through the supervisor.


@dataclass(frozen=True, slots=True)
class Ask:
    """The leader asks all others.

    Attributes:
        number: of the question.
        method: of `control.ANSWERED`.
        arguments: of the method.
    """

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker answers; `value` is None when it could not.

    Attributes:
        number: of the question.
        worker: index of who answers.
        value: what the method returned.
    """

    number: int
    worker: int
    value: Any


Message = Stop | EndNow | HandOver | Reload | Adopt | Asked | Ready | Alive | Reloaded | Applied | Ask | Answer
