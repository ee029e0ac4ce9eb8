"""What routing asks of the thing that guards an endpoint. The circuit breaker is one; routing knows no other detail."""

from typing import Protocol


class Gate(Protocol):
    """Lets calls to an endpoint in, and hears how they ended. `now_s` is monotonic seconds."""

    @property
    def healthy(self) -> bool:
        """True means: lets everything in at full weight, so there is nothing more to ask. Read on every request."""

    @property
    def state(self) -> str:
        """Among others `open` (refuses, but a lone trial may be asked for) and `forced_open` (by an operator)."""

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
