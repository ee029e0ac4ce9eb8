"""Performs the steps of a task graph: by the tools at the desk, and by the models of the request path."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from open_autoglm.cooperation.caller import CallerSource, Origin
from open_autoglm.cooperation.executor import UNCLEAR, StepCall
from open_autoglm.cooperation.team_run import Rates, billed
from open_autoglm.dialects.canonical import Message, TextPart, estimate_tokens
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.scheduling.budget import estimate
from open_autoglm.scheduling.run_account import Quote
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import MODEL_PREFIX, TaskGraph
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.tool import Tool, ToolCall

ANSWER_TOKENS: Final = 1024
"""What an answer may have whose task does not say it; with a budget it may have no more."""
_CLIENT: Final = "runs"


class _Said(Struct, frozen=True, forbid_unknown_fields=True):
    role: str
    content: str


class ModelArguments(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of a task whose tool is `model:NAME`. Its result is the text of the answer.

    Attributes:
        prompt: what the user says; a JSON value that is no text is written as JSON.
        messages: a whole conversation instead.
        system: what stands before the prompt.
        temperature, max_tokens, seed: the model's own when left out.
    """

    prompt: Any = None
    messages: list[_Said] = []
    system: str = ""
    temperature: float | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    seed: int | None = None

    def conversation(self) -> list[Message]:
        """The messages to send.

        Raises:
            RequestError: there are none, or two sorts.
        """
        if (self.prompt is None) == (not self.messages):
            raise RequestError("invalid_request", "a task for a model has either a prompt or messages")
        said = list(self.messages)
        if self.prompt is not None:
            text = self.prompt if isinstance(self.prompt, str) else msgspec.json.encode(self.prompt).decode()
            said = [_Said("user", text)]
        if self.system:
            said.insert(0, _Said("system", self.system))
        return [Message(each.role, (TextPart(each.content),)) for each in said]


class Steps:
    """See the module.

    Args:
        desk: where tools are called.
        callers: ask models.
        models: names of the models that there are now.
        rates: what a model costs now.
    """

    def __init__(
        self,
        desk: ToolDesk,
        callers: CallerSource,
        models: Callable[[], Collection[str]],
        rates: Callable[[str], Rates],
    ) -> None:
        self._desk = desk
        self._callers = callers
        self._models = models
        self._rates = rates

    async def perform(self, call: StepCall) -> Any:
        """Make one try of a step; see `executor.Perform`."""
        tool = call.task.tool
        if tool.startswith(MODEL_PREFIX):
            return await self._ask(tool.removeprefix(MODEL_PREFIX), call)
        asked = ToolCall(tool, call.arguments, call.deadline_s, call.idempotency_key, call.confirmation)

        def charge(_: str, cost: float) -> None:
            call.ledger.settle(call.ledger.reserve(0, cost), 0, cost)

        return await self._desk.call(asked, charge=charge)

    def price(self, task: Task, arguments: dict[str, Any]) -> Quote:
        """What one try may spend; see `executor.Price`. A team takes what its own budget has, or all that is left."""
        if not task.tool.startswith(MODEL_PREFIX):
            tool = self._tool(task.tool)
            return Quote(money=0.0 if tool is None else tool.cost)
        rates = self._rates(task.tool.removeprefix(MODEL_PREFIX))
        tokens, money = _most(rates, _read(task, arguments))
        drawn = rates.drawn_tokens > 0 or rates.drawn_money > 0
        return Quote(tokens + rates.drawn_tokens, money + rates.drawn_money, elastic=drawn)

    def repeatable(self, task: Task) -> bool:
        """Whether a try that may have taken effect may be made again with the same idempotency key, unasked.

        Models answer and change nothing. Of the tools that change something only those over HTTP are sent the key
        in a form that services know; the others could only do the same once more.
        """
        if task.tool.startswith(MODEL_PREFIX):
            return True
        found = self._tool(task.tool)
        if found is None:
            return False
        return found.kind == "read" or (found.kind == "write" and isinstance(found, HttpTool))

    def new_graph(self) -> TaskGraph:
        """An empty graph that knows the tools and models that there are now."""
        return TaskGraph(tools={tool.name for tool in self._desk.tools()}, models=self._models())

    def _tool(self, name: str) -> Tool | None:
        return next((tool for tool in self._desk.tools() if tool.name == name), None)

    async def _ask(self, model: str, call: StepCall) -> str:
        arguments = _read(call.task, call.arguments)
        messages = arguments.conversation()
        ledger = call.ledger
        reservation = ledger.reserve(*_most(self._rates(model), arguments))
        tokens, money = reservation.tokens, reservation.money  # of whoever breaks off nobody knows what it has cost
        try:
            reply = await self._callers.caller(Origin(client=_CLIENT, ledger=ledger)).ask(
                model,
                messages,
                deadline_s=call.deadline_s,
                temperature=arguments.temperature,
                seed=arguments.seed,
                max_tokens=arguments.max_tokens or (ANSWER_TOKENS if ledger.is_limited else None),
            )
            tokens, money = billed(reply)
        except AutoGLMError as error:
            if error.code not in UNCLEAR:
                tokens, money = 0, 0.0
            raise
        finally:
            ledger.settle(reservation, tokens, money)
        return reply.text


def _read(task: Task, arguments: dict[str, Any]) -> ModelArguments:
    try:
        return msgspec.convert(arguments, ModelArguments)
    except msgspec.ValidationError as error:
        raise RequestError("invalid_request", f"arguments of {task.tool!r}: {error}") from error


def _most(rates: Rates, arguments: ModelArguments) -> tuple[int, float]:
    """Tokens and money that one answer takes at most."""
    if not rates.answers:
        return 0, 0.0
    size = sum(len(message.text().encode("utf-8", "replace")) for message in arguments.conversation())
    most = arguments.max_tokens or ANSWER_TOKENS
    return estimate(estimate_tokens(size), most, rates.input_per_million, rates.output_per_million)
