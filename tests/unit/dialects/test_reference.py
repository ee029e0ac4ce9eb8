"""The published table says what the code does, and the file is the one that the code writes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from open_autoglm.dialects import GenerateDialect, InferRequest
from open_autoglm.dialects.canonical import Kind
from open_autoglm.dialects.embedded import embedded_supports
from open_autoglm.dialects.parameters import read_request
from open_autoglm.dialects.reference import FIELDS, render
from open_autoglm.dialects.support import EMBEDDED, EMBEDDED_CHAT, GENERATE, NEUTRAL
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import body

DOCUMENT = Path(__file__).parents[3] / "docs" / "dialects.md"
ASKING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "stop": ["x"],
    "seed": 1,
    "n": 2,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_object"},
    "user": "u",
}
"""A value of the right type that asks for something; of other fields any will do."""
PROMPTS: dict[Kind, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "completion": {"prompt": "hi"},
    "embedding": {"input": "hi"},
}


def request_with(kind: Kind, name: str, value: Any) -> InferRequest:
    fields: dict[str, Any] = {"model": "m", **PROMPTS[kind]}
    if name not in fields:
        fields[name] = value
    if name == "tool_choice":
        fields["tools"] = ASKING["tools"]
    return read_request(body(fields), kind)


def refused_by_generate(request: InferRequest) -> bool:
    try:
        GenerateDialect().encode(request, "m")
    except RequestError as error:
        return error.code == "unsupported_parameter"
    return False


def refused_by_embedded(request: InferRequest) -> bool:
    try:
        embedded_supports(request)
    except RequestError as error:
        return error.code == "unsupported_parameter"
    return False


def test_the_file_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "run python -m open_autoglm.dialects.reference"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in ("chat", "completion") for name in FIELDS[kind]])
def test_the_table_is_true(kind: Kind, name: str) -> None:
    request = request_with(kind, name, ASKING.get(name, "asked"))
    extra_tools = name == "tool_choice"
    assert refused_by_generate(request) is (extra_tools or GENERATE.get(name, "400") == "400")
    embedded = EMBEDDED_CHAT if kind == "chat" else EMBEDDED
    assert refused_by_embedded(request) is (embedded.get(name, "400") == "400")


@pytest.mark.parametrize("name", FIELDS["embedding"])
def test_no_upstream_but_openai_has_embeddings(name: str) -> None:
    request = request_with("embedding", name, ASKING.get(name, "asked"))
    assert refused_by_generate(request)
    assert refused_by_embedded(request)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NEUTRAL.items() for value in values])
def test_what_asks_for_nothing_is_never_refused(name: str, value: Any) -> None:
    for given in (msgspec.to_builtins(value), None):
        request = request_with("chat", name, given if name != "tool_choice" else None)
        assert not refused_by_embedded(request)
        if name != "tool_choice":
            assert not refused_by_generate(request)


def test_every_field_of_the_tables_is_in_the_document() -> None:
    listed = {name for fields in FIELDS.values() for name in fields}
    assert set(GENERATE) | set(EMBEDDED) | set(NEUTRAL) <= listed
