"""The published schema and reference page, and that both are true."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_autoglm.config.planned import NOTES
from open_autoglm.config.reference import PAGE_FILE, SCHEMA_FILE, json_schema, markdown, schema_text

ROOT = Path(__file__).parents[3]
REGENERATE = "out of date; run `python -m open_autoglm.config.reference` in the root of the repository"


def test_the_committed_files_are_up_to_date() -> None:
    assert (ROOT / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), f"{SCHEMA_FILE} is {REGENERATE}"
    assert (ROOT / PAGE_FILE).read_text(encoding="utf-8") == markdown(), f"{PAGE_FILE} is {REGENERATE}"


def refusals(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """As much of JSON schema as ours uses."""
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return refusals(value, target, root)
    if "anyOf" in schema:
        tried = [refusals(value, each, root) for each in schema["anyOf"]]
        return [] if [] in tried else [f"{value!r} fits none: {tried}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{value!r} not in {schema['enum']}"]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
    kind = schema.get("type")
    if kind == "number":
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, kinds[str(kind)]) and not (kind == "integer" and isinstance(value, bool))
    if not fits:
        return [f"{value!r} is no {kind}"]
    found = []
    if kind in ("number", "integer") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{value!r} out of range")
    if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{value!r} is no {schema['pattern']}")
    if kind == "array":
        found += [each for item in value for each in refusals(item, schema["items"], root)]
    if kind == "object":
        found += [f"{key} is missing" for key in schema.get("required", []) if key not in value]
        for key, each in value.items():
            found += refusals_of_key(key, each, schema, root)
    return found


def refusals_of_key(key: str, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    if key in schema.get("properties", {}):
        return refusals(value, schema["properties"][key], root)
    for pattern, inner in schema.get("patternProperties", {}).items():
        if re.search(pattern, key):
            return refusals(value, inner, root)
    additional = schema.get("additionalProperties", True)
    if isinstance(additional, dict):
        return refusals(value, additional, root)
    return [] if additional else [f"unknown key {key}"]


def checked(text: str) -> list[str]:
    schema = json_schema()
    return refusals(yaml.load(text, Loader=yaml.CSafeLoader), schema, schema)


@pytest.mark.parametrize(
    "path",
    [*sorted(ROOT.glob("tests/data/fixtures/*.*")), ROOT / "examples/mcp_config.yaml"],
    ids=lambda path: path.name,
)
def test_the_schema_accepts_what_the_reader_accepts(path: Path) -> None:
    assert checked(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "server: {port: '${PORT}', maxConnections: 5, worker-threads: 2}",
        "timeouts: {gap: 500ms, total: 30, connect: '${C}'}",
        "limits: {body_bytes: 32MiB, wire: {header-bytes: 1024}}",
        "auth: {api_key: [a, b]}",
        "models:",
        "routing: {fallbacks: {a: b, c: [d]}}",
    ],
)
def test_the_schema_knows_the_notations(text: str) -> None:
    assert checked(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "prot: 1",
        "server: {port: 70000}",
        "server: {port: abc}",
        "timeouts: {gap: 5 parsecs}",
        "timeouts: {gap: 0}",
        "models: [{name: a}]",
        "models: [{name: a, endpoint: http://a, dialect: x}]",
        "logging: {prompts: 3}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    assert checked(text) != []


def test_every_key_says_what_it_means() -> None:
    """A struct whose docstring lacks a field fails while the schema is made; here the descriptions are looked at."""
    schema = json_schema()
    sections = [schema, *(each for each in schema["$defs"].values() if "properties" in each)]
    assert len(sections) > 25
    for section in sections:
        for key, value in section["properties"].items():
            assert len(value["description"]) > 5, key


def test_the_page_shows_defaults_in_their_notation_and_what_is_not_available() -> None:
    page = markdown()
    assert "| `body_bytes` | a size | `32MiB` | of a request's body. |" in page
    assert "| `total` | a duration | `600s` |" in page
    assert "| `ttl` | a duration | `1h` |" in page
    assert "| `name` | a text | **required** |" in page
    for key in NOTES:
        assert f"| `{key}` |" in page


def test_the_schema_is_plain_json() -> None:
    assert json.loads(schema_text()) == json_schema()
