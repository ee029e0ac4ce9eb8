"""The face of this server (`context_face`) spoken in the context protocol, by the protocol's own library.

Imports the library (the extra `context`), so this module is imported late; see `context_endpoint`. Stateless: each
request stands for itself, nothing is kept between two, and the server asks clients nothing.
"""

from __future__ import annotations

import base64
import logging
from typing import Any, Final

import mcp_types as types
import msgspec
import pydantic
from mcp import MCPError
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from open_autoglm import __version__
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.server.admin_guard import BODY_BYTES_MAX
from open_autoglm.server.context_face import ContextFace, Listed, told
from open_autoglm.server.context_offer import Page
from open_autoglm.tools.tool import Tool, ToolError

logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of each request, which the log of requests does not need

_NO_RESOURCE: Final = -32002
"""Resource not found, by the protocol's specification, 2025-11-25."""
_KEY_FIELD: Final = "open-autoglm/idempotency-key"
"""In `_meta` of a call, as our own client sends it."""
_KEY_CHARS_MAX: Final = 255
_VALUES_MAX: Final = 100
"""Of one completion, by the specification."""
_INSTRUCTIONS: Final = (
    "Tools and pages of one Open-AutoGLM server, which answers for many models under one address. `list_models` names "
    "them, `ask_model` asks one."
)


def session_manager(face: ContextFace) -> StreamableHTTPSessionManager:
    """Make the ASGI application that answers POST requests with JSON; it must be run, once."""
    return StreamableHTTPSessionManager(
        build_server(face), json_response=True, stateless=True, max_request_body_size=BODY_BYTES_MAX
    )


def build_server(face: ContextFace) -> Server[Any]:
    """Make the server of the protocol."""
    spoken = _Spoken(face)
    return Server(
        "open-autoglm",
        version=__version__,
        title="Open-AutoGLM",
        instructions=_INSTRUCTIONS,
        on_list_tools=spoken.list_tools,
        on_call_tool=spoken.call_tool,
        on_list_resources=spoken.list_resources,
        on_list_resource_templates=spoken.list_families,
        on_read_resource=spoken.read_resource,
        on_list_prompts=spoken.list_prompts,
        on_get_prompt=spoken.get_prompt,
        on_completion=spoken.complete,
    )


