"""What the conformance suite calls by name: tools, resources and prompts of its reference server.

Served behind our listener, guard and door, in the same manner as our own (`context_server.session_manager`): so the
suite sees whether every kind of content passes them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import ASGIApp

from open_autoglm.secret import Secret
from open_autoglm.server.admin import build_admin, serve_admin
from open_autoglm.server.admin_listener import AdminListener

KEY = "key-of-the-suite"
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301"
        "0100c9fe92ef0000000049454e44ae426082"
    )
).decode()
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(16)).decode()


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, words: str) -> types.EmbeddedResource:
    inner = types.TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return types.EmbeddedResource(type="resource", resource=inner)


TOOLS: dict[str, list[Any]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [image()],
    "test_audio_content": [types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")],
    "test_embedded_resource": [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
    "test_error_handling": [text("This tool intentionally returns an error for testing")],
}
PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
}


async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
    schema = {"type": "object", "properties": {}}
    return types.ListToolsResult(tools=[types.Tool(name=n, description=n, input_schema=schema) for n in TOOLS])


async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
    return types.CallToolResult(content=TOOLS[asked.name], is_error=asked.name == "test_error_handling")


async def list_resources(_: Any, __: Any) -> types.ListResourcesResult:
    uris = ("test://static-text", "test://static-binary")
    return types.ListResourcesResult(resources=[types.Resource(uri=uri, name=uri, description=uri) for uri in uris])


async def list_templates(_: Any, __: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template="test://template/{id}/data", name="template", description="one")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(_: Any, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(asked.uri)
    contents: Any
    if uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == "test://static-text":
        words = "This is the content of the static text resource."
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    else:
        number = uri.split("/")[3]
        told = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=told)
    return types.ReadResourceResult(contents=[contents])


async def list_prompts(_: Any, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=name,
                arguments=[types.PromptArgument(name=each, description=each, required=True) for each in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(_: Any, asked: types.GetPromptRequestParams) -> types.GetPromptResult:
    given = asked.arguments or {}
    contents: list[Any] = [text("This is a simple prompt for testing.")]
    match asked.name:
        case "test_prompt_with_arguments":
            contents = [text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]
        case "test_prompt_with_embedded_resource":
            inner = embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            contents = [inner, text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            contents = [image(), text("Please analyze the image above.")]
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=each) for each in contents])


class Endpoint:
    """In the place of `server.context_endpoint.ContextEndpoint`."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def app(self) -> ASGIApp:
        return self._manager.handle_request


@asynccontextmanager
async def serving() -> AsyncIterator[AdminListener]:
    """The suite's contents behind an admin listener of ours, with the key `KEY`."""
    server: Server[Any] = Server(
        "contents",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)
    app = build_admin(None, key=Secret(KEY), context=Endpoint(manager))  # type: ignore[arg-type]
    async with manager.run():
        listener = await serve_admin(app)
        yield listener
        await listener.close(0.5)
