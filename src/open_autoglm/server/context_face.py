"""What clients of the context protocol see of this server: a few tools, pages as resources, and what it offers them.

Invariant: everything of the server's own comes from what the admin API shows, through the same redaction; arguments are
checked by the schemas that are published; nothing here changes the server, but asking a model costs what asking it
costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.backends.caller import ModelCaller
from open_autoglm.dialects.canonical import Message, TextPart
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.gateway.member_call import TEAM_DIALECT
from open_autoglm.server.admin import AdminControl
from open_autoglm.server.context_offer import ContextOffer, Page
from open_autoglm.telemetry.explain import RequestFilter
from open_autoglm.telemetry.redact import clean, redact
from open_autoglm.tools.argument_check import problems
from open_autoglm.tools.tool import ToolError

MEDIA_TYPE: Final = "application/json"
"""Of the server's own pages."""
ASK_S: Final = 120.0
ASK_S_MAX: Final = 600.0
PROMPT_CHARS_MAX: Final = 1_000_000
_MODEL_PAGE: Final = "autoglm://models/{name}"
_ROWS: Final = 20
_ROWS_MAX: Final = 200
_RUNS: Final = "List the newest runs of task graphs, and the newest answers of virtual models, which are runs too."
_RUN: Final = "Show one run of a task graph, or of a virtual model, step by step."
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": _ROWS_MAX, "description": f"How many; {_ROWS} by default."}


class FaceTool(Struct, frozen=True):
    """One tool.

    Attributes:
        name, title, description: for models and people.
        schema: of its arguments.
        read_only: whether it changes nothing and costs nothing.
        call: does it.
    """

    name: str
    title: str
    description: str
    schema: dict[str, Any]
    read_only: bool
    call: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Listed(Struct, frozen=True):
    """One resource, or with a place `{…}` in its address a family of them; with no `media_type` it is not known."""

    uri: str
    name: str
    description: str
    media_type: str | None = MEDIA_TYPE


