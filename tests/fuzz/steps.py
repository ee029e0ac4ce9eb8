"""Which steps from line to line of our own code an input takes; slow, so only some inputs are looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_OURS = "/open_autoglm/"

Step = tuple[CodeType, int, int]


class StepRecorder:
    """Records steps while a function runs.

    Attributes:
        seen: all steps so far.
    """

    def __init__(self) -> None:
        self.seen: set[Step] = set()
        self._new: set[Step] = set()
        self._ours: dict[CodeType, bool] = {}

    def run(self, function: Callable[[bytes], None], data: bytes) -> set[Step]:
        """Call a function with an input and return the steps that were never taken before."""
        self._new = set()
        sys.settrace(self._enter)
        try:
            function(data)
        finally:
            sys.settrace(None)
        self._new -= self.seen
        self.seen |= self._new
        return self._new

    @property
    def lines(self) -> int:
        """How many lines were reached."""
        return len({(code, line) for code, _, line in self.seen})

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = _OURS in code.co_filename
        if not ours:
            return None
        before = 0
        new = self._new

        def step(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            nonlocal before
            if event == "line":
                new.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return step

        return step
