"""The face of this server (`context_face`) spoken in the context protocol, by the protocol's own library.

Imports the library (the extra `context`), so this module is imported when the first client comes. Stateless: each
request stands for itself, nothing is kept between two, and the server asks clients nothing.
"""

from __future__ import annotations

import logging
from typing import Any

import mcp_types as types
import msgspec
from mcp import MCPError
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from open_autoglm import __version__
from open_autoglm.errors import AutoGLMError
from open_autoglm.server.admin_guard import BODY_BYTES_MAX
from open_autoglm.server.context_face import ContextFace, told

logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of each request, which the log of requests does not need

_MIME = "application/json"
_NO_RESOURCE = -32002
"""Resource not found, by the protocol's specification, 2025-11-25."""
_INSTRUCTIONS = (
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

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(read_only_hint=tool.read_only, destructive_hint=False),
                )
                for tool in face.tools.values()
            ]
        )

    async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
        if params.name not in face.tools:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:128]!r}")
        try:
            result = await face.call(params.name, params.arguments or {})
        except AutoGLMError as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=told(error))], is_error=True)
        text = types.TextContent(type="text", text=_json(result))
        return types.CallToolResult(content=[text], structured_content=result)

    async def list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=page.uri, name=page.name, description=page.description, mime_type=_MIME)
                for page in face.pages
            ]
        )

    async def list_families(ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=page.uri, name=page.name, description=page.description, mime_type=_MIME
                )
                for page in face.families
            ]
        )

    async def read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            text = await face.read(uri)
        except KeyError:
            raise MCPError(_NO_RESOURCE, "there is no such resource", {"uri": uri[:512]}) from None
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=_MIME, text=text)])

    return Server(
        "open-autoglm",
        version=__version__,
        title="Open-AutoGLM",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_families,
        on_read_resource=read_resource,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
