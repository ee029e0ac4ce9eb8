"""When a server that was told to stop does what: a pure machine over time and what is in flight.

| phase | begins | meanwhile |
|---|---|---|
| accepting | at the signal | `/readyz` says 503, answers carry `connection: close`, everything is still served |
| closing | `drain.accept` after the signal | listeners and idle connections are closed, unary requests finish |
| streams | no unary request is left, or `drain.unary` after the signal (what is left is refused) | streams finish |
| over | no stream is left, or `drain.stream` after the signal (what is left is cut) | flush and exit |

Connections that are asked to close from the signal on leave by themselves with their next answer; only those that
send nothing for all of `drain.accept` are closed by us, so a request rarely meets a connection that is being closed.
When another process has taken the listeners over, nothing new can come, so accepting ends with the last connection; yet
not in the first second, in which a client may still be shaking hands and is not counted.

Invariant: phases are entered in this order, each once, none is left out; one at a time, so that what was closed with
one phase is seen by the count for the next.
"""

from __future__ import annotations

from math import inf
from typing import Final, Literal, NamedTuple

from open_autoglm.config.schema import DrainSettings

Phase = Literal["accepting", "closing", "streams", "over"]

_HANDSHAKE_S: Final = 1.0
_PHASES: Final[tuple[Phase, ...]] = ("accepting", "closing", "streams", "over")


class InFlight(NamedTuple):
    """What is not finished.

    Attributes:
        unary: requests that are being read, or answered in one piece, or whose answer is not yet sent.
        streams: requests that are answered in pieces.
        connections: of clients, with a request or without.
    """

    unary: int
    streams: int
    connections: int


class Drain:
    """One stop, from the signal to the exit.

    Args:
        settings: times from the signal; each is at least as long as the one before.
        now_s: monotonic seconds of the signal.
        hurry: whether nobody needs to learn of it first: a person has pressed Ctrl-C.
        replaced: whether another process listens on the same sockets already.
    """

    __slots__ = ("_ends_s", "_index", "_replaced_s")

    def __init__(self, settings: DrainSettings, now_s: float, *, hurry: bool = False, replaced: bool = False) -> None:
        accept_s = 0.0 if hurry else settings.accept_s
        # Whoever kills the process after a time has set the last bound below it, so that one is kept.
        stream_s = max(accept_s, settings.stream_s)
        unary_s = min(max(accept_s, settings.unary_s), stream_s)
        self._ends_s = (now_s + accept_s, now_s + unary_s, now_s + stream_s)
        self._index = 0
        self._replaced_s = now_s + _HANDSHAKE_S if replaced else inf

    @property
    def replaced(self) -> bool:
        """Whether another process listens already."""
        return self._replaced_s < inf

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return _PHASES[self._index]

    @property
    def due_s(self) -> float | None:
        """When to look again at the latest, monotonic seconds; None once it is over."""
        return self._ends_s[self._index] if self._index < len(self._ends_s) else None

    def grace_ms(self, now_s: float) -> int:
        """How long streams have, milliseconds."""
        return max(0, int((self._ends_s[-1] - now_s) * 1000))

    def step(self, now_s: float, left: InFlight) -> Phase | None:
        """Enter the next phase if time or what is left allow; return it. Ask again until None comes."""
        if self._index == len(self._ends_s):
            return None
        if now_s < self._ends_s[self._index] and not self._is_done(now_s, left):
            return None
        self._index += 1
        return self.phase

    def _is_done(self, now_s: float, left: InFlight) -> bool:
        """Whether the phase has nothing to wait for but time."""
        match self.phase:
            case "accepting":
                return now_s >= self._replaced_s and not left.connections
            case "closing":
                return not left.unary
            case _:
                return not left.unary and not left.streams
