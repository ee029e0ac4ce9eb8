"""What every process that serves does about itself: its loop, its memory, its log folder, its last lines."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from open_autoglm import __version__
from open_autoglm.errors import ServerError
from open_autoglm.native import current_form
from open_autoglm.server.options import Started
from open_autoglm.telemetry.request_log import RequestLog

_log = logging.getLogger(__name__)
_GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Requests make few cycles; looking for them often would cost more than it frees."""
_SWITCH_INTERVAL_S: Final = 0.001
"""An engine's thread gives the event loop its turn within this time; Python's own is 5 ms."""
_LAST_LINES_S: Final = 0.5
"""For the log, when the end is wanted at once."""
INTERRUPTED: Final = 130
"""Exit code of a process that was told twice to stop."""


def load_loop(standard_loop: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Load uvloop, unless the standard loop is asked for; None where that is used."""
    if not standard_loop:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop
    return None


def run_on_loop(main: Coroutine[Any, Any, int], standard_loop: bool) -> int:
    """Run the main coroutine of a serving process, on uvloop where there is one; return its exit code."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=load_loop(standard_loop)) as runner:
        return runner.run(main)


def settle_memory() -> None:
    """All that is there now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def make_log_folder(file: str | None) -> None:
    """Make the folder of the log file, so that no line is lost.

    Raises:
        ServerError: it cannot be made.
    """
    if file is None:
        return
    folder = Path(file).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder {str(folder)!r} of logging.file: {error.strerror}"
        raise ServerError("internal_error", message) from error


def with_form(started: Started) -> Started:
    """Say, here and in the log, how the request path runs."""
    form = current_form()
    _log.info("open-autoglm %s, %s", __version__, form.name)
    if not form.problem:
        return replace(started, form=form.name)
    _log.warning("%s", form.problem)
    return replace(started, form=form.name, warnings=[*started.warnings, form.problem])


def exit_now(request_log: RequestLog) -> NoReturn:
    """End this process within half a second, with the lines that the log still has."""
    request_log.catch_up()
    last = threading.Thread(target=request_log.flush, daemon=True)
    last.start()
    last.join(_LAST_LINES_S)
    os._exit(INTERRUPTED)
