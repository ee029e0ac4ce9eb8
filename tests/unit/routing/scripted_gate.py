"""A gate that does as it is told."""

from math import inf


class ScriptedGate:
    """Lets in while `open_until_s` has passed; remembers what it was told.

    Attributes:
        share: what `weight` returns; below 1.0 the gate is not healthy.
        open_until_s: refuses until then.
        state: as the group sees it.
        trials: whether a lone trial is let in.
    """

    def __init__(
        self, share: float = 1.0, open_until_s: float = -inf, state: str = "closed", trials: bool = True
    ) -> None:
        self.share = share
        self.open_until_s = open_until_s
        self.state = state
        self.trials = trials
        self.told: list[tuple[str, int]] = []
        self.permit = 0

    @property
    def healthy(self) -> bool:
        return self.state == "closed" and self.share == 1.0

    @property
    def first_token_p50_s(self) -> float:
        return 0.0

    def permits(self, now_s: float) -> bool:
        return now_s >= self.open_until_s

    def acquire(self, now_s: float) -> int:
        if not self.permits(now_s):
            return 0
        self.permit += 1
        return self.permit

    def acquire_trial(self, now_s: float) -> int:
        if not self.trials:
            return 0
        self.permit += 1
        return self.permit

    def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
        self.told.append(("success", permit))

    def failure(self, permit: int, now_s: float, slow: bool = False) -> None:
        self.told.append(("failure", permit))

    def release(self, permit: int, now_s: float) -> None:
        self.told.append(("release", permit))

    def weight(self, now_s: float) -> float:
        return self.share

    def retry_at_s(self, now_s: float) -> float:
        return max(now_s, self.open_until_s)


def broken(until_s: float, trials: bool = True) -> ScriptedGate:
    """A gate that is open until then."""
    return ScriptedGate(open_until_s=until_s, state="open", trials=trials)
