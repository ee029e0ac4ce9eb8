"""Run a server until it is told to stop.

SIGTERM and SIGINT: finish what runs (30 s at most), then exit 0; a second one: exit at once with 130. SIGHUP: reload.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from open_autoglm.config import Loaded, load_config, parse_config
from open_autoglm.config.watch import watch_file
from open_autoglm.errors import ConfigError, ServerError
from open_autoglm.server.options import ServeOptions, Started
from open_autoglm.server.server import Server
from open_autoglm.telemetry.logs import configure
from open_autoglm.telemetry.request_log import RequestLog

_log = logging.getLogger(__name__)
_GRACE_S = 30.0
_GC_THRESHOLDS = (50_000, 20, 100)
"""Requests make few cycles; looking for them often would cost more than it frees."""
_SWITCH_INTERVAL_S = 0.001
"""An engine's thread gives the event loop its turn within this time; Python's own is 5 ms."""


def serve(options: ServeOptions, on_ready: Callable[[Started], None] | None = None) -> int:
    """Serve until a signal; return an exit code.

    Args:
        options: what was typed.
        on_ready: called once both listeners are open, on the event loop: it must not block.

    Raises:
        ConfigError: the configuration is wrong.
        AutoGLMError: a port is taken, the data folder cannot be written.
    """
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
        return _run(_main(loaded, options, request_log, on_ready), options.standard_loop)
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


async def _main(
    loaded: Loaded, options: ServeOptions, request_log: RequestLog, on_ready: Callable[[Started], None] | None
) -> int:
    loop = asyncio.get_running_loop()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    server = Server(loaded, options, loop, request_log)
    stop = asyncio.Event()
    _catch_signals(loop, stop, server, request_log)
    await server.start()
    await server.start_admin()
    await server.look_around()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    if on_ready is not None:
        on_ready(server.describe())
    watcher = asyncio.ensure_future(_watch(server, stop))
    await stop.wait()
    await server.stop(_GRACE_S)
    await watcher
    return 0


def _catch_signals(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event, server: Server, request_log: RequestLog
) -> None:
    def end() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    def reload() -> None:
        request_log.reopen()
        _try_reload(server, "SIGHUP")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, reload)


async def _watch(server: Server, stop: asyncio.Event) -> None:
    """Reload when the file changes; ends with `stop`."""
    path = server.options.config_path
    if path is None:
        await stop.wait()
        return

    async def on_change() -> None:
        _try_reload(server, "file watch")

    await watch_file(path, on_change, stop)


def _try_reload(server: Server, by: str) -> None:
    if server.options.config_path is None:
        return
    try:
        server.reload(by)
    except ConfigError:
        pass  # told by the server, in log and metric; the old configuration serves on
    except Exception:  # the outermost loop of the process: a reload must never end it
        _log.exception("reload failed")
