"""Writes `docs/dialects.md` from the tables that the code itself goes by.

python -m open_autoglm.dialects.reference > docs/dialects.md
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from open_autoglm.dialects import document, openai_view
from open_autoglm.dialects.canonical import Kind
from open_autoglm.dialects.support import EMBEDDED, EMBEDDED_CHAT, GENERATE, NEUTRAL, Word

CHAT_FIELDS: Final = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "n",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "response_format",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
    "modalities",
    "audio",
    "prediction",
    "web_search_options",
    "moderation",
    "store",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
    "mcp_events",
)
COMPLETION_FIELDS: Final = (
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "n",
    "best_of",
    "stream",
    "stream_options",
    "suffix",
    "echo",
    "logprobs",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "user",
    "mcp_events",
)
EMBEDDING_FIELDS: Final = ("model", "input", "encoding_format", "dimensions", "user")
FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    "chat": CHAT_FIELDS,
    "completion": COMPLETION_FIELDS,
    "embedding": EMBEDDING_FIELDS,
}
_ROUTES: Final[dict[Kind, str]] = {
    "chat": "POST /v1/chat/completions",
    "completion": "POST /v1/completions",
    "embedding": "POST /v1/embeddings",
}
_OTHER: Final = "any other field"

_NOTES: Final[dict[str, str]] = {
    "messages": "generate: becomes a prompt; text only, no tool calls. embedded: text only",
    "prompt": "generate, embedded: one text; no list of several, no tokens",
    "max_completion_tokens": "the same as `max_tokens`",
    "stream_options": "openai: `include_usage` is always asked for upstream; the client sees usage if it asked",
    "model": "openai: replaced by `upstream_model` where that is configured",
    "input": "what `param` names where an upstream has no embeddings",
    "mcp_events": "of virtual models: their events in the stream; the header `x-mcp-events: true` asks for the same",
    "logprobs": "embedded: of chat alone, see below",
    "top_logprobs": "embedded: 0 to 5, with `logprobs: true`",
    "tool_choice": "a forced choice is what cannot be expressed",
}

_INTRODUCTION: Final = f"""# What each upstream can express

<!-- Written by `python -m open_autoglm.dialects.reference`; do not edit. -->

A client speaks the dialect of its route, a model's server the dialect of its endpoint. For each field of each route:

| word | meaning |
|---|---|
| passed | goes on by the same name |
| translated | goes on in another form |
| ignored | changes nothing about the answer, and is left out |
| **400** | cannot be expressed: the request is refused with `unsupported_parameter`, and `param` names the field |

A field that is null, or asks for what happens anyway, is never refused: {{neutral}}.

From `/v1/…` to an upstream that speaks openai the body goes on as it came, byte for byte, unknown fields and numbers of
any size included; only the model's name is replaced, and `stream_options.include_usage` set on streams.

Whatever the upstream, these are refused with 400 `invalid_request`: bodies that are not one JSON object in UTF-8
without byte order mark; more than {document.DEPTH_MAX} levels or {document.NODES_MAX:,} values; a field that is read
here and comes twice; numbers beyond a double's range; more than {openai_view.MESSAGES_MAX:,} messages,
{openai_view.TOOLS_MAX} tools, {openai_view.STOPS_MAX} stops or {openai_view.CHOICES_MAX} answers; and the fields
{", ".join(f"`{name}`" for name in openai_view.FORBIDDEN)}, which would steer where a request goes.
"""

_MCP: Final = """## `POST /mcp/v1/messages`

Fields of a message around the payload; both forms of each are understood, and the answer takes the form of the request.

