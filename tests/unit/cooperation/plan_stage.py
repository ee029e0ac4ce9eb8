"""A planner, tools and a budget for tests of plans, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from open_autoglm import clock
from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.plan_outcome import PlanOutcome
from open_autoglm.cooperation.planner import PlanRun, Roles
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.team_run import Observer, Rates, Terms
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.scheduling.budget import Ledger
from open_autoglm.scheduling.plan_cache import PlanCache
from open_autoglm.testing.loop import START_S, VirtualLoop
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.tool import Arguments, ToolError, ToolKind

Say = Callable[[str, str], str | Exception]
"""What a model says, by its name and the instructions that it was given (the first message)."""


class Models:
    """Says what a test wants, at a character every `char_s`; bills what it was allowed to write at most.

    Attributes:
        prompts: model and first message of each call.
        cancelled: calls that were cancelled.
    """

    def __init__(self, say: Say, char_s: float = 0.0) -> None:
        self._say = say
        self._char_s = char_s
        self.prompts: list[tuple[str, str]] = []
        self.cancelled = 0
        self.billed_tokens = 0

    async def ask(self, member: str, messages: list[Message], **how: Any) -> Reply:
        """See `ModelCaller.ask`."""
        return await self._speak(member, messages, lambda piece: None, how)

    async def _speak(
        self, member: str, messages: list[Message], hear: Callable[[str], None], how: Mapping[str, Any]
    ) -> Reply:
        self.prompts.append((member, messages[0].text()))
        said = self._say(member, messages[0].text())
        if isinstance(said, Exception):
            raise said
        try:
            for character in said:
                if self._char_s:
                    await asyncio.sleep(self._char_s)
                hear(character)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        prompt = sum(len(message.text().encode()) for message in messages) // 4
        self.billed_tokens += prompt + how["max_tokens"]
        return Reply(
            said, prompt_tokens=prompt, completion_tokens=how["max_tokens"], cost=(prompt + how["max_tokens"]) / 1e6
        )


class StreamingModels(Models):
    """The same, heard character by character."""

    async def ask_streamed(
        self, member: str, messages: list[Message], hear: Callable[[str], None], **how: Any
    ) -> Reply:
        """See `StreamedCaller.ask_streamed`."""
        return await self._speak(member, messages, hear, how)


@dataclass
class Tool:
    """A tool that takes `after_s`, and gives what `do` makes of its arguments."""

    name: str
    do: Callable[[Arguments], Any] = dict
    after_s: float = 0.0
    cost: float = 0.0
    kind: ToolKind = "read"
    description: str = "does it"
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    timeout_s: float = 1000.0
    calls: list[tuple[float, Arguments, str]] = field(default_factory=list)

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        """See `tools.tool.Tool.call`."""
        self.calls.append((clock.monotonic() - START_S, arguments, idempotency_key))
        await asyncio.sleep(self.after_s)
        return self.do(arguments)


def failing(arguments: Arguments) -> Any:
    raise ToolError("tool_failed", "out of order")


RATES = dict.fromkeys(("planner", "helper", "writer"), Rates(1.0, 1.0))
ROLES = Roles("planner", ("add", "get", "pay", "fail"), ("helper",))


@dataclass
class Stage:
    """Everything of one run; `play` runs it."""

    models: Models
    tools: list[Tool]
    roles: Roles = ROLES
    text: str = "What is it?"
    tokens: int = 0
    money: float = 0.0
    calls: int = 0
    timeout_s: float = 100.0
    cache: PlanCache | None = None
    trail: Observer | None = None
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def play(self) -> PlanOutcome:
        """Run once, from the start of virtual time."""
        return VirtualLoop().run(self.playing())

    async def playing(self) -> PlanOutcome:
        """The same, on a loop that runs."""
        self.ledger = Ledger(self.tokens, self.money, self.calls, START_S + self.timeout_s, clock.monotonic)
        run = PlanRun(
            self.roles,
            Question((Message("user", (TextPart(self.text),)),)),
            (self.models, self.models),
            ToolDesk(self.tools),
            self.ledger,
            Terms(START_S + self.timeout_s, START_S + self.timeout_s + 10.0, rates=RATES),
            observers=[lambda kind, data: self.events.append((kind, data))],
            trail=self.trail,
            cache=self.cache,
            run_id="r",
        )
        outcome = await run.run()
        self.took_s = clock.monotonic() - START_S
        assert len(asyncio.all_tasks()) == 1, "something goes on"
        self.outcome = outcome
        return outcome

    def kinds(self) -> list[str]:
        """The events' kinds, in order."""
        return [kind for kind, _ in self.events]
