"""The versions of one engine: the current one, and the one before it while it is kept.

Invariant: at most two versions live. A publication is refused while requests still run on the one before the current,
so that it breaks none of them; rolling back exchanges the two references and needs no memory and no time. While the
current version has a share only, the one before takes what is left, and who gets which follows from the request's salt.

| state of a version | requests begin on it | requests run on it |
|---|---|---|
| current | yes | any number |
| sharing | yes, what the current one's share leaves | any number |
| draining | no | some, to their end or to the drain deadline |
| kept | no | none |
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from threading import Condition
from typing import Final

from open_autoglm import clock
from open_autoglm.engines.lane import Job, Lane
from open_autoglm.engines.model_engine import LiveVersion, Policy, SwapFigures, VersionState
from open_autoglm.engines.step_model import StepModel
from open_autoglm.errors import RequestError
from open_autoglm.rollout.weights import VersionWeights

PAUSES_KEPT: Final = 1024
RETRY_AFTER_S: Final = 1.0


class Versions:
    """Replaces one version by another.

    Args:
        lane: the version to begin with.
        lock: of the engine; every method takes it but `note_pause`, which the engine's thread calls.
    """

    def __init__(self, lane: Lane, lock: Condition) -> None:
        self.current = lane
        self.kept: Lane | None = None
        self._weights: VersionWeights | None = None
        self._name = lane.model.name
        self._lock = lock
        self._swaps_total = self._swaps_seen = 0
        self._pauses_s: deque[float] = deque(maxlen=PAUSES_KEPT)

    def both(self) -> tuple[Lane | None, Lane]:
        """The version before and the current one, as of one moment."""
        with self._lock:
            return self.kept, self.current

    def check(self, model: StepModel) -> None:
        """Raise unless a model can be published now.

        Raises:
            RequestError: `conflict`.
        """
        if model.name != self._name:
            raise RequestError("conflict", f"{model.name!r} is no version of {self._name!r}")
        with self._lock:
            if model.version == self.current.model.version:
                raise RequestError("conflict", f"version {model.version!r} of {self._name!r} is current already")
            if self.kept is not None and self.kept.bound:
                raise RequestError(
                    "conflict",
                    f"{self.kept.bound} requests still run on version {self.kept.model.version!r} of {self._name!r}, "
                    "and two versions live at most; publish again when they have ended",
                    retry_after_s=RETRY_AFTER_S,
                )

    def publish(self, lane: Lane, policy: Policy, drain_s: float, share: float) -> None:
        """Make another version current; see `ModelEngine.publish`."""
        with self._lock:
            self.check(lane.model)
            gone = self.kept
            self._swap(lane, policy, drain_s)
            if share < 1.0:
                self.weigh(share, drain_s)
        del gone  # freed here, in the thread that publishes and with the lock given back: the next pass need not wait

    def weigh(self, share: float, drain_s: float) -> None:
        """Give the current version a share of what begins; see `ModelEngine.weigh`."""
        with self._lock:
            kept = self.kept
            if kept is None:
                raise RequestError("conflict", f"no version of {self._name!r} but the current one is kept")
            kept.policy = "pin"
            if share >= 1.0:
                self._weights = None
                kept.drain_by_s = clock.monotonic() + drain_s
            else:
                stable, candidate = kept.model.version, self.current.model.version
                self._weights = VersionWeights(self._name, stable, candidate, share)
                kept.drain_by_s = math.inf

    def lane_of(self, job: Job) -> Lane:
        """The version that a request begins with."""
        with self._lock:
            weights, kept = self._weights, self.kept
            if weights is None or kept is None:
                return self.current
            salt = job.request.salt.encode()
            affinity = int.from_bytes(hashlib.blake2b(salt, digest_size=8).digest()) if salt else job.handle
            return self.current if weights.choose(affinity) == weights.candidate else kept

    def is_live(self, lane: Lane) -> bool:
        """Whether requests may begin on a version now; the engine's lock is held."""
        return lane is self.current or (self._weights is not None and lane is self.kept)

    def rollback(self, policy: Policy, drain_s: float) -> str:
        """Make the version before current again; see `ModelEngine.rollback`."""
        with self._lock:
            if self.kept is None:
                raise RequestError("conflict", f"no version of {self._name!r} but the current one is kept")
            self._swap(self.kept, policy, drain_s)
            return self.current.model.version

    def forget(self) -> None:
        """Free the version before, when nothing runs on it."""
        gone: Lane | None = None
        with self._lock:
            if self.kept is not None and not self.kept.bound and self._weights is None:
                gone, self.kept = self.kept, None
        del gone  # as in `publish`

    def live(self) -> tuple[LiveVersion, ...]:
        """The current version, then the one before it while it is kept."""
        with self._lock:
            current = LiveVersion(self.current.model.version, "current", self.current.bound)
            if self.kept is None:
                return (current,)
            bound = self.kept.bound
            state: VersionState = "draining" if bound else "kept"
            if self._weights is not None:
                state = "sharing"
            return current, LiveVersion(self.kept.model.version, state, bound)

    def note_pause(self, pass_ended_s: float, *, ran: bool) -> None:
        """Before a forward pass: if a swap happened since the last one, remember how long nothing was computed.

        Args:
            pass_ended_s: when the pass before ended.
            ran: whether a request waited for the next pass since then.
        """
        swaps = self._swaps_total  # not the version itself, which the engine's thread must not be the last to hold
        if swaps == self._swaps_seen:
            return
        self._swaps_seen = swaps
        if ran:
            self._pauses_s.append(clock.monotonic() - pass_ended_s)

    def figures(self) -> SwapFigures:
        """How long swaps took."""
        with self._lock:
            taken, swaps = list(self._pauses_s), self._swaps_total
        pauses = sorted(taken)
        if not pauses:
            return SwapFigures(swaps, 0, 0.0, 0.0)
        return SwapFigures(swaps, len(pauses), pauses[-1], pauses[math.ceil(0.99 * len(pauses)) - 1])

    def _swap(self, lane: Lane, policy: Policy, drain_s: float) -> None:
        before = self.current
        before.policy = policy
        before.drain_by_s = clock.monotonic() + drain_s
        self.current, self.kept = lane, before
        self._weights = None
        self._swaps_total += 1
