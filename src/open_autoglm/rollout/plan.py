"""One rollout: a candidate takes a share of the work beside the stable version, is watched, and wins or goes.

| state | means | next |
|---|---|---|
| running | both versions serve, by weight | promoted, rolled_back |
| promoted | the candidate serves everything | rolled_back, by hand |
| rolled_back | the stable version serves everything | – |

Invariant: the candidate goes by itself only when its errors have risen, against the stable version's in the same time
and by enough requests to tell: at least `requests_min` within `window_s`, an error ratio above `ratio_max`, and above
`rise` times that of the stable version. A rollout never promotes itself unless it was told after how long.
Counts are kept in ten slices of the window, so what is older than the window is forgotten a tenth at a time.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from open_autoglm.rollout.weights import VersionWeights

State = Literal["running", "promoted", "rolled_back"]

SLICES: Final = 10
HISTORY_MAX: Final = 64


class RolloutRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a candidate goes, or wins, by itself.

    Attributes:
        window_s: how far back requests count, seconds, 1 to 86,400.
        requests_min: of the candidate within the window before it is judged, at least 1.
        ratio_max: share of its requests that may fail, 0 to 1.
        rise: how many times the stable version's error ratio it may reach, at least 1.
        promote_after_s: how long it runs without a fault until it is promoted; None to wait for a person.
    """

    window_s: float = 60.0
    requests_min: int = 20
    ratio_max: float = 0.05
    rise: float = 2.0
    promote_after_s: float | None = None

    def __post_init__(self) -> None:
        ranges = (
            ("window_s", 1.0 <= self.window_s <= 86_400.0, "1 to 86400 seconds"),
            ("requests_min", self.requests_min >= 1, "at least 1"),
            ("ratio_max", 0.0 <= self.ratio_max <= 1.0, "0 to 1"),
            ("rise", self.rise >= 1.0, "at least 1"),
            ("promote_after_s", self.promote_after_s is None or self.promote_after_s > 0.0, "more than 0 seconds"),
        )
        for name, fits, allowed in ranges:
            if not fits:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {allowed}")


class Step(msgspec.Struct, frozen=True):
    """One entry of a rollout's history."""

    at_s: float
    what: str
    why: str


class Rollout:
    """See the module.

    Args:
        model: name of the model.
        weights: stable version, candidate, and the candidate's share at first.
        rules: when it goes by itself.
        now_s: monotonic seconds.
        why: it was started.

    Raises:
        ValueError: the two versions are the same.
    """

    __slots__ = ("_counts", "_since_s", "history", "model", "rules", "state", "weights")

    def __init__(self, model: str, weights: VersionWeights, rules: RolloutRules, now_s: float, why: str = "") -> None:
        if weights.stable == weights.candidate:
            raise ValueError(f"{model!r} serves version {weights.stable!r} already")
        self.model = model
        self.rules = rules
        self.weights = weights
        self.state: State = "running"
        self.history: list[Step] = []
        self._counts = {weights.stable: _Window(rules.window_s), weights.candidate: _Window(rules.window_s)}
        self._since_s = now_s
        self._note(now_s, f"started at {weights.share:.0%}", why)

    def observe(self, version: str, requests: int, failures: int, now_s: float) -> None:
        """Count requests of a version that ended, and how many of those failed."""
        window = self._counts.get(version)
        if window is not None:
            window.add(requests, failures, now_s)

    def promote(self, now_s: float, why: str = "by hand") -> None:
        """Give the candidate everything.

        Raises:
            ValueError: it was rolled back.
        """
        if self.state == "rolled_back":
            raise ValueError(f"the rollout of {self.model!r} was rolled back; start another")
        self._end("promoted", 1.0, now_s, why)

    def rollback(self, now_s: float, why: str = "by hand") -> None:
        """Give the stable version everything; twice is once."""
        self._end("rolled_back", 0.0, now_s, why)

    def adopt(self, state: State, share: float, now_s: float, why: str) -> bool:
        """Take over what was decided, here or elsewhere; return whether it is something new."""
        if (state, share) == (self.state, self.weights.share):
            return False
        if state == "running":
            self._weigh(share)
            self.state = state
            self._since_s = now_s
            self._note(now_s, f"share {share:.0%}", why)
        else:
            self._end(state, share, now_s, why)
        return True

    def next_deadline(self) -> float | None:
        """When `handle_timeout` decides about promotion; None when it never will."""
        after_s = self.rules.promote_after_s
        return None if self.state != "running" or after_s is None else self._since_s + after_s

    def handle_timeout(self, now_s: float) -> bool:
        """Judge the candidate; to be called every second or so while it runs.

        Returns:
            Whether `state` has changed.
        """
        if self.state != "running":
            return False
        why = self.fault(now_s)
        if why:
            self.rollback(now_s, why)
            return True
        due_s = self.next_deadline()
        enough = self._counts[self.weights.candidate].total(now_s)[0] >= self.rules.requests_min
        if due_s is not None and now_s >= due_s and enough:
            self.promote(now_s, f"no fault for {self.rules.promote_after_s:g} s")
            return True
        return False

    def fault(self, now_s: float) -> str:
        """What speaks against the candidate; empty when nothing does."""
        rules = self.rules
        requests, failures = self._counts[self.weights.candidate].total(now_s)
        if requests < rules.requests_min:
            return ""
        ratio = failures / requests
        known, failed = self._counts[self.weights.stable].total(now_s)
        usual = failed / known if known >= rules.requests_min else 0.0
        if ratio <= rules.ratio_max or ratio <= rules.rise * usual:
            return ""
        return f"{failures} of {requests} requests failed ({ratio:.1%}); {usual:.1%} on the stable version"

    def counts(self, version: str, now_s: float) -> tuple[int, int]:
        """Requests of a version within the window, and how many of those failed."""
        window = self._counts.get(version)
        return window.total(now_s) if window is not None else (0, 0)

    def _end(self, state: State, share: float, now_s: float, why: str) -> None:
        if self.state == state:
            return
        self._weigh(share)
        self.state = state
        self._note(now_s, state, why)

    def _weigh(self, share: float) -> None:
        self.weights = VersionWeights(self.model, self.weights.stable, self.weights.candidate, share)

    def _note(self, now_s: float, what: str, why: str) -> None:
        self.history.append(Step(now_s, what, why))
        del self.history[:-HISTORY_MAX]


class _Window:
    """Requests and failures of the last `window_s` seconds, in ten slices."""

    __slots__ = ("_slice_s", "_slices")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._slices: dict[int, tuple[int, int]] = {}

    def add(self, requests: int, failures: int, now_s: float) -> None:
        index = self._forget(now_s)
        before = self._slices.get(index, (0, 0))
        self._slices[index] = before[0] + requests, before[1] + failures

    def total(self, now_s: float) -> tuple[int, int]:
        self._forget(now_s)
        return sum(part[0] for part in self._slices.values()), sum(part[1] for part in self._slices.values())

    def _forget(self, now_s: float) -> int:
        index = int(now_s // self._slice_s)
        for old in [each for each in self._slices if each <= index - SLICES]:
            del self._slices[old]
        return index
