"""What the engine in this process can express of a request.

Its answers are events from the start; `EventRelay` writes them.
"""

from __future__ import annotations

from typing import Any, Final

from open_autoglm.dialects.canonical import InferRequest
from open_autoglm.dialects.logprobs import top_logprobs
from open_autoglm.dialects.openai import message_fields
from open_autoglm.dialects.support import EMBEDDED, EMBEDDED_CHAT, refuse_parts, refuse_unsupported, unsupported

_WHO: Final = "an embedded model"


def embedded_supports(request: InferRequest) -> None:
    """Raise when a request asks for what the engine cannot do.

    Raises:
        RequestError: `unsupported_parameter`, with the field.
    """
    if request.kind == "embedding":
        raise unsupported(request, "input", _WHO)
    refuse_unsupported(request, EMBEDDED_CHAT if request.kind == "chat" else EMBEDDED, _WHO)
    if request.kind == "completion":
        _prompt(request)
    refuse_parts(request, _WHO, tools=True)


def embedded_messages(request: InferRequest) -> list[dict[str, Any]]:
    """The messages for the engine, as plain values in OpenAI's form; a completion's prompt is one message of the user.

    Raises:
        RequestError: `unsupported_parameter`: the prompt is no text.
    """
    if request.kind == "completion":
        return [{"role": "user", "content": _prompt(request)}]
    return [
        {name: value for name, value in message_fields(message).items() if name not in message.extra}
        for message in request.messages
    ]


def embedded_top_logprobs(request: InferRequest) -> int | None:
    """How many of the likeliest tokens are told with each; None for no figures. See `logprobs.top_logprobs`."""
    return top_logprobs(request) if request.kind == "chat" else None


def embedded_tools(request: InferRequest) -> list[dict[str, Any]] | None:
    """The tools that the engine may call: none when the client says `tool_choice: none`."""
    return None if request.tool_choice == "none" else request.tools


def _prompt(request: InferRequest) -> str:
    prompt = request.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if not isinstance(prompt, str):
        raise unsupported(request, "prompt", _WHO)
    return prompt
