"""The documents: their links lead somewhere, their configurations are right, no error is without advice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from open_autoglm.config import parse_config
from open_autoglm.errors import CODES, ConfigError
from open_autoglm.server.error_reference import RESERVED

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/how-to", "docs/decisions", "examples")
    for page in ROOT.joinpath(folder).glob("*.md")
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get on code hosts: lower case, no punctuation, hyphens for spaces."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = 1
        name = slug
        while name in found:
            name, count = f"{slug}-{count}", count + 1
        found.add(name)
    return found


def configurations() -> list[tuple[str, str]]:
    """Every block of YAML that is a configuration of ours, with its place."""
    found = []
    for page in PAGES:
        blocks = [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "yaml"]
        for number, text in enumerate(blocks):
            is_ours = not text.startswith("# prometheus.yml") and re.search(r"^\w", text, re.MULTILINE)
            if is_ours:
                found.append((f"{named(page)}#{number}", text))
    return found


def test_there_are_pages_and_configurations() -> None:
    assert len(PAGES) > 15
    assert len(configurations()) > 15


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_there = target.exists() and (not anchor or (target.suffix == ".md" and anchor in anchors(target)))
        if not is_there:
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("text", [pytest.param(text, id=place) for place, text in configurations()])
def test_configurations_are_right(text: str, tmp_path: Path) -> None:
    """Files and variables that a block names are made for it; what it says itself must be right."""
    paths = {one or other for one, other in re.findall(r"file:([\w./-]+)|: ([\w./-]+\.(?:pem|key|md))\b", text)}
    for number, path in enumerate(sorted(paths, key=len, reverse=True)):
        made = tmp_path / f"file{number}"
        made.write_text(f"secret-of-file-number-{number}\n", encoding="ascii")
        made.chmod(0o600)
        text = re.sub(rf"(?<=[: ]){re.escape(path)}(?![\w./-])", str(made), text)
    environ = {name: f"value-of-{name}" for name in re.findall(r"\$\{(\w+)\}", text)}
    try:
        parse_config(text, source="page.yaml", environ=environ, trusted=True)
    except ConfigError as error:
        pytest.fail(error.message)


def test_each_error_has_advice() -> None:
    advised = anchors(ROOT / "docs/troubleshooting.md")
    assert sorted(set(CODES) - set(RESERVED) - advised) == []
    assert sorted(set(RESERVED) & advised) == []


def test_both_readmes_say_the_same() -> None:
    english, chinese = (ROOT.joinpath(name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    translated = {"README.md": "README.zh-CN.md"}
    links = [translated.get(link, link) for link in LINK.findall(chinese)]
    assert sorted(links) == sorted(LINK.findall(english))
    assert len(re.findall(r"^\|", chinese, re.MULTILINE)) == len(re.findall(r"^\|", english, re.MULTILINE))
    assert len(re.findall(r"^#+ ", chinese, re.MULTILINE)) == len(re.findall(r"^#+ ", english, re.MULTILINE))
    for (_, ours), (_, theirs) in zip(BLOCK.findall(english), BLOCK.findall(chinese), strict=True):
        assert _commands(ours) == _commands(theirs)


def _commands(block: str) -> list[str]:
    """A block without its comments and the words that are asked."""
    return [re.sub(r'"content": "[^"]*"', "", re.sub(r"\s+#.*|^#.*", "", line)) for line in block.splitlines()]
