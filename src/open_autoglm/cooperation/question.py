"""What a client wants of a virtual model, and what a member is asked for it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.dialects.canonical import InferRequest, Message, TextPart, estimate_tokens
from open_autoglm.dialects.support import NEUTRAL
from open_autoglm.errors import RequestError
from open_autoglm.voting.candidate import Ask
from open_autoglm.voting.prompts import QUESTION

_PASSED: Final = ("frequency_penalty", "presence_penalty", "logit_bias", "reasoning_effort", "top_k", "min_p")
"""Fields beside the typed ones that members get as the client wrote them."""
_ALONE: Final = ("logprobs", "top_logprobs", "tools", "functions", "n", "best_of", "echo", "suffix", "modalities")
"""Fields that ask for what one model alone can give."""


class Question(Struct, frozen=True):
    """One client's request.

    Attributes:
        messages: the conversation; what the client asks is the last message of the user.
        parameters: further fields for those who answer, plain JSON values.
        temperature, seed, max_tokens: None where the client did not say.
    """

    messages: tuple[Message, ...]
    parameters: dict[str, Any] = {}
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None

    @property
    def text(self) -> str:
        """What the client asks."""
        return next((message.text() for message in reversed(self.messages) if message.role == "user"), "")

    def asked(self, ask: Ask) -> list[Message]:
        """The conversation for one ask: the client's, with the strategy's prompt in place of what the client asks."""
        messages = list(self.messages)
        if not ask.prompt:
            return messages
        prompt = Message("user", (TextPart(ask.prompt.replace(QUESTION, self.text, 1)),))
        for at in reversed(range(len(messages))):
            if messages[at].role == "user":
                messages[at] = prompt
                return messages
        return [*messages, prompt]

    def prompt_tokens(self, ask: Ask) -> int:
        """About how many tokens an ask's prompt has."""
        return estimate_tokens(sum(len(message.text().encode("utf-8", "replace")) for message in self.asked(ask)))


def question_of(request: InferRequest) -> Question:
    """Read a client's request.

    Raises:
        RequestError: `unsupported_parameter`: it asks for what only one model alone can give, as tool calls.
    """
    if request.kind == "embedding":
        raise _unsupported(request, "input")
    typed = {"n": request.n, "tools": request.tools}
    for name in _ALONE:
        value = typed.get(name)
        if value is None and name in request.extra:
            value = msgspec.json.decode(request.extra[name])
        if value is not None and value not in NEUTRAL.get(name, ()):
            raise _unsupported(request, name)
    parameters: dict[str, Any] = {
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "response_format": request.response_format,
        **{name: msgspec.json.decode(request.extra[name]) for name in _PASSED if name in request.extra},
    }
    most = request.max_tokens
    if most is None and "max_completion_tokens" in request.extra:
        most = msgspec.json.decode(request.extra["max_completion_tokens"], type=int | None)
    return Question(
        messages=_messages(request),
        parameters={name: value for name, value in parameters.items() if value is not None},
        temperature=request.temperature,
        seed=request.seed,
        max_tokens=most,
    )


def _messages(request: InferRequest) -> tuple[Message, ...]:
    if request.kind == "chat":
        return tuple(request.messages)
    prompt = request.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise _unsupported(request, "prompt")
    return (Message("user", (TextPart(prompt),)),)


def _unsupported(request: InferRequest, name: str) -> RequestError:
    param = request.prefix + name
    message = f"a virtual model cannot express {param!r}; leave it out or choose one of its members"
    return RequestError("unsupported_parameter", message, param=param)
