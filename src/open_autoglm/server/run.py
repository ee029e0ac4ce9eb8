"""Run a server until it is told to stop; see `lifecycle.py` for what signals do."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_autoglm import __version__
from open_autoglm.config import Loaded, load_config, parse_config
from open_autoglm.errors import ServerError
from open_autoglm.native import current_form
from open_autoglm.server.hot_restart import HotRestart, Inherited, take_inherited
from open_autoglm.server.lifecycle import Lifecycle
from open_autoglm.server.notify import Notifier
from open_autoglm.server.options import ServeOptions, Started
from open_autoglm.server.server import Server
from open_autoglm.telemetry.logs import configure
from open_autoglm.telemetry.request_log import RequestLog

_log = logging.getLogger(__name__)
_GC_THRESHOLDS = (50_000, 20, 100)
"""Requests make few cycles; looking for them often would cost more than it frees."""
_SWITCH_INTERVAL_S = 0.001
"""An engine's thread gives the event loop its turn within this time; Python's own is 5 ms."""


@dataclass(frozen=True, slots=True)
class _Door:
    """Where requests come in: sockets that are open already, and who is told when all are."""

    inherited: Inherited
    on_ready: Callable[[Started], None] | None


def serve(options: ServeOptions, on_ready: Callable[[Started], None] | None = None) -> int:
    """Serve until a signal; return an exit code.

    Args:
        options: what was typed.
        on_ready: called once both listeners are open, on the event loop: it must not block.

    Raises:
        ConfigError: the configuration is wrong.
        AutoGLMError: a port is taken, the data folder cannot be written, a socket that was handed over is none.
    """
    inherited = take_inherited(os.environ, os.getpid())
    os.umask(0o077)
    # A core dump would hold every key and prompt.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    environ = options.environ(os.environ)
    if options.text is not None:
        loaded = parse_config(options.text, source="built in", environ=environ, trusted=True, insecure=options.insecure)
    else:
        loaded = load_config(options.config_path, environ, insecure=options.insecure)
    _make_log_folder(loaded.config.logging.file)
    request_log = RequestLog(loaded.config.logging)
    configure(loaded.config.logging, request_log)
    request_log.start()
    try:
        return _run(_main(loaded, options, request_log, _Door(inherited, on_ready)), options.standard_loop)
    finally:
        request_log.close()


def _make_log_folder(file: str | None) -> None:
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


def _run(main: Coroutine[Any, Any, int], standard_loop: bool) -> int:
    if not standard_loop:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(main)
    with asyncio.Runner() as runner:
        return runner.run(main)


def _with_form(started: Started) -> Started:
    """Say, here and in the log, how the request path runs."""
    form = current_form()
    _log.info("open-autoglm %s, %s", __version__, form.name)
    if not form.problem:
        return replace(started, form=form.name)
    _log.warning("%s", form.problem)
    return replace(started, form=form.name, warnings=[*started.warnings, form.problem])


async def _main(loaded: Loaded, options: ServeOptions, request_log: RequestLog, door: _Door) -> int:
    loop = asyncio.get_running_loop()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    server = Server(loaded, options, loop, request_log)
    lifecycle = Lifecycle(server, request_log, Notifier(os.environ, os.getpid()), HotRestart())
    lifecycle.catch_signals(loop)
    inherited = door.inherited
    replaces = inherited.ready_fd >= 0
    if not replaces:
        await server.start(inherited.data)
    await server.start_admin(inherited.admin)
    await server.look_around()
    if replaces:
        # Last, because a connection that is taken and then lost with a failing start would be a failed request.
        await server.start(inherited.data)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    if door.on_ready is not None:
        door.on_ready(_with_form(server.describe()))
    if replaces:
        inherited.say_ready()  # whoever is replaced tells the service manager
    else:
        lifecycle.tell_ready()
    await lifecycle.run()
    await server.stop()
    return 0
