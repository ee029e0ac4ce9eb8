"""The plain dialect of a single route: `{"prompt", "max_tokens", "temperature", "stream"}` in, text out.

A conversation becomes a prompt by this rule: one message of the user alone is the prompt as it stands; anything else is
`System: …`, `User: …`, `Assistant: …`, each on a new line, and `Assistant:` at the end, unless the last message is the
assistant's own, which is then continued. Answers: see `generate_answer`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from open_autoglm.dialects.canonical import InferRequest, Kind
from open_autoglm.dialects.generate_answer import GenerateDecoder
from open_autoglm.dialects.refusal import Refusal, classify
from open_autoglm.dialects.support import GENERATE, refuse_parts, refuse_unsupported, unsupported
from open_autoglm.dialects.upstream import DialectName
from open_autoglm.errors import RequestError

_WHO: Final = "a server that speaks generate"
_SPEAKERS: Final = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


class GenerateDialect:
    """See `UpstreamDialect`."""

    __slots__ = ()
    name: ClassVar[DialectName] = "generate"

    def path(self, kind: Kind) -> str:
        """Nothing: the endpoint is the route itself."""
        return ""

    def encode(self, request: InferRequest, upstream_model: str, *, want_usage: bool = True) -> bytes:
        """See `UpstreamDialect.encode`. The model's name is not sent: the route has one model."""
        if request.kind == "embedding":
            raise unsupported(request, "input", _WHO)
        refuse_unsupported(request, GENERATE, _WHO)
        if request.max_tokens is not None and request.max_tokens < 1:
            message = f"max_tokens is {request.max_tokens}; it must be at least 1"
            raise RequestError("invalid_request", message, param=f"{request.prefix}max_tokens")
        body: dict[str, Any] = {"prompt": prompt_of(request)}
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.stream:
            body["stream"] = True
        return msgspec.json.encode(body)

    def decoder(self, streamed: bool, request: InferRequest | None = None) -> GenerateDecoder:
        """See `UpstreamDialect.decoder`."""
        return GenerateDecoder(prompt_of(request) if request is not None else "")

    def classify(self, status: int, content_type: str, body: bytes) -> Refusal:
        """See `UpstreamDialect.classify`."""
        return classify(status, body)


def prompt_of(request: InferRequest) -> str:
    """The prompt for a request; see the module for the rule.

    Raises:
        RequestError: `unsupported_parameter`: there is more than text in it, or more than one prompt.
    """
    if request.kind == "completion":
        prompt = request.prompt
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise unsupported(request, "prompt", _WHO)
        return prompt
    refuse_parts(request, _WHO, tools=False)
    messages = request.messages
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text()
    lines = [f"{_SPEAKERS.get(message.role, message.role)}: {message.text()}" for message in messages]
    if messages and messages[-1].role == "assistant":
        return "\n".join(lines)
    return "\n".join([*lines, "Assistant:"])
