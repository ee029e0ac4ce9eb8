"""An engine that says what it was told, at once: for tests, and to measure what lies between a client and an engine.

There is no model and no thread: `submit` delivers the whole answer before it returns. A word counts as a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.model_engine import DRAIN_S, Deliver, EngineLoad, LiveVersion, Policy, SwapFigures
from open_autoglm.errors import RequestError, ServerError

_FINISH: Final = Finish("stop")


class EchoEngine:
    """See the module and `ModelEngine`. `publish` takes the name of a version.

    Args:
        name: of the model.
        version: to begin with.
    """

    threaded = False

    def __init__(self, name: str = "echo", version: str = "1") -> None:
        self.name = name
        self.flush: Callable[[], None] = _nothing
        self._versions = [version]
        self._closed = False
        self._tokens_total = 0
        self._requests_total = 0
        self._swaps_total = 0

    @property
    def version(self) -> str:
        """Of the current version."""
        return self._versions[0]

    def start(self) -> None:
        """See `ModelEngine`."""

    def submit(self, request: GenerateRequest, deliver: Deliver) -> int:
        """Deliver the text of the last message."""
        if self._closed:
            raise ServerError("server_draining", "the model is being stopped; send the request again")
        text = request.messages[-1].get("content") if request.messages else None
        if not isinstance(text, str):
            raise RequestError("invalid_request", "the last message holds no text", param="messages")
        words = text.count(" ") + 1
        self._tokens_total += words
        self._requests_total += 1
        events: list[GenerateEvent] = [TextDelta(text), _FINISH, Usage(words, words, self._versions[0])]
        deliver(events)
        return 0

    def cancel(self, handle: int) -> None:
        """See `ModelEngine`; there is nothing that runs."""

    def load(self) -> EngineLoad:
        """See `ModelEngine`."""
        return EngineLoad(0, 0, 1, self._tokens_total, self._requests_total, 0)

    def publish(self, model: Any, policy: Policy = "pin", drain_s: float = DRAIN_S, share: float = 1.0) -> None:
        """See `ModelEngine`."""
        version = str(model)
        if version == self.version:
            raise RequestError("conflict", f"version {version!r} of {self.name!r} is current already")
        self._versions = [version, self.version]
        self._swaps_total += 1

    def weigh(self, share: float, drain_s: float = DRAIN_S) -> None:
        """See `ModelEngine`; every version says the same."""

    def rollback(self, policy: Policy = "pin", drain_s: float = DRAIN_S) -> str:
        """See `ModelEngine`."""
        if len(self._versions) == 1:
            raise RequestError("conflict", f"no version of {self.name!r} but the current one is kept")
        self._versions = self._versions[::-1]
        self._swaps_total += 1
        return self.version

    def forget(self) -> None:
        """See `ModelEngine`."""
        del self._versions[1:]

    def versions(self) -> tuple[LiveVersion, ...]:
        """See `ModelEngine`."""
        return tuple(
            LiveVersion(version, "kept" if place else "current", 0) for place, version in enumerate(self._versions)
        )

    def swap_figures(self) -> SwapFigures:
        """See `ModelEngine`."""
        return SwapFigures(self._swaps_total, 0, 0.0, 0.0)

    def close(self) -> None:
        """See `ModelEngine`."""
        self._closed = True


def _nothing() -> None:
    """Nobody waits for the end of a pass."""