| field | use |
|---|---|
| `type` or `opcode` | `INFER_REQUEST` or 10; `INFER_RESPONSE` is 11, `INFER_CHUNK` 12, `ERROR` 14, `INFER_EVENT` 23 |
| `mcp_version` | `1.x`; may be left out |
| `trace_id`, `session_id` | come back in the answer |
| `vector` | [version vector](protocol.md#version-vectors-and-time-to-live); only its form is looked at |
| `ttl` | how many servers may pass the message on, up to 2^32 - 1; 0 is refused as expired |
| `payload` | below |
| `meta.retry` | `false` forbids a second attempt |
| `meta.timestamp` | seconds or milliseconds since 1970, or ISO 8601; looked at when signing is on |

Fields of the payload that are ours: `model_hint` (or `model`; may be left out), `timeout_ms`, and one of `data_chunk`
(a text), `prompt` (a text) and `messages`. All others are those of a chat completion, by the same names, with one
answer (`n` is 1):
"""

_ANSWERS: Final = """## Answers

- A client of the dialect that its upstream speaks gets the upstream's answer as it came, once it has been read and
  understood; a missing `[DONE]` is supplied, and with it the usage that the client asked for and the upstream left out;
  a usage event that the client did not ask for is kept from it.
- Anything else is written anew. Thinking is `reasoning_content` in chat and `reasoning` in our own protocol.
- An upstream that does not count tokens is estimated for, at a quarter of the UTF-8 bytes; such a `usage` carries
  `"estimated": true`, since SDKs expect the figures to be there.
- `generate` upstreams: the text is read from `text`, `response` or `generated_text`, in an object or a list of one.
  In a stream, a text in a list and a text beside `meta_info` is the whole text so far, any other text is the next
  piece. A prompt that is repeated before a text in a list is taken off. The finish reason is the upstream's where it
  is one that clients know, else `stop`.
- `logprobs.content` of an embedded model has an entry for every token that it wrote: those of its thinking first, with
  the marks `<think>` and `</think>` as entries of their own. The figures are the model's own, of its whole vocabulary
  and at temperature 1; what a constraint or the sampling made of them is not in them. An answer that the calculator
  gave has none (`"logprobs": null`). In a stream they come with the text that they belong to, or the next.
- A conversation becomes a prompt for `generate` like this: one message of the user alone as it stands; anything else
  as `System: …`, `User: …`, `Assistant: …`, each on a new line, with `Assistant:` at the end unless the last message is
  the assistant's own.
"""


def render() -> str:
    """The document."""
    neutral = [
        f"`{name}: {msgspec.json.encode(value).decode()}`"
        for name, values in NEUTRAL.items()
        for value in values
        if value != ()
    ]
    parts = [_INTRODUCTION.replace("{neutral}", ", ".join(neutral))]
    for kind, route in _ROUTES.items():
        parts.append(f"## `{route}`\n\n{_table(FIELDS[kind], kind, same=True)}")
    parts.append(_MCP + "\n" + _table(tuple(name for name in CHAT_FIELDS if name not in _OURS), "chat", same=False))
    parts.append(_ANSWERS)
    return "\n".join(parts)


_OURS: Final = frozenset({"model", "messages", "n", "stream", "stream_options"})


def _table(fields: tuple[str, ...], kind: Kind, *, same: bool) -> str:
    lines = ["| field | openai | generate | embedded | |", "|---|---|---|---|---|"]
    for name in (*fields, _OTHER):
        shown = name if name == _OTHER else f"`{name}`"
        openai: Word = "passed"
        if name == "model" or (name == "stream_options" and same):
            openai = "translated"
        embedded = EMBEDDED_CHAT if kind == "chat" else EMBEDDED
        words = (openai, _word(GENERATE, name, kind), _word(embedded, name, kind))
        cells = " | ".join(f"**{word}**" if word == "400" else word for word in words)
        lines.append(f"| {shown} | {cells} | {_NOTES.get(name, '')} |")
    return "\n".join(lines) + "\n"


def _word(table: Mapping[str, Word], name: str, kind: Kind) -> Word:
    return "400" if kind == "embedding" else table.get(name, "400")


if __name__ == "__main__":
    sys.stdout.write(render())
