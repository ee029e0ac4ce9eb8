"""What each upstream can express of a request: the published table, and the 400 that follows from it.

| word | meaning |
|---|---|
| passed | goes on by the same name |
| translated | goes on in another form |
| ignored | changes nothing about the answer, and is left out |
| 400 | cannot be expressed: the request is refused, and the field named |

A field that asks for what happens anyway (`n: 1`, `logprobs: false`) is never refused. Only refusing is done here;
`generate`, `embedded` and `openai` do what the table says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from open_autoglm.dialects.canonical import InferRequest, Message, TextPart
from open_autoglm.errors import RequestError

Word = Literal["passed", "translated", "ignored", "400"]

NAME_CHARS_MAX: Final = 100
"""Of a field's name in an error: clients may send any."""

NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "top_p": (1,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("auto", "none"),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "stop": ((), []),
    "store": (False,),
    "stream": (False,),
}
"""Values that ask for what happens anyway."""

_HINTS: Final[dict[str, Word]] = {
    "user": "ignored",
    "metadata": "ignored",
    "safety_identifier": "ignored",
    "service_tier": "ignored",
    "prompt_cache_key": "ignored",
    "prompt_cache_retention": "ignored",
    "prompt_cache_options": "ignored",
    "prediction": "ignored",
    "parallel_tool_calls": "ignored",
    "mcp_events": "ignored",
}
"""Fields that say nothing about what the answer shall be."""

_STREAMED: Final[dict[str, Word]] = {"stream": "passed", "stream_options": "translated"}

GENERATE: Final[dict[str, Word]] = {
    "model": "ignored",
    "messages": "translated",
    "prompt": "passed",
    "max_tokens": "passed",
    "max_completion_tokens": "translated",
    "temperature": "passed",
    **_STREAMED,
    **_HINTS,
}
EMBEDDED: Final[dict[str, Word]] = {
    "model": "passed",
    "messages": "passed",
    "prompt": "translated",
    "max_tokens": "passed",
    "max_completion_tokens": "translated",
    "temperature": "passed",
    "top_p": "passed",
    "stop": "passed",
    "seed": "passed",
    "tools": "passed",
    **_STREAMED,
    **_HINTS,
}
EMBEDDED_CHAT: Final[dict[str, Word]] = {**EMBEDDED, "logprobs": "passed", "top_logprobs": "passed"}
"""Of chat completions; those of other kinds have another form."""
_IGNORED_IN_MESSAGES: Final = frozenset(
    {"name", "refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content", "cache_control"}
)
"""Fields of messages that clients send back as they got them; none of them is part of what was said."""


def refuse_unsupported(request: InferRequest, table: Mapping[str, Word], who: str) -> None:
    """Raise when a request asks for what an upstream cannot express.

    Args:
        request: the request.
        table: `GENERATE`, `EMBEDDED` or `EMBEDDED_CHAT`.
        who: the upstream, as a message names it.

    Raises:
        RequestError: `unsupported_parameter`, with the field.
    """
    for name in _asked(request):
        if table.get(name, "400") == "400":
            raise unsupported(request, name, who)


def refuse_parts(request: InferRequest, who: str, *, tools: bool) -> None:
    """Raise when a message holds more than text, or, unless `tools`, takes part in a tool call.

    Raises:
        RequestError: `unsupported_parameter`, with the place.
    """
    for number, message in enumerate(request.messages):
        place = f"messages[{number}]"
        for position, part in enumerate(message.parts or ()):
            if not isinstance(part, TextPart):
                raise unsupported(request, f"{place}.content[{position}]", who)
        if not tools and message.tool_calls:
            raise unsupported(request, f"{place}.tool_calls", who)
        if not tools and message.role in ("tool", "function"):
            raise unsupported(request, f"{place}.role", who)
        for name in _asked_in_message(message):
            raise unsupported(request, f"{place}.{name}", who)


def unsupported(request: InferRequest, name: str, who: str) -> RequestError:
    """The 400 for one field."""
    param = request.prefix + name[:NAME_CHARS_MAX]
    message = f"{who} cannot express {param!r}; leave it out or choose another model"
    return RequestError("unsupported_parameter", message, param=param)


def _asked(request: InferRequest) -> Iterator[str]:
    """Names of the fields that ask for something."""
    typed = {
        "top_p": request.top_p,
        "stop": request.stop,
        "seed": request.seed,
        "tools": request.tools,
        "tool_choice": request.tool_choice if request.tools else None,
        "response_format": request.response_format,
        "n": request.n,
        "user": request.user,
    }
    for name, value in typed.items():
        if value is not None and value not in NEUTRAL.get(name, ()):
            yield name
    for name, raw in request.extra.items():
        if name not in NEUTRAL or not _is_one_of(raw, NEUTRAL[name]):
            yield name


def _asked_in_message(message: Message) -> Iterator[str]:
    for name, raw in message.extra.items():
        if name not in _IGNORED_IN_MESSAGES and not _is_one_of(raw, (None, [], {}, "", False)):
            yield name


def _is_one_of(raw: msgspec.Raw, values: Sequence[Any]) -> bool:
    """Whether JSON is one of some values; what Python has no number for, as 1e400, is none of them."""
    try:
        return msgspec.json.decode(raw) in values
    except msgspec.MsgspecError:
        return False
