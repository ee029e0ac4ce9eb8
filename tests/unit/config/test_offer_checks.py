"""What cannot be offered to clients of the context protocol is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_autoglm.errors import ConfigError

from .conftest import Parse

TOOLS = """\
tools:
  python:
    - {name: stock, function: "a:b", class: read}
    - {name: order, function: "a:c"}
    - {name: wipe, function: "a:d", class: dangerous}
  http:
    - {name: list_models, url: "https://x/"}
    - {name: city, url: "https://x/{id}?full={full}", arguments: {full: {type: boolean, required: false}}}
  context:
    - {name: files, command: [x], tools: [look], classes: {look: read}}
context:
"""


def test_what_fits_is_taken(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a page")
    config = parse(
        TOOLS + "  writes: true\n  tools: [stock, order, calculator, files.look]\n  resources:\n"
        f"    - {{uri: 'docs://a', file: '{tmp_path}/a.md'}}\n"
        "    - {uri: 'crm://{id}/card', tool: stock}\n"
        "    - {uri: 'city://{id}', tool: city}\n"
        "  prompts:\n    - name: review\n      arguments: {id: {}}\n"
        "      messages: [{text: '{\"a\": {id}}'}, {resource: 'crm://{id}/card'}, {resource: 'docs://a'},"
        " {resource: 'autoglm://status'}]\n"
    ).config
    assert config.context.tools == ["stock", "order", "calculator", "files.look"]
    assert config.context.resources[0].file == str(tmp_path / "a.md")


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("  tools: [order]", "context.tools[0]", "of class write"),
        ("  writes: true\n  tools: [wipe]", "context.tools[0]", "dangerous"),
        ("  tools: [list_models]", "context.tools[0]", "the server's own"),
        ("  tools: [stock, stock]", "context.tools[1]", "offered already"),
        ("  tools: [none]", "context.tools[0]", "no tool is called"),
        ("  tools: [files.wipe]", "context.tools[0]", "no tool is called"),
        ("  resources: [{uri: 'docs://a'}]", "context.resources[0]", "either `file` or `tool`"),
        ("  resources: [{uri: 'docs://a', file: /no/such}]", "context.resources[0].file", "/no/such"),
        (f"  resources: [{{uri: 'docs://{{a}}', file: '{__file__}'}}]", "context.resources[0].uri", "without places"),
        ("  resources: [{uri: 'autoglm://a', tool: stock}]", "context.resources[0].uri", "the server's own"),
        ("  resources: [{uri: 'a b', tool: stock}]", "context.resources[0].uri", "no address"),
        ("  resources: [{uri: 'a:{b', tool: stock}]", "context.resources[0].uri", "no address"),
        ("  writes: true\n  resources: [{uri: 'a:b', tool: order}]", "context.resources[0].tool", "of class write"),
        ("  resources: [{uri: 'a:b', tool: stock, media_type: text}]", "context.resources[0].media_type", "media"),
        ("  resources: [{uri: 'a:b', tool: stock}, {uri: 'a:b', tool: stock}]", "context.resources[1].uri", "unique"),
        ("  resources: [{uri: 'a:{b}/{b}', tool: stock}]", "context.resources[0].uri", "two places of one name"),
        ("  resources: [{uri: 'a:b', tool: city}]", "context.resources[0].uri", "needs ['id']"),
        ("  resources: [{uri: 'a:{id}/{b}', tool: city}]", "context.resources[0].uri", "no text called 'b'"),
        ("  resources: [{uri: 'a:{id}/{full}', tool: city}]", "context.resources[0].uri", "no text called 'full'"),
        ("  prompts: [{name: a b, messages: [{text: x}]}]", "context.prompts[0].name", "no name"),
        ("  prompts: [{name: a, messages: []}]", "context.prompts[0].messages", "empty"),
        ("  prompts: [{name: a, messages: [{role: user}]}]", "context.prompts[0].messages[0]", "either"),
        (
            "  prompts: [{name: a, messages: [{resource: 'a:{b}'}]}]",
            "context.prompts[0].messages[0].resource",
            "argument",
        ),
        ("  prompts: [{name: a, messages: [{resource: 'a:b'}]}]", "context.prompts[0].messages[0].resource", "no page"),
        ("  prompts: [{name: a, arguments: {'a b': {}}, messages: [{text: x}]}]", "arguments.a b", "letters"),
    ],
)
def test_each_mistake_is_told(parse: Parse, text: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TOOLS + text + "\n")
    [problem] = caught.value.problems
    assert path in problem.path
    assert words in problem.message
    assert problem.line > 10
