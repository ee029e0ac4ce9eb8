"""What the `openai` SDK can ask of each kind of upstream: works, or the field that the 400 names.

The cells are written by hand and must agree with `docs/dialects.md`, which `published` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIALECTS = ("openai", "generate", "embedded")
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
DOCUMENT = Path(__file__).parents[2] / "docs" / "dialects.md"

PICTURE = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "report",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
            "required": ["city", "degrees"],
            "additionalProperties": False,
        },
    },
}
ASKING = [{"role": "user", "content": "hello"}]
LOOKING = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PICTURE}}],
    }
]
FORCED = {"type": "function", "function": {"name": "weather"}}


@dataclass(frozen=True)
class Feature:
    """Something that a client may ask for.

    Attributes:
        name: for test ids.
        route: whose.
        about: the field of the published table that decides; empty for what is always there.
        asked: arguments of the SDK's method beside model and prompt.
        refused: dialects that cannot express it, with the `param` of their 400.
    """

    name: str
    route: str
    about: str
    asked: dict[str, Any]
    refused: dict[str, str] = field(default_factory=dict)


def _text_only(param: str) -> dict[str, str]:
    return {"generate": param, "embedded": param}


FEATURES = (
    Feature("plain", CHAT, "", {}),
    Feature("system and turns", CHAT, "", {"messages": [{"role": "system", "content": "Be brief."}, *ASKING]}),
    Feature("stream", CHAT, "stream", {"stream": True}),
    Feature("stream with usage", CHAT, "stream_options", {"stream": True, "stream_options": {"include_usage": True}}),
    Feature("max_tokens", CHAT, "max_tokens", {"max_tokens": 3}),
    Feature("max_completion_tokens", CHAT, "max_completion_tokens", {"max_completion_tokens": 3}),
    Feature("temperature", CHAT, "temperature", {"temperature": 0.5}),
    Feature("top_p", CHAT, "top_p", {"top_p": 0.5}, {"generate": "top_p"}),
    Feature("stop", CHAT, "stop", {"stop": ["zzz"]}, {"generate": "stop"}),
    Feature("seed", CHAT, "seed", {"seed": 7}, {"generate": "seed"}),
    Feature("n", CHAT, "n", {"n": 2}, _text_only("n")),
    Feature("n streamed", CHAT, "n", {"n": 2, "stream": True}, _text_only("n")),
    Feature("logprobs", CHAT, "logprobs", {"logprobs": True}, {"generate": "logprobs"}),
    Feature("logprobs streamed", CHAT, "logprobs", {"logprobs": True, "stream": True}, {"generate": "logprobs"}),
    Feature("tools", CHAT, "tools", {"tools": [TOOL]}, {"generate": "tools"}),
    Feature("tools streamed", CHAT, "tools", {"tools": [TOOL], "stream": True}, {"generate": "tools"}),
    Feature(
        "forced tool",
        CHAT,
        "tool_choice",
        {"tools": [TOOL], "tool_choice": FORCED},
        {"generate": "tools", "embedded": "tool_choice"},
    ),
    Feature("JSON schema", CHAT, "response_format", {"response_format": SCHEMA}, _text_only("response_format")),
    Feature("images", CHAT, "", {"messages": LOOKING}, _text_only("messages[0].content[1]")),
    Feature("user", CHAT, "user", {"user": "somebody"}),
    Feature("completion", COMPLETIONS, "", {}),
    Feature("completion streamed", COMPLETIONS, "stream", {"stream": True}),
    Feature(
        "completion streamed with usage",
        COMPLETIONS,
        "stream_options",
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    Feature("completion of one in a list", COMPLETIONS, "", {"prompt": ["hello"]}),
    Feature("completion n", COMPLETIONS, "n", {"n": 2}, _text_only("n")),
    Feature("completion suffix", COMPLETIONS, "suffix", {"suffix": "end"}, _text_only("suffix")),
    Feature("completion top_p", COMPLETIONS, "top_p", {"top_p": 0.5}, {"generate": "top_p"}),
    Feature("embeddings", EMBEDDINGS, "input", {}, _text_only("input")),
    Feature("embeddings as numbers", EMBEDDINGS, "input", {"encoding_format": "float"}, _text_only("input")),
    Feature("embeddings of two", EMBEDDINGS, "input", {"input": ["one", "two"]}, _text_only("input")),
)

SAMPLES: dict[str, Any] = {
    "max_tokens": 2,
    "max_completion_tokens": 2,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["zzz"],
    "seed": 7,
    "n": 2,
    "best_of": 2,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [TOOL],
    "tool_choice": FORCED,
    "parallel_tool_calls": False,
    "functions": [{"name": "weather", "parameters": {}}],
    "function_call": {"name": "weather"},
    "response_format": SCHEMA,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {"5": 1},
    "logprobs": True,
    "top_logprobs": 2,
    "reasoning_effort": "low",
    "verbosity": "low",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "4"},
    "web_search_options": {},
    "moderation": {"model": "m"},
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"a": 1},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "mcp_events": True,
    "user": "u",
    "suffix": "end",
    "echo": True,
    "encoding_format": "float",
    "dimensions": 3,
    "any other field": 1,
}
"""A value for each field that asks for something."""

_ROW = re.compile(r"\| `?([a-z_ ]+)`? \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")


def published() -> dict[str, dict[str, dict[str, str]]]:
    """The tables of the document: route, field, dialect -> word."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    route = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            route = line.removeprefix("## `POST ").rstrip("`")
        row = _ROW.fullmatch(line) or _ROW.match(line)
        if row and row[1] not in ("field", "word"):
            words = [cell.strip().strip("*") for cell in row.groups()[1:4]]
            tables.setdefault(route, {})[row[1]] = dict(zip(DIALECTS, words, strict=True))
    return tables