class _Spoken:
    """The face, in the words of the protocol: one method for each that clients may call."""

    def __init__(self, face: ContextFace) -> None:
        self._face = face

    async def list_tools(self, ctx: Any, params: Any) -> types.ListToolsResult:
        own = [
            types.Tool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.schema,
                annotations=types.ToolAnnotations(read_only_hint=tool.read_only, destructive_hint=False),
            )
            for tool in self._face.tools.values()
        ]
        try:
            offered = await self._face.offer.tools()
        except AutoGLMError as error:
            raise MCPError(types.INTERNAL_ERROR, told(error)) from error
        return types.ListToolsResult(tools=own + [_offered(tool) for tool in offered])

    async def call_tool(self, ctx: Any, params: Any) -> types.CallToolResult:
        name, arguments, face = params.name, params.arguments or {}, self._face
        try:
            if name in face.tools:
                return _result(await face.call(name, arguments))
            if name in face.offer.settings.tools:
                key = (params.meta or {}).get(_KEY_FIELD, "")
                return _result(await face.offer.call(name, arguments, str(key)[:_KEY_CHARS_MAX]))
        except (AutoGLMError, ToolError) as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=told(error))], is_error=True)
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {name[:128]!r}")

    async def list_resources(self, ctx: Any, params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[types.Resource(uri=page.uri, **_words(page)) for page in self._face.pages]
        )

    async def list_families(self, ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(uri_template=page.uri, **_words(page)) for page in self._face.families
            ]
        )

    async def read_resource(self, ctx: Any, params: Any) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            page = await self._face.read(uri)
        except KeyError:
            raise MCPError(_NO_RESOURCE, "there is no such resource", {"uri": uri[:512]}) from None
        except (AutoGLMError, ToolError) as error:
            raise MCPError(types.INTERNAL_ERROR, told(error)) from error
        return types.ReadResourceResult(contents=[_contents(page)])

    async def list_prompts(self, ctx: Any, params: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=prompt.name,
                    description=prompt.description or prompt.name,
                    arguments=[
                        types.PromptArgument(name=name, description=each.description or None, required=each.required)
                        for name, each in prompt.arguments.items()
                    ],
                )
                for prompt in self._face.offer.settings.prompts
            ]
        )

    async def get_prompt(self, ctx: Any, params: Any) -> types.GetPromptResult:
        try:
            messages = await self._face.prompt(params.name, params.arguments or {})
        except KeyError:
            raise MCPError(types.INVALID_PARAMS, f"there is no prompt {params.name[:128]!r}, or a page of it") from None
        except RequestError as error:
            raise MCPError(types.INVALID_PARAMS, told(error)) from error
        except (AutoGLMError, ToolError) as error:
            raise MCPError(types.INTERNAL_ERROR, told(error)) from error
        return types.GetPromptResult(
            messages=[types.PromptMessage(role=role, content=_said(said)) for role, said in messages]
        )

    async def complete(self, ctx: Any, params: Any) -> types.CompleteResult:
        ref, argument = params.ref, params.argument
        try:
            if isinstance(ref, types.PromptReference):
                values = self._face.offer.proposals(ref.name, argument.name)
            else:
                values = await self._face.page_proposals(ref.uri, argument.name)
        except KeyError:
            raise MCPError(types.INVALID_PARAMS, "there is no such prompt, address or argument") from None
        fitting = [value for value in values if value.casefold().startswith(argument.value.casefold())]
        return types.CompleteResult(
            completion=types.Completion(
                values=fitting[:_VALUES_MAX], total=len(fitting), has_more=len(fitting) > _VALUES_MAX
            )
        )


def _offered(tool: Tool) -> types.Tool:
    """A tool of the configuration. The class says what it does to the world; `dangerous` ones are not offered."""
    hints = types.ToolAnnotations(read_only_hint=tool.kind == "read", destructive_hint=tool.kind != "read")
    return types.Tool(
        name=tool.name, description=tool.description or tool.name, input_schema=tool.schema, annotations=hints
    )


def _result(result: Any) -> types.CallToolResult:
    """What a tool answered. A list of the protocol's own parts, as other servers give it, is passed on as it is."""
    if isinstance(result, str):
        return types.CallToolResult(content=[types.TextContent(type="text", text=result)])
    if isinstance(result, list) and result and all(isinstance(part, dict) and "type" in part for part in result):
        try:
            return types.CallToolResult.model_validate({"content": result})
        except pydantic.ValidationError:
            pass  # a list of the tool's own
    text = types.TextContent(type="text", text=msgspec.json.encode(result).decode())
    return types.CallToolResult(content=[text], structured_content=result if isinstance(result, dict) else None)


def _words(page: Listed) -> dict[str, Any]:
    return {"name": page.name, "description": page.description or None, "mime_type": page.media_type}


def _contents(page: Page) -> types.TextResourceContents | types.BlobResourceContents:
    if page.text is not None:
        return types.TextResourceContents(uri=page.uri, mime_type=page.media_type, text=page.text)
    return types.BlobResourceContents(uri=page.uri, mime_type=page.media_type, blob=_base64(page.data))


def _said(said: str | Page) -> types.ContentBlock:
    if isinstance(said, str):
        return types.TextContent(type="text", text=said)
    if said.text is None and said.media_type.startswith("image/"):
        return types.ImageContent(type="image", data=_base64(said.data), mime_type=said.media_type)
    if said.text is None and said.media_type.startswith("audio/"):
        return types.AudioContent(type="audio", data=_base64(said.data), mime_type=said.media_type)
    return types.EmbeddedResource(type="resource", resource=_contents(said))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
