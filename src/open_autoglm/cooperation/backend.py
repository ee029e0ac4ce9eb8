"""A virtual model as a backend: its attempt is a run of its team, and its answer is what the team decided.

Invariant: the exchange hears of an attempt once, from the run's task; when the client leaves, the task is cancelled,
and with it all that the team asks. Where the client wants to hear events it gets them as they happen, and then it
cannot be handed to another leg any more; so the run itself asks the fallback when the team comes to no answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall, unsent
from open_autoglm.cooperation.caller import CallerSource, ModelCaller, Origin, Reply
from open_autoglm.cooperation.figures import TeamFigures
from open_autoglm.cooperation.knowledge import Book
from open_autoglm.cooperation.planner import PlanRun, Roles
from open_autoglm.cooperation.question import Question, question_of
from open_autoglm.cooperation.reading import calibrated, make_reader
from open_autoglm.cooperation.settings import CooperationEntry
from open_autoglm.cooperation.team_run import ASKS_MAX, Means, Observer, Outcome, Rates, TeamRun, Terms
from open_autoglm.cooperation.tool_member import ToolMembers
from open_autoglm.dialects.canonical import Event, Finish, Notice, TextDelta, Usage
from open_autoglm.dialects.relay import EventRelay
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.scheduling.budget import Ledger
from open_autoglm.scheduling.plan_cache import PlanCache
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.voting.catalog import make_strategy

_MARGIN_S: Final = 0.1
"""Kept back from the attempt's time, to decide by what is there and to tell the client."""
_MARGIN_SHARE: Final = 0.1
_GRACE_S: Final = 0.25
"""Beyond the client's time, for asks: they are cancelled before, and so say nothing against whoever was asked."""
_CONTENT_STAGE: Final = 2

_log = logging.getLogger(__name__)


class RunTrail(Protocol):
    """Takes down one run; see `telemetry.audit.RunTrail`."""

    def event(self, kind: str, data: Struct | Mapping[str, Any]) -> None:
        """Something happened."""

    def end(self, decision: Struct | Mapping[str, Any] | None, **more: object) -> None:
        """It is over."""

    async def settled(self) -> None:
        """Wait until what was told is written, where that is required."""


class Trails(Protocol):
    """Takes down runs; see `telemetry.audit.AuditTrail`."""

    def begin(self, run: str, header: Struct | Mapping[str, Any]) -> RunTrail:
        """A run begins."""


class Team(Struct, frozen=True):
    """A virtual model.

    Attributes:
        name: as clients ask for it.
        entry: as it is configured.
        book: what is known of its members.
        rates: what members cost.
        plans: those that are kept; None where none is.
    """

    name: str
    entry: CooperationEntry
    book: Book
    rates: dict[str, Rates]
    plans: PlanCache | None = None


class Surroundings(Struct):
    """What all virtual models of a server share; every run looks at it anew.

    Attributes:
        callers: ask members.
        figures: count.
        rng: for seeds.
        trails: take down runs; None where nobody does.
        desk: opens, when it is first wanted, the desk where tools are called.
    """

    callers: CallerSource
    figures: TeamFigures
    rng: random.Random
    trails: Trails | None = None
    desk: Callable[[], Awaitable[ToolDesk]] | None = None


class TeamBackend:
    """See the module and `backends.backend.Backend`."""

    dialect_name = "cooperation"

    def __init__(self, team: Team, around: Surroundings) -> None:
        self.team = team
        self.around = around

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        """Start a run; a request that no team can serve fails as `unsupported`."""
        answer = TeamAnswer(self, attempt, call)
        attempt.handle = answer
        try:
            request = call.face.infer(call.body, call.view)
            question = question_of(request)
        except AutoGLMError as error:
            call.exchange.failed(attempt, unsent(error), error.message, clock.monotonic(), error)
            return
        told = call.header("x-mcp-events") == b"true" or request.extra.get("mcp_events") == Raw(b"true")
        answer.start(question, tells=told and call.view.stream is True)

    @property
    def connections(self) -> int:
        """See `Backend`; there are none."""
        return 0

    async def reachable(self, timeout_s: float) -> bool:
        """See `Backend`; it is here."""
        return True

    def sweep(self, now_s: float) -> None:
        """See `Backend`; there is nothing that idles."""

    def close(self) -> None:
        """See `Backend`; runs that have begun end by themselves."""


