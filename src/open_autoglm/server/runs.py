"""Durable runs of a server: the journal in its data folder, its tools and models, and what the admin API asks.

The process that has the admin listener drives them. Nothing is opened before there is a run: a server that never had
one pays nothing.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.cooperation.durable import DurableRuns
from open_autoglm.cooperation.steps import Steps
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.scheduling.run_event import Word
from open_autoglm.scheduling.task_document import read_graph
from open_autoglm.server.teams import model_rates
from open_autoglm.storage.run_journal import JournalLimits, RunJournal

if TYPE_CHECKING:
    from open_autoglm.server.server import Server

_log = logging.getLogger(__name__)

JSONObject = dict[str, Any]
FILE: Final = "runs.db"
_START_S: Final = 20.0
"""Longest wait for a start that is given up."""
_STATES: Final = ("running", "waiting", "done", "failed", "cancelled", "budget_exhausted")


class Runs:
    """See the module.

    Args:
        server: composed.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._opening = asyncio.Lock()
        self._journal: RunJournal | None = None
        self._runs: DurableRuns | None = None
        self._closed = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Runs that go on here now."""
        return self._runs.in_flight if self._runs is not None else 0

    def status(self) -> JSONObject:
        """How many go on, and why none can be kept any more where that is so."""
        return {"in_flight": self.in_flight, "trouble": "" if self._journal is None else self._journal.trouble}

    def start(self) -> None:
        """Go on with what the journal holds, if there is one."""
        if self._path.exists():
            self._starting = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self, drain_s: float) -> None:
        """Start no further step, and let those that run end, for so many seconds at most."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting], timeout=_START_S)
        async with self._opening:
            if self._runs is not None:
                await self._runs.close(drain_s)
            if self._journal is not None:
                await self._journal.close()

    async def create(self, text: str, by: str) -> JSONObject:
        """Begin a run.

        Args:
            text: see `scheduling.task_document`.
            by: who wants it.

        Raises:
            AutoGLMError: `invalid_request`, `storage_full`, `overloaded`, `server_draining`.
        """
        document = read_graph(text)
        runs = await self._opened()
        run_id = await runs.create(
            document.tasks, name=document.name, by=by, timeout_s=document.timeout_s, budget=document.budget
        )
        return await runs.show(run_id)

    async def rows(self, state: str, limit: int) -> list[JSONObject]:
        """The newest runs, of one state if that is given, without their tasks."""
        if state and state not in _STATES:
            raise RequestError(
                "invalid_request", f"no run is {state!r}; states are {', '.join(_STATES)}", param="state"
            )
        if self._runs is None and not self._path.exists():
            return []
        return await (await self._opened()).rows(state=state, limit=limit)

    async def show(self, run_id: str) -> JSONObject:
        """One run with its tasks."""
        return await (await self._known(run_id)).show(run_id)

    async def say(self, run_id: str, task: str, word: Word, by: str, note: str) -> JSONObject:
        """Give a person's word on a task; on the only one that is asked about, if none is named."""
        runs = await self._known(run_id)
        if not task:
            asked = [each["task"] for each in (await runs.show(run_id))["asking"]]
            if len(asked) != 1:
                told = f"it asks about {', '.join(asked)}: name one" if asked else "it asks about nothing"
                raise RequestError("conflict", f"run {run_id!r}: {told}", param="task")
            task = asked[0]
        return await runs.say(run_id, task, word, by=by, note=note)

    async def cancel(self, run_id: str) -> JSONObject:
        """Stop a run."""
        return await (await self._known(run_id)).cancel(run_id)

    async def resume(self, run_id: str) -> JSONObject:
        """Go on with a run that no living process drives."""
        return await (await self._known(run_id)).resume(run_id)

    @property
    def _path(self) -> Path:
        return Path(self._server.config.server.data_dir) / FILE

    async def _known(self, run_id: str) -> DurableRuns:
        if self._runs is None and not self._path.exists():
            raise RequestError("not_found", f"there is no run {run_id[:80]!r}: there never was one")
        return await self._opened()

    async def _go_on(self) -> None:
        try:
            await self._opened()
        except AutoGLMError as error:
            _log.error("runs of task graphs do not go on: %s", error.message)

    async def _opened(self) -> DurableRuns:
        if self._runs is not None:
            return self._runs
        async with self._opening:
            if self._closed:
                raise ServerError("server_draining", "this server is stopping")
            if self._runs is None:
                self._runs = await self._open()
            return self._runs

    async def _open(self) -> DurableRuns:
        server, config = self._server, self._server.config
        desk = await server.teams.tools.desk()
        limits = JournalLimits(file_bytes=config.runs.file_bytes, keep_s=config.runs.keep_s, keep=config.runs.keep)
        journal = RunJournal(self._path, limits)
        await journal.open()
        self._journal = journal
        steps = Steps(
            desk,
            server.teams,
            lambda: server.gateway.snapshot.plans.keys(),
            lambda name: model_rates(server.config, name),
        )
        runs = DurableRuns(
            journal,
            steps.perform,
            price=steps.price,
            repeatable=steps.repeatable,
            new_graph=steps.new_graph,
            settings=config.runs,
        )
        runs.start()
        return runs
