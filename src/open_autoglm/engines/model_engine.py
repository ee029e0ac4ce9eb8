"""What every engine offers to those who serve its model: a node, the server's own process, a benchmark.

| policy of a publication | a request that runs on the version before |
|---|---|
| `pin` | goes on with it to its end, or to the drain deadline |
| `follow` | goes on with the new version from the next token; what was said is read again by the new version |
| `restart` | is computed anew when none of it was told yet, else ends as with `abort` |
| `abort` | ends at once with an error that may be retried |

Requests that wait begin with the version that is current when they get a slot, under every policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from open_autoglm.engines.events import GenerateEvent, GenerateRequest

Policy = Literal["pin", "follow", "restart", "abort"]
VersionState = Literal["current", "sharing", "draining", "kept"]
Deliver = Callable[[list[GenerateEvent]], None]

DRAIN_S = 30.0


class EngineLoad(Struct, frozen=True):
    """Figures of an engine.

    Attributes:
        queued: requests that wait for a slot.
        running: requests that hold one.
        slots: how many can.
        tokens_total: tokens written since the start.
        passes_total: forward passes since the start.
        failures_total: passes that failed, and deliveries that raised.
        memory_bytes: reserved for what runs, and kept of finished prompts.
        memory_max: bound of that; 0 for none.
        prefix_hits_total: requests that began with a prefix that was kept.
    """

    queued: int
    running: int
    slots: int
    tokens_total: int
    passes_total: int
    failures_total: int
    memory_bytes: int = 0
    memory_max: int = 0
    prefix_hits_total: int = 0


class LiveVersion(Struct, frozen=True):
    """One version that an engine holds; `running` requests are pinned to it."""

    version: str
    state: VersionState
    running: int


class SwapFigures(Struct, frozen=True):
    """How long publications held up what ran: seconds between two forward passes, the swap between them.

    Attributes:
        swaps_total: publications and rollbacks since the start.
        measured: those of the last 1,024 that happened while something ran.
        pause_max_s, pause_p99_s: over those.
    """

    swaps_total: int
    measured: int
    pause_max_s: float
    pause_p99_s: float


class ModelEngine(Protocol):
    """One model, in one version or two. Every method is thread safe and none waits, but `close`.

    Attributes:
        name: of the model.
        version: of the current version.
        threaded: whether `deliver` is called in a thread of the engine's own; else before `submit` returns.
        flush: called in the engine's thread after each pass that delivered something; set it before `start`.
    """

    threaded: bool
    flush: Callable[[], None]

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def start(self) -> None:
        """Begin to take requests; once."""

    def submit(self, request: GenerateRequest, deliver: Deliver) -> int:
        """Take a request and return its handle, for `cancel`.

        `deliver` is called in the engine's thread (or before `submit` returns) with the next events, at most once
        per forward pass; it must not block.

        Raises:
            RequestError: the request cannot be served by this model.
            ServerError: `overloaded` when the queue is full, `server_draining` after `close`.
        """

    def cancel(self, handle: int) -> None:
        """Drop a request; no event follows, but one may be on its way. Twice is once."""

    def load(self) -> EngineLoad:
        """Figures of this moment."""

    def publish(self, model: Any, policy: Policy = "pin", drain_s: float = DRAIN_S, share: float = 1.0) -> None:
        """Make another version current from the next forward pass on.

        The version before is kept, for `rollback`. What still runs on it may do so for `drain_s` seconds, and is then
        aborted with `stream_interrupted`, which may be retried.

        Args:
            model: what the engine runs: a `StepModel` for `Engine`. Memory for its cache is taken before the swap.
            policy: what becomes of the requests that run; see the module.
            drain_s: how long those of `pin` may take, above 0.
            share: of what begins that the new version gets, 0 to 1; below 1 the version before takes the rest.

        Raises:
            RequestError: `conflict`: it has another name, is the current version, or the version before the current
                one still drains (two versions live at most; try again when it has drained).
            ServerError: `server_draining` after `close`.
        """

    def weigh(self, share: float, drain_s: float = DRAIN_S) -> None:
        """Give the current version another share; 1 ends the sharing, and the version before drains.

        Requests with the same salt get the same version as long as the share stays, or grows towards it.

        Raises:
            RequestError: `conflict`: no version but the current one is kept.
            ValueError: the share is not 0 to 1.
        """

    def rollback(self, policy: Policy = "pin", drain_s: float = DRAIN_S) -> str:
        """Make the version before current again; return it. Takes no longer than `publish`'s swap.

        Raises:
            RequestError: `conflict`: none is kept.
        """

    def forget(self) -> None:
        """Free the version that is kept, when nothing runs on it."""

    def versions(self) -> tuple[LiveVersion, ...]:
        """The current version, then the one before it while it is kept."""

    def swap_figures(self) -> SwapFigures:
        """How long swaps took."""

    def close(self) -> None:
        """Fail what is left with `server_draining`, and end; waits 5 s at most.

        Raises:
            ServerError: `internal_error`, when the engine's thread does not end.
        """
