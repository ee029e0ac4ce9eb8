"""The configuration reader against texts that are almost right, and texts that are nothing at all."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.config_reader import fuzz_one

from open_autoglm.config import ServerConfig, parse_config
from open_autoglm.config.json_tree import parse_json
from open_autoglm.config.tree import NODES_MAX, Mapping, Node, Scalar, Sequence, TreeError
from open_autoglm.config.yaml_tree import parse_yaml
from open_autoglm.errors import ConfigError

ROOT = Path(__file__).parents[2]
VALID = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("tests/data/fixtures/*.*"))]
VALID.append((ROOT / "examples/mcp_config.yaml").read_text(encoding="utf-8"))
CHOICES = st.integers(min_value=0, max_value=31)
PIECES = """
: - { } [ ] " ' &a *a <<: ${ ${PORT} $${ file: file:/dev/zero null ~ 1e999 -1 0 # % ? | > , models auth 500ms 9h
!!int 99999999999999999999 http://a:b@c unix:/x:/v1 embedded:x mcp://h:1 模型 enabled:true
"""
SPACES = ["", " ", "\n", "\t", "\x00", "---\n", "&a ", ": ", "- ", "\n  ", "\ud800", "\ue000"]
FRAGMENTS = st.sampled_from([*PIECES.split(), *SPACES])


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid file with some pieces cut out, doubled, moved or replaced."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(min_value=1, max_value=6))):
        start = draw(st.integers(min_value=0, max_value=len(text)))
        end = draw(st.integers(min_value=start, max_value=min(len(text), start + 40)))
        piece = draw(st.one_of(FRAGMENTS, st.text(max_size=8), st.just(text[start:end] * 2)))
        text = text[:start] + piece + text[end:]
    return text


@given(CHOICES, mutated())
@settings(max_examples=400, deadline=None)
def test_a_mutated_file_is_read_or_refused(choice: int, text: str) -> None:
    fuzz_one(bytes([choice]) + text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
@example(b"\x00" + b"[" * 5000)
@example(b"\x01" + b"[" * 5000)
@example(b"\x00" + b"- " * 5000)
@example(b"\x04models: ${LONG}${LONG}")
@example(b"\x0c\xff\xfe")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    fuzz_one(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def plain(node: Node) -> object:
    """What a tree of JSON says, by the standard library's understanding of its scalars."""
    match node:
        case Mapping(entries=entries):
            return {entry.key: plain(entry.value) for entry in entries}
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Scalar(text=text, plain=True):
            return {"true": True, "false": False, "null": None}.get(text, text)
        case Scalar(text=text):
            return ("text", text)
    raise AssertionError(node)


def told(value: object) -> object:
    """The same of a value that was written as JSON."""
    match value:
        case dict():
            return {key: told(each) for key, each in value.items()}
        case list():
            return [told(each) for each in value]
        case str():
            return ("text", value)
        case bool() | None:
            return value
    return json.dumps(value)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=200, deadline=None)
def test_json_means_what_the_standard_library_means(value: object, ascii_only: bool, indent: int | None) -> None:
    assert plain(parse_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent))) == told(value)


@given(st.text(alphabet=st.sampled_from('{}[]",:-01.eE+tfn\\u \n'), max_size=30))
@settings(max_examples=500, deadline=None)
def test_json_is_accepted_exactly_when_the_standard_library_does(text: str) -> None:
    try:
        json.loads(text, parse_constant=lambda word: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(TreeError):
            parse_json(text)
    else:
        parse_json(text)


@given(st.integers(min_value=2, max_value=30), st.integers(min_value=2, max_value=30))
@settings(max_examples=50, deadline=None)
def test_aliases_never_grow_beyond_the_limit(width: int, levels: int) -> None:
    """Each level holds the one before `width` times, so it stands for width ** levels values."""
    lines = ["l0: &l0 [x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels + 1)]
    text = "\n".join(lines)
    if width**levels > NODES_MAX or levels > 31:
        with pytest.raises(TreeError, match=r"more than|deeper than"):
            parse_yaml(text)
    with pytest.raises(ConfigError):
        parse_config(text, source="bomb.yaml", environ={}, trusted=True)


@given(mutated())
@settings(max_examples=100, deadline=None)
def test_a_text_from_the_network_never_reaches_the_environment(text: str) -> None:
    """Whatever is accepted without trust, no secret of it comes from elsewhere."""
    environ = dict.fromkeys(("UPSTREAM_TOKEN", "PORT", "MCP_API_KEY", "MCP_ADMIN_KEY", "OPENAI_API_KEY"), "CANARY")
    try:
        loaded = parse_config(text, source="api", environ=environ, trusted=False)
    except ConfigError as refusal:
        shown = refusal.message
    else:
        shown = "\n".join(loaded.warnings)
        _check_secrets(loaded.config)
    assert "CANARY" not in shown


def _check_secrets(config: ServerConfig) -> None:
    secrets = [model.token for model in config.models] + [key.key for key in config.auth.keys]
    assert all(secret.origin == "value" for secret in secrets if secret is not None)
