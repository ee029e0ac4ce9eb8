"""What signals do to a running server, and what the service manager hears of it.

| state | SIGTERM, SIGINT | SIGHUP | SIGUSR2 |
|---|---|---|---|
| serving | stopping; SIGINT does not wait for balancers | reload, open the log anew | restarting |
| restarting | the new process is stopped; stopping | the same | nothing |
| stopping | exit at once, code 130 | open the log anew | nothing |
| replaced | nothing, it is leaving; the second: exit at once | open the log anew | nothing |

Invariant: whatever happens to a new process, this one serves until another says that it does, or until it is told to
stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Literal

from open_autoglm.config.watch import watch_file
from open_autoglm.errors import ConfigError
from open_autoglm.server.hot_restart import HotRestart
from open_autoglm.server.notify import Notifier
from open_autoglm.server.server import Server
from open_autoglm.server.serving_process import exit_now
from open_autoglm.telemetry.request_log import RequestLog

_log = logging.getLogger(__name__)

State = Literal["serving", "restarting", "stopping", "replaced"]


class Lifecycle:
    """See the module.

    Args:
        server: built; it may start after the signals are caught.
        request_log: opened anew and flushed by signals.
        notifier: told of each change.
        restart: how a new process is made.
    """

    def __init__(self, server: Server, request_log: RequestLog, notifier: Notifier, restart: HotRestart) -> None:
        self.state: State = "serving"
        self._server = server
        self._request_log = request_log
        self._notifier = notifier
        self._restart = restart
        self._hurry = False
        self._told_to_leave = False
        self._woken = asyncio.Event()
        self._leaving = asyncio.Event()
        self._watchdog: asyncio.TimerHandle | None = None

    def catch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on signals act as the table says; one that comes before `run` is remembered."""
        loop.add_signal_handler(signal.SIGTERM, self.end, False)
        loop.add_signal_handler(signal.SIGINT, self.end, True)
        loop.add_signal_handler(signal.SIGHUP, self.reload, "SIGHUP")
        loop.add_signal_handler(signal.SIGUSR2, self.restart)

    async def run(self) -> None:
        """Serve until a signal, or until another process has taken over; then finish what is begun."""
        self._feed_watchdog(asyncio.get_running_loop())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            while not self._leaving.is_set():
                await self._woken.wait()
                self._woken.clear()
                if self.state == "restarting":
                    await self._replace()
        await self._server.drain(hurry=self._hurry, replaced=self.state == "replaced")
        if self._watchdog is not None:
            self._watchdog.cancel()

    # What signals call.

    def end(self, hurry: bool) -> None:
        """Stop; the second time at once. `hurry` when a person waits."""
        if self.state == "stopping" or self._told_to_leave:
            exit_now(self._request_log)
        self._told_to_leave = self.state == "replaced"
        if self._told_to_leave:
            return
        self._restart.give_up()
        self.state = "stopping"
        self._hurry = hurry
        self._notifier.stopping("finishing what is begun")
        self._leaving.set()
        self._woken.set()

    def reload(self, by: str) -> None:
        """Open the log anew and read the configuration again."""
        self._request_log.reopen()
        if self.state in ("serving", "restarting"):
            self._notifier.reloading("reading the configuration")
            self._try_reload(by)
            self._notifier.ready(self._status())

    def restart(self) -> None:
        """Have a new process take over."""
        if self.state != "serving":
            _log.warning("no hot restart: this process is %s", self.state)
            return
        self.state = "restarting"
        self._woken.set()

    # Inside.

    async def _replace(self) -> None:
        self._notifier.reloading("starting a new process")
        pid = await self._restart.begin(self._server.sockets)
        if self.state != "restarting":
            return  # told to stop meanwhile
        if pid:
            self.state = "replaced"
            self._server.hand_over()
            self._notifier.replaced_by(pid, f"serving since process {os.getpid()} handed over")
            self._leaving.set()
        else:
            self.state = "serving"
            self._notifier.ready(self._status())

    async def _watch(self) -> None:
        """Reload when the file changes; ends when the server leaves."""
        path = self._server.options.config_path
        if path is None:
            await self._leaving.wait()
            return

        async def on_change() -> None:
            self._try_reload("file watch")

        await watch_file(path, on_change, self._leaving)

    def _try_reload(self, by: str) -> None:
        if self._server.options.config_path is None:
            return
        try:
            self._server.reload(by)
        except ConfigError:
            pass  # told by the server, in log and metric; the old configuration serves on
        except Exception:  # the outermost loop of the process: a reload must never end it
            _log.exception("reload failed")

    def _status(self) -> str:
        host, port = self._server.data_address
        return f"serving on {host}:{port}, configuration revision {self._server.revision.number}"

    def _feed_watchdog(self, loop: asyncio.AbstractEventLoop) -> None:
        """Twice as often as asked for. From the event loop: a loop that is stuck for good is no life."""
        if self._notifier.watchdog_s:
            self._notifier.alive()
            self._watchdog = loop.call_later(self._notifier.watchdog_s / 2, self._feed_watchdog, loop)

    def tell_ready(self) -> None:
        """Say that the server takes requests."""
        self._notifier.ready(self._status())
