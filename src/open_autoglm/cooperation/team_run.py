"""One run of a virtual model: asks what its strategy wants asked, until there is a decision.

| an ask is | until | then |
|---|---|---|
| delayed (`after_s`) | its time has come, or nothing else is under way | under way |
| under way | its task ends | the strategy takes what became of it |
| under way | there is a decision, time is over, or the client leaves | its task is cancelled, and with it the attempt |

Invariants: when `run` returns or raises, none of its tasks is left; each ask was reserved in the ledger before and is
settled after, once; candidates are taken in the order in which they ended, those of one moment by their number; a
defect in one ask is a candidate that failed, and the run goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.cooperation.caller import ModelCaller, Reply
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.tool_member import Computing
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.scheduling.budget import BudgetExhausted, Ledger, Reservation, estimate
from open_autoglm.tools.tool import ToolError
from open_autoglm.voting.candidate import Ask, Candidate, Decision
from open_autoglm.voting.strategy import Strategy

Observer = Callable[[str, Mapping[str, Any]], None]
"""Told of what happens: the event's kind, and its data with `at_ms` since the start of the run. Must not raise."""

Reader = Callable[[Ask, Reply], tuple[str, tuple[str, ...]]]
"""Makes of a reply what is compared of it, and why it is no vote."""

Calibration = Callable[[str, float | None], float | None]
"""Makes of what a member says of itself the chance that it is right."""

ASKS_MAX: Final = 2048
"""Of one run, whatever its strategy wants; for the ledger's calls."""
_ANSWER_TOKENS: Final = 1024
"""What an answer is taken to have when the client sets no limit; where the budget has one, no answer may have more."""

_MONEY_MIN: Final = 1e-12
"""The least that is counted."""

_log = logging.getLogger(__name__)


class Rates(Struct, frozen=True):
    """What a member costs at most: a model for a million tokens each, a tool for each call.

    Attributes:
        input_per_million, output_per_million, per_call: money.
        answers: whether it may answer by itself; a virtual model without a fallback has others answer alone.
        drawn_tokens, drawn_money: what the teams behind it may spend for one answer; infinite without a budget.
    """

    input_per_million: float = 0.0
    output_per_million: float = 0.0
    per_call: float = 0.0
    answers: bool = True
    drawn_tokens: float = 0
    drawn_money: float = 0.0


def billed(reply: Reply | None) -> tuple[int, float]:
    """Tokens and money that whoever asked has to count for a reply; nothing where it was paid for as it was made."""
    if reply is None or reply.drawn:
        return 0, 0.0
    return reply.prompt_tokens + reply.completion_tokens, reply.cost


class Terms(Struct, frozen=True):
    """The bounds of one run.

    Attributes:
        deadline_s: monotonic seconds; the best answer so far counts then.
        asks_deadline_s: of each ask, monotonic seconds, not before `deadline_s`: one that is still under way when the
            run ends is cancelled, which says nothing against who was asked.
        tenant, priority: with which members are asked.
        rates: of members, by name.
    """

    deadline_s: float
    asks_deadline_s: float
    tenant: str = ""
    priority: int = 2
    rates: dict[str, Rates] = {}


class Means(NamedTuple):
    """What a run works with.

    Attributes:
        caller: asks for answers; `judges_caller` asks those who choose among them.
        reader, calibration: see `Reader` and `Calibration`.
        ledger: what the run may spend.
        tools: have tools compute; None where no member is one.
    """

    caller: ModelCaller
    judges_caller: ModelCaller
    reader: Reader
    calibration: Calibration
    ledger: Ledger
    tools: Computing | None = None


class Outcome(Struct, frozen=True):
    """How a run ended.

    Attributes:
        decision: of the strategy.
        reply: whose text the client gets; None when nothing could be decided.
        candidates: those the strategy took, in that order.
        prompt_tokens, completion_tokens: of all replies together.
        cost: money, of all replies, and an estimate for what was cancelled.
        error: what to tell the client when there is no reply and no fallback.
    """

    decision: Decision
    reply: Reply | None
    candidates: tuple[Candidate, ...]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    error: AutoGLMError | None


