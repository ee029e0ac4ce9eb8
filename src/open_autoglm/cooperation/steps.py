"""Performs the steps of a task graph: by the tools at the desk, and by the models of the request path."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from open_autoglm.cooperation.caller import ModelCaller
from open_autoglm.cooperation.executor import StepCall
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import RequestError
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import MODEL_PREFIX, TaskGraph
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.http_tool import HttpTool
from open_autoglm.tools.tool import ToolCall


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
    max_tokens: int | None = None
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
        caller: asks models.
        models: names of the models that there are now.
    """

    def __init__(self, desk: ToolDesk, caller: ModelCaller, models: Callable[[], Collection[str]]) -> None:
        self._desk = desk
        self._caller = caller
        self._models = models

    async def perform(self, call: StepCall) -> Any:
        """Make one try of a step; see `executor.Perform`."""
        tool = call.task.tool
        if tool.startswith(MODEL_PREFIX):
            return await self._ask(tool.removeprefix(MODEL_PREFIX), call)
        asked = ToolCall(tool, call.arguments, call.deadline_s, call.idempotency_key, call.confirmation)
        return await self._desk.call(asked)

    def repeatable(self, task: Task) -> bool:
        """Whether a try that may have taken effect may be made again with the same idempotency key, unasked.

        Models answer and change nothing. Of the tools that change something only those over HTTP are sent the key
        in a form that services know; the others could only do the same once more.
        """
        if task.tool.startswith(MODEL_PREFIX):
            return True
        found = next((tool for tool in self._desk.tools() if tool.name == task.tool), None)
        if found is None:
            return False
        return found.kind == "read" or (found.kind == "write" and isinstance(found, HttpTool))

    def new_graph(self) -> TaskGraph:
        """An empty graph that knows the tools and models that there are now."""
        return TaskGraph(tools={tool.name for tool in self._desk.tools()}, models=self._models())

    async def _ask(self, model: str, call: StepCall) -> str:
        try:
            arguments = msgspec.convert(call.arguments, ModelArguments)
        except msgspec.ValidationError as error:
            raise RequestError("invalid_request", f"arguments of {call.task.tool!r}: {error}") from error
        reply = await self._caller.ask(
            model,
            arguments.conversation(),
            deadline_s=call.deadline_s,
            temperature=arguments.temperature,
            seed=arguments.seed,
            max_tokens=arguments.max_tokens,
        )
        return reply.text
