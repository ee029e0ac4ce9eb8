"""The process that starts the workers of a server, starts those anew that end, and is the server for everybody else.

It serves nothing itself: it opens the sockets, forks, and waits. What signals and the service manager say to a server
they say to it, and it keeps the configuration that is active, so that a worker which is started anew has that one.

| state | SIGTERM, SIGINT | SIGHUP | SIGUSR2 | a worker ends |
|---|---|---|---|---|
| starting, serving | stopping | the leader reloads, all open the log anew | restarting | it is started anew |
| restarting | the new server is stopped; stopping | the same | nothing | the same |
| stopping | all exit at once, code 130 | all open the log anew | nothing | one less to wait for |
| replaced | nothing, it is leaving; the second: all exit at once | the same | nothing | the same |

Invariants: while it forks it has one thread and its loop has no state in the kernel (`poll`), so a child can leave the
loop behind; a worker ends no later than `drain.stream` after it was told to, and a little.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, Literal, NoReturn

from open_autoglm import clock
from open_autoglm.config import Loaded, Revisions
from open_autoglm.server.admin_key import find_admin_key
from open_autoglm.server.hot_restart import HotRestart, Inherited
from open_autoglm.server.notify import Notifier
from open_autoglm.server.options import Place, ServeOptions, Started
from open_autoglm.server.serving_process import INTERRUPTED, load_loop
from open_autoglm.server.workers.channel import Channel
from open_autoglm.server.workers.crew import FAILURES_MAX, Worker
from open_autoglm.server.workers.messages import (
    Adopt,
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
from open_autoglm.server.workers.sockets import open_admin, open_data
from open_autoglm.server.workers.worker import Birth, run_worker
from open_autoglm.telemetry.logs import configure

_log = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 10.0
"""A worker that has not ended so long after the last moment of its drain is killed."""
_LAST_WORDS_S: Final = 0.7
_SIGNALS: Final = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD))

State = Literal["starting", "serving", "restarting", "stopping", "replaced"]


def serve_by_workers(
    loaded: Loaded, options: ServeOptions, inherited: Inherited, on_ready: Callable[[Started], None] | None
) -> int:
    """Serve by several processes until a signal; return an exit code. In a worker it returns the worker's.

    Args:
        loaded: the configuration to start with.
        options: what was typed.
        inherited: sockets that are open already.
        on_ready: called once all workers are ready.

    Raises:
        AutoGLMError: a port is taken, or the data folder cannot be written.
    """
    configure(loaded.config.logging)
    load_loop(options.standard_loop)  # here, so that the workers share its memory
    supervisor = Supervisor(loaded, options, inherited, on_ready)
    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            return runner.run(supervisor.run())
    except _BornError as born:
        birth = born.birth
    return run_worker(birth)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.PollSelector())


class _BornError(Exception):
    """This process is a worker now: it leaves the supervisor's loop."""

    def __init__(self, birth: Birth) -> None:
        super().__init__()
        self.birth = birth


