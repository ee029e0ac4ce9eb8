"""The admin listener's questions, where several workers serve: the leader answers for all.

Figures are asked of every worker and put together; what is changed is changed in all of them. Invariant: a worker that
does not answer within a second is left out, so a page never hangs because one worker does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.errors import ServerError
from open_autoglm.server.audit_desk import Said, found_run, label_told
from open_autoglm.server.control import Control
from open_autoglm.server.workers.labelled_metrics import join_metrics
from open_autoglm.server.workers.messages import Answer, Ask
from open_autoglm.telemetry.explain import RequestFilter

if TYPE_CHECKING:
    from open_autoglm.server.admin import EndpointAction, JSONObject, RolloutStep
    from open_autoglm.server.runs import Runs
    from open_autoglm.server.server import Server

ANSWERED: Final = frozenset(
    ("ready", "metrics", "status", "models", "keys", "requests", "explain", "endpoint_action", "run_record", "learn")
)
"""Methods of `Control` that one worker may ask of the others."""
_PATIENCE_S: Final = 1.0
_SUMMED: Final = ("in_flight", "connections", "log_lines_dropped")
_OF_EACH: Final = ("pid", "ready", "reason", "revision", "uptime_s", "in_flight", "connections", "overload")


class Questions:
    """Questions to the other workers, and the answers that have come.

    Args:
        send: takes a question to the supervisor.
        index: of this worker.
    """

    def __init__(self, send: Callable[[Ask], None], index: int) -> None:
        self.index = index
        self._send = send
        self._number = os.getpid() << 32  # answers to the leader before us are none to us
        self._open: dict[int, tuple[asyncio.Future[None], dict[int, Any]]] = {}
        self._counts: dict[int, int] = {}

    async def ask(self, method: str, *arguments: Any) -> dict[int, Any]:
        """Ask all others; return what those answered that could, by their index."""
        self._number = number = self._number + 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answers: dict[int, Any] = {}
        self._open[number] = (done, answers)
        self._send(Ask(number, method, arguments))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await done
        except TimeoutError:
            pass  # with those that have come
        finally:
            self._open.pop(number, None)
            self._counts.pop(number, None)
        return {worker: value for worker, value in sorted(answers.items()) if value is not None}

    def asked(self, number: int, count: int) -> None:
        """So many will answer."""
        if number in self._open:
            self._counts[number] = count
            self._look(number)

    def take(self, answer: Answer) -> None:
        """An answer has come."""
        if answer.number in self._open:
            self._open[answer.number][1][answer.worker] = answer.value
            self._look(answer.number)

    def _look(self, number: int) -> None:
        done, answers = self._open[number]
        if len(answers) >= self._counts.get(number, len(answers) + 1) and not done.done():
            done.set_result(None)


class WorkersControl:
    """See the module; implements `server.admin.AdminControl`.

    Args:
        server: of the leader.
        questions: to the others.
    """

    def __init__(self, server: Server, questions: Questions) -> None:
        self._own = Control(server)
        self._audit = server.audit
        self._questions = questions

    def health(self) -> JSONObject:
        return self._own.health()

    async def ready(self) -> tuple[bool, str]:
        told = await self._all("ready", self._own.ready())
        reasons = [reason for ready, reason in told.values() if not ready]
        return len(reasons) < len(told), reasons[0] if len(reasons) == len(told) else ""

    async def metrics(self) -> bytes:
        return join_metrics(await self._all("metrics", self._own.metrics()))

    async def status(self) -> JSONObject:
        told = await self._all("status", self._own.status())
        page = dict(self._own.status())
        page["pid"] = os.getppid()
        page["ready"] = any(each["ready"] for each in told.values())
        page["reason"] = "" if page["ready"] else page["reason"]
        for name in _SUMMED:
            page[name] = sum(each[name] for each in told.values())
        waiting: dict[str, float] = {}
        for each in told.values():
            for model, count in each["waiting"].items():
                waiting[model] = waiting.get(model, 0) + count
        page["waiting"] = waiting
        page["sources"] = [row for each in told.values() for row in each["sources"]]
        page["workers"] = [{"worker": index} | {name: each[name] for name in _OF_EACH} for index, each in told.items()]
        return page

    def config_active(self) -> JSONObject:
        return self._own.config_active()

    def config_history(self) -> list[JSONObject]:
        return self._own.config_history()

    def config_diff(self, text: str) -> JSONObject:
        return self._own.config_diff(text)

    # The leader tells the supervisor of what it has applied, and that all others.

    def config_apply(self, text: str, by: str) -> JSONObject:
        return self._own.config_apply(text, by)

    def config_rollback(self, by: str) -> JSONObject:
        return self._own.config_rollback(by)

    def config_reload(self, by: str) -> JSONObject:
        return self._own.config_reload(by)

    async def models(self) -> list[JSONObject]:
        told = await self._all("models", self._own.models())
        rows = {(row["name"], row["endpoint"]): dict(row) for row in told[self._questions.index]}
        for index, others in told.items():
            for other in others if index != self._questions.index else ():
                row = rows.get((other["name"], other["endpoint"]))
                if row is not None and "in_flight" in row:
                    row["in_flight"] += other.get("in_flight", 0)
        return list(rows.values())

    def nodes(self) -> list[JSONObject]:
        return self._own.nodes()

    def node_note(self, name: str, text: str, version: str) -> JSONObject:
        return self._own.node_note(name, text, version)

    def node_drain(self, name: str, drained: bool) -> JSONObject:
        return self._own.node_drain(name, drained)

    def rollouts(self) -> list[JSONObject]:
        return []

    async def rollout_step(self, model: str, step: RolloutStep, fields: JSONObject) -> JSONObject:
        raise ServerError("not_implemented", "a server with several workers rolls nothing out; set server.workers to 1")

    async def keys(self) -> list[JSONObject]:
        told = await self._all("keys", self._own.keys())
        rows = {row["name"]: dict(row) for row in told[self._questions.index]}
        for index, others in told.items():
            for other in others if index != self._questions.index else ():
                row = rows.get(other["name"])
                if row is not None:
                    row["in_flight"] += other["in_flight"]
                    row["last_used"] = max(row["last_used"] or "", other["last_used"] or "") or None
        return list(rows.values())

    async def requests(self, limit: int, where: RequestFilter) -> list[JSONObject]:
        told = await self._all("requests", self._own.requests(limit, where), limit, where)
        rows = [row for each in told.values() for row in each]
        rows.sort(key=lambda row: str(row["received_at"]), reverse=True)
        return rows[:limit]

    async def explain(self, request_id: str) -> JSONObject | None:
        own = self._own.explain(request_id)
        if own is not None:
            return own
        told = await self._questions.ask("explain", request_id)
        return next(iter(told.values()), None)

    async def recorded(self, run: str) -> JSONObject:
        return await self._own.recorded(run)  # processes write one and the same audit

    async def feedback(self, run: str, said: Said) -> JSONObject:
        """The leader writes the label, and all learn: what virtual models know is each process's own."""
        audit = self._audit
        record = self._own.run_record(run) or next(iter((await self._questions.ask("run_record", run)).values()), None)
        label, lesson = audit.label(found_run(run, record or await audit.find(run)), said)
        await self._questions.ask("learn", lesson)
        return label_told(run, label, learned=audit.learn(lesson))

    @property
    def runs(self) -> Runs:
        return self._own.runs

    async def endpoint_action(self, model: str, endpoint: str, action: EndpointAction) -> JSONObject:
        row = self._own.endpoint_action(model, endpoint, action)
        await self._questions.ask("endpoint_action", model, endpoint, action)
        return row

    async def _all(self, method: str, own: Any, *arguments: Any) -> dict[int, Any]:
        """What every worker answers, by its index, this one's among them."""
        told = await self._questions.ask(method, *arguments)
        return dict(sorted({**told, self._questions.index: own}.items()))
