"""One of several serving processes, from its fork to its end.

| state | Stop | HandOver | Reload | Adopt | EndNow |
|---|---|---|---|---|---|
| serving | leaving | leaving | opens the log anew; the leader reads the file again | another configuration | exit 130 |
| leaving | nothing | nothing | opens the log anew | nothing | exit 130 |

SIGTERM to a worker is a Stop: it finishes what is begun and ends, and the supervisor starts it anew. Other signals are
the supervisor's, and a terminal's or service manager's copy of them does nothing here: whoever drains must not be told
twice. A worker without a supervisor finishes what is begun, too.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from open_autoglm.config import Loaded, Revisions
from open_autoglm.config.watch import watch_file
from open_autoglm.errors import AutoGLMError, ConfigError
from open_autoglm.server.admin_app import build as build_admin  # noqa: F401 - loaded here, shared by all workers
from open_autoglm.server.admin_listener import open_listener  # noqa: F401 - the same
from open_autoglm.server.control import Control
from open_autoglm.server.options import Place, ServeOptions
from open_autoglm.server.server import Server
from open_autoglm.server.serving_process import exit_now, run_on_loop, settle_memory, with_form
from open_autoglm.server.workers.channel import Channel
from open_autoglm.server.workers.control import ANSWERED, Questions, WorkersControl
from open_autoglm.server.workers.messages import (
    Adopt,
    Alive,
    Answer,
    Applied,
    Ask,
    Asked,
    EndNow,
    HandOver,
    Message,
    Ready,
    Reload,
    Reloaded,
    Stop,
)
from open_autoglm.telemetry.logs import configure
from open_autoglm.telemetry.request_log import RequestLog

_log = logging.getLogger(__name__)
_NOT_OURS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Birth:
    """What a worker is born with.

    Attributes:
        place: among the workers.
        loaded: the configuration that is active.
        revisions: that the server has had; the newest is `loaded`.
        options: what was typed.
        data, admin: listening sockets; `admin` of the leader only.
        line: this end of the socket pair to the supervisor.
        beat_s: how often the supervisor wants to hear that the loop turns; 0 for never.
        mask: of signals, from before the fork; until it is set again none arrives.
    """

    place: Place
    loaded: Loaded
    revisions: Revisions
    options: ServeOptions
    data: list[socket.socket]
    admin: list[socket.socket]
    line: socket.socket
    beat_s: float
    mask: set[signal.Signals]


def run_worker(birth: Birth) -> int:
    """Serve until told to stop; return an exit code.

    Raises:
        ConfigError: something that the configuration names cannot be made.
        AutoGLMError: a file or an address cannot be had.
    """
    settings = birth.loaded.config.logging
    request_log = RequestLog(settings)
    configure(settings, request_log)
    request_log.start()
    try:
        return run_on_loop(_main(birth, request_log), birth.options.standard_loop)
    finally:
        request_log.close()


async def _main(birth: Birth, request_log: RequestLog) -> int:
    loop = asyncio.get_running_loop()
    server = Server(birth.loaded, birth.options, loop, request_log, place=birth.place, revisions=birth.revisions)
    life = WorkerLife(server, request_log, birth, loop)
    signal.pthread_sigmask(signal.SIG_SETMASK, birth.mask)
    if birth.admin:
        await server.start_admin(birth.admin, WorkersControl(server, life.questions))
    await server.look_around()
    # Last, because a connection that is taken and then lost with a failing start would be a failed request.
    await server.start(birth.data)
    settle_memory()
    life.tell_ready()
    await life.run()
    await server.stop()
    return 0


class WorkerLife:
    """See the module.

    Args:
        server: built; it may start after this.
        request_log: opened anew and flushed when told so.
        birth: of this worker.
        loop: where it runs.

    Attributes:
        questions: to the other workers.
    """

    def __init__(self, server: Server, request_log: RequestLog, birth: Birth, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._request_log = request_log
        self._loop = loop
        self._leads = birth.place.index == 0
        self._beat_s = birth.beat_s
        self._control = Control(server)
        self._hurry = self._replaced = False
        self._leaving = asyncio.Event()
        self._channel = Channel(birth.line, loop, self._on_message, self._on_orphaned)
        self.questions = Questions(self._channel.send, birth.place.index)
        for number in _NOT_OURS:
            signal.signal(number, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        if self._leads:
            server.on_applied = lambda loaded, by: self._channel.send(Applied(loaded, by))

    def tell_ready(self) -> None:
        """Tell the supervisor that requests are taken."""
        self._channel.send(Ready(with_form(self._server.describe())))
        self._beat()

    async def run(self) -> None:
        """Serve until told to leave; then finish what is begun."""
        path = self._server.options.config_path
        if self._leads and path is not None:

            async def on_change() -> None:
                self._try(lambda: self._server.reload("file watch"))

            await watch_file(path, on_change, self._leaving)
        await self._leaving.wait()
        if self._replaced:
            self._server.hand_over()
        await self._server.drain(hurry=self._hurry, replaced=self._replaced)

    def _leave(self) -> None:
        self._leaving.set()

    def _on_orphaned(self) -> None:
        _log.error("the supervisor is gone: this worker finishes what is begun")
        self._leave()

    def _on_message(self, message: Message) -> None:
        match message:
            case Stop(hurry):
                self._hurry = hurry
                self._leave()
            case HandOver():
                self._replaced = not self._leaving.is_set()
                self._leave()
            case EndNow():
                exit_now(self._request_log)
            case Reload(by):
                self._request_log.reopen()
                if self._leads and not self._leaving.is_set():
                    if self._server.options.config_path is not None:
                        self._try(lambda: self._server.reload(by))
                    self._channel.send(Reloaded())
            case Adopt(loaded, by):
                self._try(lambda: self._server.apply(loaded, by))
            case Ask(number, method, arguments):
                self._channel.send(Answer(number, self.questions.index, self._answer(method, arguments)))
            case Asked(number, count):
                self.questions.asked(number, count)
            case Answer():
                self.questions.take(message)

    def _answer(self, method: str, arguments: tuple[object, ...]) -> object:
        if method not in ANSWERED:
            return None
        try:
            return getattr(self._control, method)(*arguments)
        except AutoGLMError:
            return None  # the leader tells its own
        except Exception:  # a question must never end a worker
            _log.exception("the question %s could not be answered", method)
            return None

    def _try(self, apply: Callable[[], object]) -> None:
        try:
            apply()
        except ConfigError:
            pass  # told by the server, in log and metric; the old configuration serves on
        except Exception:  # a reload must never end a worker
            _log.exception("reload failed")

    def _beat(self) -> None:
        if self._beat_s:
            self._channel.send(Alive())
            self._loop.call_later(self._beat_s, self._beat)
