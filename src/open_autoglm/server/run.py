"""Run a server until it is told to stop; see `lifecycle.py` for what signals do, `workers` for several processes."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass

from open_autoglm.config import Loaded, load_config, parse_config
from open_autoglm.server.hot_restart import HotRestart, Inherited, take_inherited
from open_autoglm.server.lifecycle import Lifecycle
from open_autoglm.server.notify import Notifier
from open_autoglm.server.options import ServeOptions, Started
from open_autoglm.server.server import Server
from open_autoglm.server.serving_process import make_log_folder, run_on_loop, settle_memory, with_form
from open_autoglm.telemetry.logs import configure
from open_autoglm.telemetry.request_log import RequestLog


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
    make_log_folder(loaded.config.logging.file)
    if loaded.config.server.workers > 1:
        from open_autoglm.server.workers.supervisor import serve_by_workers

        return serve_by_workers(loaded, options, inherited, on_ready)
    request_log = RequestLog(loaded.config.logging)
    configure(loaded.config.logging, request_log)
    request_log.start()
    try:
        return run_on_loop(_main(loaded, options, request_log, _Door(inherited, on_ready)), options.standard_loop)
    finally:
        request_log.close()


async def _main(loaded: Loaded, options: ServeOptions, request_log: RequestLog, door: _Door) -> int:
    loop = asyncio.get_running_loop()
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
    settle_memory()
    if door.on_ready is not None:
        door.on_ready(with_form(server.describe()))
    if replaces:
        inherited.say_ready()  # whoever is replaced tells the service manager
    else:
        lifecycle.tell_ready()
    await lifecycle.run()
    await server.stop()
    return 0