class TeamAnswer:
    """One run on its way to an exchange; also the attempt's handle."""

    __slots__ = ("_attempt", "_call", "_limit_s", "_over", "_relay", "_task", "_team", "_tells", "around")

    def __init__(self, backend: TeamBackend, attempt: Attempt, call: ModelCall) -> None:
        self._team = backend.team
        self.around = backend.around
        self._attempt = attempt
        self._call = call
        encoder = call.face.encoder(call.view, call.request_id, call.model, call.created_s)
        self._relay = EventRelay(encoder, structured=call.view.structured)
        self._task: asyncio.Task[None] | None = None
        self._tells = False
        self._over = False
        # The run keeps to this limit by itself. Were it the exchange that ended it, a client with little time would
        # make the virtual model look slow, and its breaker would take it away from everybody.
        self._limit_s = attempt.limit_s
        attempt.limit_s = call.deadline_s

    def start(self, question: Question, *, tells: bool) -> None:
        """Begin the run; `tells`: the client hears its events as they happen."""
        self._tells = tells
        self._task = asyncio.get_running_loop().create_task(self._serve(question))

    # The attempt's handle.

    def cancel(self) -> None:
        """See `Handle.cancel`."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def finish(self) -> bytes:
        """See `Handle.finish`."""
        self.cancel()
        return self._relay.finish()

    def pause(self) -> None:
        """A slow reader: answers are short, so they are kept rather than held up."""

    def resume(self) -> None:
        """See `pause`."""

    # The run.

    async def _serve(self, question: Question) -> None:
        try:
            await self._cooperate(question)
        except AutoGLMError as error:
            self._fail(error)
        except Exception as error:  # the run's outermost loop: the exchange must hear of its end
            _log.exception("the run for request %s failed", self._call.request_id)
            self._fail(ServerError("internal_error", f"cooperation failed: {type(error).__name__}"))

    async def _cooperate(self, question: Question) -> None:
        team, call, around = self._team, self._call, self.around
        entry, book = team.entry, team.book
        settings = book.settings
        knowledge = book.knowledge().of(settings.task_class)
        ledger = self._ledger()
        seed = around.rng.getrandbits(31) if question.seed is None else question.seed
        trail = None
        if around.trails is not None:
            header = {
                "model": team.name,
                "strategy": entry.strategy,
                "settings": settings,
                "members": book.members,
                "knowledge": knowledge,
                "seed": seed,
                "trace_id": call.trace_id,
                "question": question.text,
            }
            trail = around.trails.begin(call.request_id, header)
        run: TeamRun | PlanRun
        try:
            if entry.strategy == "plan_execute":
                run = await self._plan_run(question, ledger, trail)
            else:
                run = TeamRun(
                    make_strategy(entry.strategy, book.members, settings, knowledge, seed),
                    question,
                    Means(
                        *self._callers(question, ledger),
                        make_reader(settings, question),
                        partial(calibrated, knowledge),
                        ledger,
                        self._tools(),
                    ),
                    self._terms(),
                    self._observers(trail),
                )
            outcome = await run.run()
        except BaseException as error:
            if trail is not None:
                trail.end(None, failure=_end_of(error))
            raise
        around.figures.run(team.name, outcome.decision.reason)
        if trail is not None:
            failure = {} if outcome.error is None else {"failure": outcome.error.code}
            trail.end(outcome.decision, cost=outcome.cost, **failure)
            await trail.settled()
        if outcome.reply is not None:
            self._deliver(outcome.reply, outcome)
            book.decided(outcome.decision)  # last: a defect in learning must not cost the client its answer
        elif self._attempt.first_s and entry.fallback is not None:
            reply = await self._ask_alone(entry.fallback, question)
            self._deliver(reply, outcome, alone=reply)
        else:
            assert outcome.error is not None
            self._fail(outcome.error)

    def _ledger(self) -> Ledger:
        """What pays for the run: its own budget, within that of the run that asks it as a member."""
        budget, outer = self._team.entry.budget, self._call.ledger
        if outer is None:
            return Ledger(budget.tokens, budget.money, ASKS_MAX)
        return outer.child(budget.tokens, budget.money, ASKS_MAX)

    async def _plan_run(self, question: Question, ledger: Ledger, trail: RunTrail | None) -> PlanRun:
        """The run of a virtual model that plans."""
        entry = self._team.entry
        assert self.around.desk is not None, "a plan is wanted before the server is composed"
        planner = entry.planner or entry.members[0]
        return PlanRun(
            Roles(planner, tuple(entry.tools), tuple(entry.members), entry.aggregator, entry.replans),
            question,
            self._callers(question, ledger),
            await self.around.desk(),
            ledger,
            self._terms(),
            observers=self._observers(None),
            trail=None if trail is None else trail.event,
            cache=self._team.plans,
            # Keys of idempotency are made of it, and clients may choose their requests' ids.
            run_id=f"{self._call.request_id}-{secrets.token_hex(8)}",
        )

    def _tools(self) -> ToolMembers | None:
        """What calls those members that are tools."""
        entry, desk = self._team.entry, self.around.desk
        return None if desk is None or not entry.tools else ToolMembers(desk, entry.tools, entry.tool_confidence)

    def _terms(self) -> Terms:
        call = self._call
        now_s = clock.monotonic()
        margin_s = min(_MARGIN_S, max(0.0, self._limit_s - now_s) * _MARGIN_SHARE)
        return Terms(
            deadline_s=min(now_s + self._team.entry.timeout_s, self._limit_s - margin_s),
            asks_deadline_s=call.deadline_s + _GRACE_S,
            tenant=call.exchange.tenant,
            priority=call.exchange.priority,
            rates=self._team.rates,
        )

    def _callers(self, question: Question, ledger: Ledger | None = None) -> tuple[ModelCaller, ModelCaller]:
        record = self._call.record
        judges = Origin(
            trace_id=self._call.trace_id, key=record.key, client=record.client, hops=self._call.hops, ledger=ledger
        )
        members = msgspec.structs.replace(judges, parameters=question.parameters, logprobs=self._team.entry.logprobs)
        return self.around.callers.caller(members), self.around.callers.caller(judges)

    async def _ask_alone(self, model: str, question: Question) -> Reply:
        """Ask the fallback ourselves, since the client has heard events already."""
        call = self._call
        caller, _ = self._callers(question)
        return await caller.ask(
            model,
            list(question.messages),
            deadline_s=call.deadline_s - _MARGIN_S,
            temperature=question.temperature,
            seed=question.seed,
            max_tokens=question.max_tokens,
            tenant=call.exchange.tenant,
            priority=call.exchange.priority,
        )

    # What is told.

    def _observers(self, trail: RunTrail | None) -> list[Observer]:
        observers: list[Observer] = [self._count]
        if trail is not None:
            observers.append(trail.event)
        if self._tells:
            observers.append(self._tell)
        return observers

    def _count(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "failed":
            self.around.figures.ask(self._team.name, data["member"], data["failure"])
        elif kind == "candidate":
            outcome = (
                "failed"
                if data.get("failure")
                else "vote"
                if data.get("answer") and not data.get("flags")
                else "flagged"
            )
            self.around.figures.ask(self._team.name, data["member"], outcome)

    def _tell(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write an event into the client's stream."""
        if not self._over:
            payload = self._relay.deliver([Notice(kind, Raw(msgspec.json.encode(data)))])
            stage = max(self._relay.stage, _CONTENT_STAGE)
            self._call.exchange.content(self._attempt, payload, stage, clock.monotonic())

    def _deliver(self, reply: Reply, outcome: Outcome, alone: Reply | None = None) -> None:
        """Give the client its answer: the team's, or that of the fallback alone after the team's attempt."""
        if self._over:
            return
        self._over = True
        call, relay, attempt = self._call, self._relay, self._attempt
        prompt_tokens, completion_tokens, cost = outcome.prompt_tokens, outcome.completion_tokens, outcome.cost
        if alone is not None:
            prompt_tokens += alone.prompt_tokens
            completion_tokens += alone.completion_tokens
            cost += alone.cost
        details = {"cost": Raw(msgspec.json.encode(cost))} if cost else None
        events: list[Event] = [
            TextDelta(reply.text),
            Finish(reply.finish_reason, version=reply.version),
            Usage(prompt_tokens, completion_tokens, details=details),
        ]
        record = call.record
        payload = relay.deliver(events) if call.view.stream else relay.deliver_whole(events)
        record.finish_reason, record.version = relay.finish_reason, relay.version
        record.prompt_tokens, record.completion_tokens = relay.prompt_tokens, relay.completion_tokens
        record.delivered_chars = relay.delivered_chars
        now_s = clock.monotonic()
        attempt.head_s = attempt.head_s or now_s
        if call.view.stream:
            call.exchange.ended(attempt, payload + relay.finish(), now_s)
        else:
            call.exchange.whole(attempt, payload, now_s)

    def _fail(self, error: AutoGLMError) -> None:
        if not self._over:
            self._over = True
            outcome = "refused" if error.code in ("invalid_request", "content_policy") else "undecided"
            self._call.exchange.failed(self._attempt, outcome, error.message, clock.monotonic(), error)


def _end_of(error: BaseException) -> str:
    """What is taken down of a run that came to no end of its own."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.code if isinstance(error, AutoGLMError) else "crashed"