class ContextFace:
    """See the module.

    Args:
        control: the server, as the admin API sees it.
        caller: asks models.
        offer: what the configuration offers.
    """

    def __init__(self, control: AdminControl, caller: ModelCaller, offer: ContextOffer) -> None:
        self._control = control
        self._caller = caller
        self.offer = offer
        self.tools = {tool.name: tool for tool in self._tools()}
        self.pages = [
            Listed("autoglm://models", "models", "Every model with its endpoints and their states."),
            Listed("autoglm://status", "status", "The server on one page."),
            Listed("autoglm://requests", "requests", f"The newest {_ROWS} requests, without their texts."),
            Listed("autoglm://runs", "runs", f"The newest {_ROWS} runs of task graphs and virtual models."),
        ]
        self.families = [
            Listed(_MODEL_PAGE, "model", "One model with its endpoints."),
            Listed("autoglm://runs/{id}", "run", "One run, step by step."),
        ]
        for each in offer.settings.resources:
            row = Listed(each.uri, each.name or each.uri, each.description, each.media_type)
            (self.families if "{" in each.uri else self.pages).append(row)

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool of the server's own.

        Raises:
            KeyError: there is no such tool.
            AutoGLMError: it cannot be done; its message is for the model that has asked.
        """
        tool = self.tools[name]
        wrong = problems(tool.schema, arguments)
        if wrong:
            raise RequestError("invalid_request", clean("; ".join(wrong)))
        return _shown(await tool.call(arguments))

    async def read(self, uri: str) -> Page:
        """Return a page.

        Raises:
            KeyError: there is no such page.
            AutoGLMError, ToolError: see `ContextOffer.read`.
        """
        if not uri.startswith("autoglm://"):
            return await self.offer.read(uri)
        kind, _, name = uri.removeprefix("autoglm://").partition("/")
        match kind, name:
            case "models", "":
                page = await self._list_models({})
            case "models", str():
                page = await self._one_model(name)
            case "status", "":
                page = await self._status({})
            case "requests", "":
                page = {"requests": await _settled(self._control.requests(_ROWS, RequestFilter()))}
            case "runs", "":
                page = await self._list_runs({})
            case "runs", str():
                page = await self._one_run(name)
            case _:
                raise KeyError(uri)
        return Page(uri, MEDIA_TYPE, msgspec.json.encode(_shown(page)).decode())

    async def prompt(self, name: str, given: dict[str, str]) -> list[tuple[str, str | Page]]:
        """Fill a prompt; see `ContextOffer.prompt`."""
        return await self.offer.prompt(name, given, self.read)

    async def page_proposals(self, uri: str, argument: str) -> list[str]:
        """Values for a place in the address of a family of pages.

        Raises:
            KeyError: there is no such family.
        """
        if uri == _MODEL_PAGE and argument == "name":
            return [model["name"] for model in (await self._list_models({}))["models"]]
        if all(family.uri != uri for family in self.families):
            raise KeyError(uri)
        return []

    def _tools(self) -> list[FaceTool]:
        nothing = {"type": "object", "properties": {}, "additionalProperties": False}
        limit = {"type": "object", "properties": {"limit": _LIMIT}, "additionalProperties": False}
        one = {"type": "object", "properties": {"id": _NAME}, "required": ["id"], "additionalProperties": False}
        return [
            FaceTool(
                "list_models",
                "List models",
                "List the models that this server answers for, virtual ones too, with their endpoints and states.",
                nothing,
                True,
                self._list_models,
            ),
            FaceTool(
                "ask_model",
                "Ask a model",
                "Ask one of the server's models, virtual ones too, one question; returns its whole answer. It costs "
                "what the model costs.",
                _ASK_SCHEMA,
                False,
                self._ask,
            ),
            FaceTool(
                "server_status",
                "Server status",
                "Show the server on one page: whether it is ready, its load, its configuration's revision.",
                nothing,
                True,
                self._status,
            ),
            FaceTool("list_runs", "List runs", _RUNS, limit, True, self._list_runs),
            FaceTool("show_run", "Show a run", _RUN, one, True, self._show),
        ]

    async def _list_models(self, _: dict[str, Any]) -> dict[str, Any]:
        models: dict[str, list[dict[str, Any]]] = {}
        for row in await _settled(self._control.models()):
            models.setdefault(row["name"], []).append({name: row[name] for name in row if name != "name"})
        return {"models": [{"name": name, "endpoints": endpoints} for name, endpoints in models.items()]}

    async def _one_model(self, name: str) -> dict[str, Any]:
        found = [model for model in (await self._list_models({}))["models"] if model["name"] == name]
        if not found:
            raise KeyError(name)
        return dict(found[0])

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return dict(await _settled(self._control.status()))

    async def _ask(self, arguments: dict[str, Any]) -> dict[str, Any]:
        messages = [Message("user", (TextPart(arguments["prompt"]),))]
        if arguments.get("system"):
            messages.insert(0, Message("system", (TextPart(arguments["system"]),)))
        reply = await self._caller.ask(
            arguments["model"],
            messages,
            deadline_s=clock.monotonic() + arguments.get("timeout_s", ASK_S),
            temperature=arguments.get("temperature"),
            max_tokens=arguments.get("max_tokens"),
        )
        return {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "usage": {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens},
            "cost": reply.cost,
            "endpoint": reply.endpoint,
            "version": reply.version,
        }

    async def _list_runs(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Runs of task graphs, and requests for virtual models, whose runs have their ids; the newest first."""
        limit = arguments.get("limit", _ROWS)
        models = await _settled(self._control.models())
        rows: list[dict[str, Any]] = []
        for name in dict.fromkeys(row["name"] for row in models if row["dialect"] == TEAM_DIALECT):
            rows += await _settled(self._control.requests(limit, RequestFilter(model=name)))
        rows.sort(key=lambda row: str(row["received_at"]), reverse=True)
        return {"runs": await self._control.runs.rows("", limit), "answers": rows[:limit]}

    async def _show(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._one_run(arguments["id"])
        except KeyError:
            raise RequestError("not_found", f"no run {clean(arguments['id'])!r} is known here, or no longer") from None

    async def _one_run(self, run_id: str) -> dict[str, Any]:
        found = await _settled(self._control.explain(run_id))
        if found is None:
            try:
                found = await self._control.runs.show(run_id)
            except RequestError as error:
                raise KeyError(run_id) from error
        return dict(found)


_ASK_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "model": {**_NAME, "description": "Its name, as list_models tells it."},
        "prompt": {"type": "string", "minLength": 1, "maxLength": PROMPT_CHARS_MAX},
        "system": {"type": "string", "maxLength": PROMPT_CHARS_MAX, "description": "Instructions before the prompt."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "timeout_s": {
            "type": "number",
            "minimum": 0.1,
            "maximum": ASK_S_MAX,
            "description": f"Seconds; {ASK_S:g} by default.",
        },
    },
    "required": ["model", "prompt"],
    "additionalProperties": False,
}


async def _settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def _shown(page: dict[str, Any]) -> dict[str, Any]:
    """A page without what looks like a key."""
    shown: dict[str, Any] = msgspec.json.decode(redact(msgspec.json.encode(page, enc_hook=str).decode()))
    return shown


def told(error: AutoGLMError | ToolError) -> str:
    """An error as a model may read it."""
    return f"{error.code}: {clean(error.message, keep_lines=True)}"
