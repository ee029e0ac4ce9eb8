"""What routing asks of the things that guard an endpoint: the circuit breaker is a gate, the concurrency limit a pace.

Routing knows no other detail of them.
"""

from typing import Protocol


class Gate(Protocol):
    """Lets calls to an endpoint in, and hears how they ended. `now_s` is monotonic seconds."""

    @property
    def healthy(self) -> bool:
        """True means: lets everything in at full weight, so there is nothing more to ask.

        While it is true, one permit stands for any number of calls.
        """

    @property
    def state(self) -> str:
        """Among others `open` (refuses, but a lone trial may be asked for) and `forced_open` (by an operator)."""

    @property
    def first_token_p50_s(self) -> float:
        """What its first tokens mostly take, seconds; 0.0 while unknown."""

    def permits(self, now_s: float) -> bool:
        """Whether `acquire` would give a permit now."""

    def acquire(self, now_s: float) -> int:
        """A permit > 0 to be given back by one of the three calls below, or 0 when the call is refused."""

    def acquire_trial(self, now_s: float) -> int:
        """The same for a gate that is open, when every endpoint of the group is."""

    def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
        """The call was answered, the first token after so many seconds, the longest pause of `gap_s`."""

    def failure(self, permit: int, now_s: float, slow: bool = False) -> None:
        """The call failed in a way that speaks against the endpoint."""

    def release(self, permit: int, now_s: float) -> None:
        """The call ended without saying anything about the endpoint."""

    def weight(self, now_s: float) -> float:
        """Share of its weight that the endpoint should get now, > 0 to 1."""

    def retry_at_s(self, now_s: float) -> float:
        """When a call may be let in: `now_s` or later, infinite when nobody knows."""


class Pace(Protocol):
    """Finds out how many attempts an endpoint can serve at once. `now_s` is monotonic seconds."""

    @property
    def limit(self) -> int:
        """Attempts that may run at once."""

    @property
    def due_s(self) -> float:
        """Nobody need tell of an answer that comes before."""

    def sample(self, now_s: float, first_token_s: float, stream: bool, prompt_bytes: int, in_flight: int) -> None:
        """An answer came after so long, while so many attempts ran, itself among them."""

    def drop(self, now_s: float) -> None:
        """The endpoint had too much to do."""
