"""What the conformance suite calls by name, as the configuration of a server: tools, pages and prompts of ours.

The suite describes the tools, pages and prompts that a server under test is to have. Nothing here speaks the protocol:
the functions are ordinary `tools.python`, which the server offers by `context`.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from open_autoglm.tools.tool import ToolError

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + bytes(16)
IMAGE = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}


def simple_text() -> str:
    """Say a sentence."""
    return "This is a simple text response for testing."


def image_content() -> list[Any]:
    """Show a picture."""
    return [IMAGE]


def audio_content() -> list[Any]:
    """Make a sound."""
    return [{"type": "audio", "data": base64.b64encode(WAV).decode(), "mimeType": "audio/wav"}]


def embedded_resource() -> list[Any]:
    """Give a page."""
    return [page("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


def multiple_content_types() -> list[Any]:
    """Give all of it."""
    data = page("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return [{"type": "text", "text": "Multiple content types test:"}, IMAGE, data]


def error_handling() -> str:
    """Fail."""
    raise ToolError("tool_failed", "This tool intentionally returns an error for testing")


def template(id: str) -> dict[str, Any]:
    """Tell of one of many."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


def page(uri: str, kind: str, words: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


FUNCTIONS = (simple_text, image_content, audio_content, embedded_resource, multiple_content_types, error_handling)


def configuration(folder: Path) -> dict[str, Any]:
    """The sections `tools` and `context`; files are written into the folder."""
    (folder / "static.txt").write_text("This is the content of the static text resource.")
    (folder / "static.png").write_bytes(PNG)
    tools = [
        {"name": f"test_{function.__name__}", "function": f"{__name__}:{function.__name__}", "class": "read"}
        for function in (*FUNCTIONS, template)
    ]
    text = {"uri": "test://static-text", "file": str(folder / "static.txt"), "description": "a text"}
    return {
        "tools": {"python": tools},
        "context": {
            "tools": [f"test_{function.__name__}" for function in FUNCTIONS],
            "resources": [
                text,
                {**text, "uri": "test://example-resource"},
                {"uri": "test://static-binary", "file": str(folder / "static.png"), "description": "a picture"},
                {"uri": "test://template/{id}/data", "tool": "test_template", "description": "one of many"},
            ],
            "prompts": [
                {"name": "test_simple_prompt", "messages": [{"text": "This is a simple prompt for testing."}]},
                {
                    "name": "test_prompt_with_arguments",
                    "arguments": {"arg1": {"values": ["testing", "tasting"]}, "arg2": {}},
                    "messages": [{"text": "Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"}],
                },
                {
                    "name": "test_prompt_with_embedded_resource",
                    "arguments": {"resourceUri": {}},
                    "messages": [
                        {"resource": "{resourceUri}"},
                        {"text": "Please process the embedded resource above."},
                    ],
                },
                {
                    "name": "test_prompt_with_image",
                    "messages": [{"resource": "test://static-binary"}, {"text": "Please analyze the image above."}],
                },
            ],
        },
    }