class TeamRun:
    """See the module.

    Args:
        strategy: not begun.
        question: of the client.
        means: see `Means`.
        terms: see `Terms`.
        observers: told of each event, in turn.
    """

    def __init__(
        self,
        strategy: Strategy,
        question: Question,
        means: Means,
        terms: Terms,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._strategy = strategy
        self._question = question
        self._means = means
        self._ledger = means.ledger
        self._terms = terms
        self._observers = observers
        self._started_s = clock.monotonic()
        self._tasks: dict[asyncio.Task[Candidate], tuple[Ask, Reservation]] = {}
        self._candidates: list[Candidate] = []
        self._replies: dict[int, Reply] = {}
        self._errors: dict[int, AutoGLMError] = {}
        self._delayed: list[tuple[float, Ask]] = []
        self._asks = 0
        self._exhausted = False

    async def run(self) -> Outcome:
        """Ask until it is decided. A run that is cancelled cancels all it has asked."""
        strategy = self._strategy
        try:
            self._launch(strategy.begin())
            while strategy.decision is None:
                await self._next()
        finally:
            await self._cancel_rest()
        decision = strategy.decision
        assert decision is not None
        self._tell("decided", msgspec.to_builtins(decision))
        return self._outcome(decision)

    # Asking.

    def _launch(self, asks: list[Ask]) -> None:
        """Begin asks, or note when they are to begin."""
        now_s = clock.monotonic()
        for ask in asks:
            if ask.after_s > 0.0:
                self._delayed.append((now_s + ask.after_s, ask))
            else:
                self._begin(ask)
        self._launch_due(now_s)

    def _launch_due(self, now_s: float) -> None:
        """Begin delayed asks whose time has come, and the next of them while nothing else is under way."""
        self._delayed.sort(key=lambda each: (each[0], each[1].number))
        while self._strategy.decision is None and self._delayed and (self._delayed[0][0] <= now_s or not self._tasks):
            self._begin(self._delayed.pop(0)[1])

    def _begin(self, ask: Ask) -> None:
        """Ask, unless the budget is at its end: then nothing further is asked, and what is under way may end."""
        reservation = None if self._exhausted else self._reserve(ask)
        if reservation is not None:
            self._asks += 1
            self._tell("asked", {"number": ask.number, "member": ask.member, "purpose": ask.purpose})
            self._tasks[asyncio.ensure_future(self._ask(ask))] = ask, reservation

    def _reserve(self, ask: Ask) -> Reservation | None:
        """Set aside what the ask may cost; None when that is not there, and nothing further will be asked."""
        tokens, money = self._most(ask, self._question.max_tokens or _ANSWER_TOKENS)
        try:
            if not self._rates(ask.member).answers:
                self._ledger.check(1, _MONEY_MIN)  # what it asks in turn is reserved by itself, if anything is left
            return self._ledger.reserve(tokens, money)
        except BudgetExhausted as error:
            self._exhausted = True
            self._tell("budget", {"lacking": error.kind, "asked": error.asked, "left": error.left})
            return None

    def _most(self, ask: Ask, written: int) -> tuple[int, float]:
        """Tokens and money that an ask takes at most when so many tokens are written for it."""
        rates = self._rates(ask.member)
        if ask.purpose == "compute":
            return 0, rates.per_call
        if not rates.answers:
            return 0, 0.0
        prompt = self._question.prompt_tokens(ask)
        return estimate(prompt, written, rates.input_per_million, rates.output_per_million)

    def _rates(self, member: str) -> Rates:
        return self._terms.rates.get(member, Rates())

    async def _ask(self, ask: Ask) -> Candidate:
        begun_s = clock.monotonic()
        try:
            reply = await (self._computed(ask) if ask.purpose == "compute" else self._said(ask))
            self._replies[ask.number] = reply
            answer, flags = self._means.reader(ask, reply)
            confidence = self._means.calibration(ask.member, reply.confidence)
        except AutoGLMError as error:
            self._errors[ask.number] = error
            return self._failed(ask, error.code, begun_s)
        except ToolError as error:
            return self._failed(ask, error.code, begun_s)
        except Exception as error:  # one ask's defect must not end the run
            _log.exception("asking %s failed", ask.member)
            told = ServerError("internal_error", f"asking failed: {type(error).__name__}")
            self._errors[ask.number] = told
            return self._failed(ask, told.code, begun_s)
        return Candidate(
            ask=ask.number,
            member=ask.member,
            answer=answer,
            text=reply.text,
            confidence=confidence,
            latency_s=clock.monotonic() - begun_s,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=reply.cost,
            version=reply.version,
            flags=flags,
        )

    async def _said(self, ask: Ask) -> Reply:
        """A model's answer."""
        question, terms = self._question, self._terms
        caller = self._means.judges_caller if ask.purpose == "judge" else self._means.caller
        return await caller.ask(
            ask.member,
            question.asked(ask),
            deadline_s=terms.asks_deadline_s,
            temperature=question.temperature if ask.temperature is None else ask.temperature,
            seed=question.seed if ask.seed is None else ask.seed,
            max_tokens=self._tokens_max(),
            tenant=terms.tenant,
            priority=terms.priority,
        )

    async def _computed(self, ask: Ask) -> Reply:
        """What a tool makes of the answer that it is shown."""
        tools = self._means.tools
        assert tools is not None, "a team without tools asks a tool"

        def paid(reply: Reply) -> None:
            self._replies[ask.number] = reply  # counts from now on, however the call ends

        return await tools.compute(
            ask.member,
            self._question.text,
            self._replies[ask.shown[0]],
            deadline_s=self._terms.asks_deadline_s,
            paid=paid,
            observe=self._called,
        )

    def _called(self, event: Mapping[str, Any]) -> None:
        self._tell("tool_called", {name: value for name, value in event.items() if name != "kind"})

    def _failed(self, ask: Ask, code: str, begun_s: float) -> Candidate:
        """What became of an ask without an answer; a reply that could not be read is paid for all the same."""
        reply = self._replies.get(ask.number, Reply(""))
        return Candidate(
            ask=ask.number,
            member=ask.member,
            latency_s=clock.monotonic() - begun_s,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=reply.cost,
            failure=code,
        )

    def _tokens_max(self) -> int | None:
        """What an answer may have: what was reserved for it, where there is a limit to be kept."""
        asked = self._question.max_tokens
        return _ANSWER_TOKENS if asked is None and self._ledger.is_limited else asked

    # What becomes of it.

    async def _next(self) -> None:
        """Wait for the next to end, and let the strategy take it."""
        strategy = self._strategy
        if not self._tasks:
            strategy.stop("budget_exhausted" if self._exhausted else "nobody_left")
            return
        due_s = min([self._terms.deadline_s, *(due_s for due_s, _ in self._delayed[:1])])
        left_s = due_s - clock.monotonic()
        if left_s > 0.0:
            done, _ = await asyncio.wait(self._tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda task: self._tasks[task][0].number):
                self._take(task)
        if strategy.decision is None:
            self._launch_due(clock.monotonic())
        if strategy.decision is None and clock.monotonic() >= self._terms.deadline_s:
            strategy.stop("deadline")

    def _take(self, task: asyncio.Task[Candidate]) -> None:
        ask, reservation = self._tasks.pop(task)
        if task.cancelled():  # the server stops, or ends it for a reason of its own
            candidate = Candidate(ask.number, ask.member, failure="client_closed")
        else:
            candidate = task.result()
        self._settle(ask, reservation, cut_short=task.cancelled())
        if self._strategy.decision is not None:
            self._tell("failed", {"number": ask.number, "member": ask.member, "failure": "late"})
            return
        self._candidates.append(candidate)
        self._tell("candidate", msgspec.to_builtins(candidate))
        self._launch(self._strategy.take(candidate))

    async def _cancel_rest(self) -> None:
        """Nobody waits for the others any more."""
        rest, self._tasks = self._tasks, {}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task, (ask, reservation) in rest.items():
            reply = self._replies.get(ask.number)
            failure = "cancelled" if task.cancelled() or reply is None else "late"
            self._settle(ask, reservation, cut_short=failure == "cancelled")
            self._tell("failed", {"number": ask.number, "member": ask.member, "failure": failure})

    def _settle(self, ask: Ask, reservation: Reservation, *, cut_short: bool) -> None:
        """Count what an ask has cost."""
        if cut_short and ask.purpose != "compute":
            # What was written until then nobody has counted; the prompt was sent.
            tokens, money = self._most(ask, 0)
            self._ledger.settle(reservation, min(tokens, reservation.tokens), min(money, reservation.money))
        else:
            # Nothing for a tool that was not called yet.
            self._ledger.settle(reservation, *billed(self._replies.get(ask.number)))

    def _outcome(self, decision: Decision) -> Outcome:
        replies = self._replies.values()
        reply = self._replies.get(decision.candidate)
        return Outcome(
            decision=decision,
            reply=reply,
            candidates=tuple(self._candidates),
            prompt_tokens=sum(each.prompt_tokens for each in replies),
            completion_tokens=sum(each.completion_tokens for each in replies),
            cost=self._ledger.snapshot().money,
            error=None if reply is not None else self._error(decision),
        )

    def _error(self, decision: Decision) -> AutoGLMError:
        """Why there is no answer; what all members said alike is said as they said it."""
        errors = list(self._errors.values())
        if errors and len(errors) == self._asks and len({error.code for error in errors}) == 1:
            return errors[0]
        match decision.reason:
            case "deadline":
                return ServerError("deadline_exceeded", "no member answered in time")
            case "budget_exhausted":
                return ServerError("insufficient_quota", "the budget for one answer is too small for an answer")
            case reason:
                return ServerError("no_quorum", f"the members came to no answer: {reason}")

    def _tell(self, kind: str, data: Mapping[str, Any]) -> None:
        at_ms = round((clock.monotonic() - self._started_s) * 1000, 3)
        for observer in self._observers:
            observer(kind, {**data, "at_ms": at_ms})