class Supervisor:
    """See the module and `serve_by_workers`."""

    def __init__(
        self,
        loaded: Loaded,
        options: ServeOptions,
        inherited: Inherited,
        on_ready: Callable[[Started], None] | None,
    ) -> None:
        server = loaded.config.server
        self.state: State = "starting"
        self._loaded = loaded
        self._options = options
        self._inherited = inherited
        self._on_ready = on_ready
        self._revisions = Revisions()
        self._revisions.propose(loaded, "start", clock.wall())
        self._workers = [Worker(index) for index in range(server.workers)]
        find_admin_key(server)  # made once, before all workers want it
        self._data = open_data(server, inherited.data, server.workers)
        self._admin = open_admin(server, inherited.admin)
        self._notifier = Notifier(os.environ, os.getpid())
        self._restart = HotRestart()
        self._woken = asyncio.Event()
        self._replacing: asyncio.Task[int] | None = None
        self._told_to_leave = False
        self._reloading = False
        self._code = 0
        self._ends_s = 0.0

    async def run(self) -> int:
        """Supervise until all workers have ended; return an exit code.

        Raises:
            _BornError: in a new worker.
        """
        loop = asyncio.get_running_loop()
        for number, act in (
            (signal.SIGTERM, lambda: self.end(hurry=False)),
            (signal.SIGINT, lambda: self.end(hurry=True)),
            (signal.SIGHUP, self.reload),
            (signal.SIGUSR2, self.restart),
            (signal.SIGCHLD, self._woken.set),
        ):
            loop.add_signal_handler(number, act)
        self._feed_watchdog(loop)
        gc.collect()
        gc.freeze()  # what is there now is shared by all workers as long as nobody writes to it
        while True:
            self._reap()
            if self._leaving and not any(worker.pid for worker in self._workers):
                return self._code
            if not self._leaving:
                self._start_due(loop)
            if self.state == "restarting":
                self._look_at_replacement()
            self._look_at_time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._woken.wait()
            self._woken.clear()

    @property
    def _leaving(self) -> bool:
        return self.state in ("stopping", "replaced")

    # What signals call.

    def end(self, *, hurry: bool) -> None:
        """Stop; the second time at once. `hurry` when a person waits."""
        if self.state == "stopping" or self._told_to_leave:
            self._exit_now()
        self._told_to_leave = self.state == "replaced"
        if self._told_to_leave:
            return
        self._restart.give_up()
        self._notifier.stopping("finishing what is begun")
        self._leave("stopping", Stop(hurry))

    def reload(self) -> None:
        """Have the log opened anew, and the configuration read again."""
        configure(self._loaded.config.logging)
        if not self._leaving:
            self._reloading = True
            self._notifier.reloading("reading the configuration")
        self._tell(Reload("SIGHUP"))

    def restart(self) -> None:
        """Have a new server take over."""
        if self.state != "serving":
            _log.warning("no hot restart: this server is %s", self.state)
            return
        self.state = "restarting"
        self._notifier.reloading("starting a new process")
        sockets = [("data", sock.fileno()) for sock in self._data.all()]
        sockets += [("admin", sock.fileno()) for sock in self._admin]
        self._replacing = asyncio.ensure_future(self._restart.begin(sockets))
        self._replacing.add_done_callback(lambda _: self._woken.set())

    # Workers.

    def _start_due(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = clock.monotonic()
        for worker in self._workers:
            if not worker.pid and now_s >= worker.due_s:
                try:
                    self._data.complete(worker.index)
                except OSError as error:
                    _log.error("worker %d cannot listen: %s", worker.index, error.strerror)
                    worker.due_s = now_s + _LOOK_S
                    continue
                self._start(worker, loop)

    def _start(self, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
        """Fork a worker.

        Raises:
            _BornError: in the worker.
        """
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        # A signal that the child gets before it has left this loop would be told to the parent's.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if not pid:
            raise _BornError(self._birth(worker, ours, theirs, {signal.Signals(number) for number in mask}))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        worker.pid = pid
        worker.born_s = worker.heard_s = clock.monotonic()
        worker.channel = Channel(ours, loop, lambda message: self._on_message(worker, message), self._woken.set)
        _log.info("worker %d is process %d", worker.index, pid)

    def _birth(self, worker: Worker, ours: socket.socket, theirs: socket.socket, mask: set[signal.Signals]) -> Birth:
        """What a child keeps; everything else that is the supervisor's is closed in it."""
        ours.close()
        for other in self._workers:
            if other.channel is not None:
                other.channel.close()
            if other is not worker:
                self._data.close_own(other.index)
        if worker.index:
            for sock in self._admin:
                sock.close()
        if self._inherited.ready_fd >= 0:
            os.close(self._inherited.ready_fd)
        return Birth(
            place=Place(worker.index, len(self._workers)),
            loaded=self._loaded,
            revisions=self._revisions,
            options=self._options,
            data=self._data.of(worker.index),
            admin=self._admin if not worker.index else [],
            line=theirs,
            beat_s=self._notifier.watchdog_s / 4,
            mask=mask,
        )

    def _reap(self) -> None:
        """Note which workers have ended, and what follows from it."""
        for worker in self._workers:
            if not worker.pid:
                continue
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
            if ended:
                self._on_ended(worker, os.waitstatus_to_exitcode(status))

    def _on_ended(self, worker: Worker, code: int) -> None:
        how = f"with code {code}" if code >= 0 else f"by signal {-code}"
        pid = worker.pid
        delay_s = worker.ended(clock.monotonic(), well=code == 0)
        if self._leaving:
            if code:
                self._code = self._code or 1
                _log.error("worker %d, process %d, ended %s while the server was stopping", worker.index, pid, how)
            return
        if not worker.was_ready or worker.failures >= FAILURES_MAX:
            _log.error("worker %d, process %d, ended %s: the server stops", worker.index, pid, how)
            self._code = max(1, code)
            self._notifier.stopping("a worker cannot be started")
            self._leave("stopping", Stop(hurry=False))
            return
        when = "at once" if not delay_s else f"in {delay_s:g} s"
        _log.error("worker %d, process %d, ended %s; another one is started %s", worker.index, pid, how, when)
        if delay_s:
            self._data.close_own(worker.index)

    def _on_message(self, worker: Worker, message: Message) -> None:
        worker.heard_s = clock.monotonic()
        match message:
            case Ready(started):
                worker.started, worker.was_ready = started, True
                self._look_at_start()
                if self._reloading and not worker.index and worker.channel is not None:
                    worker.channel.send(Reload("SIGHUP"))  # the leader before it has ended with that in its hands
            case Reloaded():
                self._reloading = False
                if not self._leaving:
                    self._notifier.ready(self._status())
            case Applied(loaded, by):
                self._loaded = loaded
                self._revisions.propose(loaded, by, clock.wall())
                self._tell(Adopt(loaded, by), but=worker)
            case Ask(number):
                others = [other for other in self._workers if other is not worker and other.started is not None]
                self._tell(message, but=worker, only_ready=True)
                if worker.channel is not None:
                    worker.channel.send(Asked(number, len(others)))
            case Answer():
                leader = self._workers[0]
                if leader.channel is not None:
                    leader.channel.send(message)

    def _tell(self, message: Message, *, but: Worker | None = None, only_ready: bool = False) -> None:
        for worker in self._workers:
            if worker is not but and worker.channel is not None and (worker.started is not None or not only_ready):
                worker.channel.send(message)

    # Changes of state.

    def _look_at_start(self) -> None:
        """Say so when all workers are ready for the first time."""
        leader = self._workers[0].started
        if self.state != "starting" or leader is None or any(each.started is None for each in self._workers):
            return
        self.state = "serving"
        if self._on_ready is not None:
            self._on_ready(leader)
        if self._inherited.ready_fd >= 0:
            self._inherited.say_ready()  # whoever is replaced tells the service manager
        else:
            self._notifier.ready(self._status())

    def _look_at_replacement(self) -> None:
        task = self._replacing
        if task is None or not task.done():
            return
        self._replacing = None
        pid = task.result()
        if not pid:
            self.state = "serving"
            self._notifier.ready(self._status())
            return
        self._notifier.replaced_by(pid, f"serving since process {os.getpid()} handed over")
        self._leave("replaced", HandOver())
        self._data.close()
        for sock in self._admin:
            sock.close()

    def _leave(self, state: State, message: Stop | HandOver) -> None:
        drain = self._loaded.config.drain
        self.state = state
        self._ends_s = clock.monotonic() + max(drain.accept_s, drain.stream_s) + _PATIENCE_S
        self._tell(message)
        self._woken.set()

    def _look_at_time(self) -> None:
        """Kill workers that do not end, or whose loop does not turn."""
        now_s = clock.monotonic()
        silence_s = self._notifier.watchdog_s
        for worker in self._workers:
            if not worker.pid:
                continue
            if self._leaving and now_s >= self._ends_s:
                _log.error("worker %d, process %d, does not end and is killed", worker.index, worker.pid)
            elif silence_s and worker.started is not None and now_s - worker.heard_s > silence_s:
                _log.error("worker %d, process %d, stands still and is killed", worker.index, worker.pid)
            else:
                continue
            os.kill(worker.pid, signal.SIGKILL)

    def _wait_s(self) -> float:
        """Until something is due: a second at most."""
        due = [worker.due_s for worker in self._workers if not worker.pid] if not self._leaving else []
        return max(0.0, min(_LOOK_S, min(due, default=clock.monotonic() + _LOOK_S) - clock.monotonic()))

    def _status(self) -> str:
        leader = self._workers[0].started
        where = "{}:{}".format(*leader.data_address) if leader is not None else "its port"
        revision = self._revisions.next_number - 1
        return f"serving on {where} by {len(self._workers)} workers, configuration revision {revision}"

    def _feed_watchdog(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._notifier.watchdog_s:
            self._notifier.alive()
            loop.call_later(self._notifier.watchdog_s / 2, self._feed_watchdog, loop)

    def _exit_now(self) -> NoReturn:
        self._tell(EndNow())
        until_s = clock.monotonic() + _LAST_WORDS_S
        while any(worker.pid for worker in self._workers) and clock.monotonic() < until_s:
            self._reap()
            time.sleep(0.01)
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGKILL)
        os._exit(INTERRUPTED)
