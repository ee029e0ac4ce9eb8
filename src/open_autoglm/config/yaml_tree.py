"""YAML read into a tree with lines, by PyYAML's parser on libyaml.

Only the parser's events are taken, so nothing is constructed, tags mean nothing (and are refused), and depth and
number of values are bounded while reading. An alias shares its anchor's values and counts with all of them, so nested
aliases cannot grow beyond `NODES_MAX`. `<<` merges maps as YAML 1.1 says.

`${NAME}` may stand unquoted inside `{...}` and `[...]`, where braces mean something to YAML: it is carried through
the parser with two characters of Unicode's private use area in place of its brackets.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from open_autoglm.config.tree import DEPTH_MAX, NODES_MAX, Entry, Mapping, Node, Scalar, Sequence, TreeError

if TYPE_CHECKING:
    import yaml

_REFERENCE = re.compile(r"\$\{([^{}\s]*)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
_STRAY = re.compile(f"[{_OPEN}{_CLOSE}\ud800-\udfff]")
_MERGE_KEY = "<<"


def parse_yaml(text: str) -> Node:
    """Read a YAML text of one document.

    Raises:
        TreeError: it is no YAML, or goes beyond the limits of a tree.
    """
    import yaml  # 12 ms that a start without a file should not pay

    stray = _STRAY.search(text)
    if stray is not None:
        line = text.count("\n", 0, stray.start()) + 1
        raise TreeError(f"holds the character U+{ord(stray[0]):04X}, which means nothing in a configuration", line)
    carried = _REFERENCE.sub(rf"{_OPEN}\1{_CLOSE}", text)
    composer = _Composer()
    try:
        for event in yaml.parse(carried, Loader=yaml.CSafeLoader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text) from None
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, carried) from None
    if composer.root is None:
        raise TreeError("is empty; write at least `models:` with one entry")
    return composer.root


@dataclass(slots=True)
class _Open:
    """A list or map that has not ended yet. In a map, keys and values alternate in `values`."""

    is_map: bool
    line: int
    anchor: str | None
    values: list[Node] = field(default_factory=list)
    nodes: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an anchor names, with its number of values and its levels."""

    node: Node
    nodes: int
    height: int


class _Composer:
    """Builds the tree from events; a stack instead of recursion."""

    __slots__ = ("_anchors", "_nodes", "_stack", "root")

    def __init__(self) -> None:
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0

    def take(self, event: Any) -> None:  # the stubs do not tell the kinds of events apart
        """Take the parser's next event.

        Raises:
            TreeError: beyond the limits, or something that a configuration has no use for.
        """
        line = event.start_mark.line + 1
        match type(event).__name__:
            case "ScalarEvent":
                self._refuse_tag(event, line)
                plain = event.style in (None, "") and event.tag is None
                scalar = Scalar(_restored(event.value), line, plain)
                self._place(_Anchored(scalar, 1, 1), event.anchor, line)
            case "AliasEvent":
                anchored = self._anchors.get(event.anchor)
                if anchored is None:
                    raise TreeError("`*` takes an anchor (`&`) that ended before it; quote a text that begins so", line)
                self._place(anchored, None, line)
            case "SequenceStartEvent" | "MappingStartEvent" as name:
                self._refuse_tag(event, line)
                if len(self._stack) >= DEPTH_MAX:
                    raise TreeError(f"is nested deeper than {DEPTH_MAX} levels", line)
                self._stack.append(_Open(name == "MappingStartEvent", line, event.anchor))
            case "SequenceEndEvent" | "MappingEndEvent":
                closed = self._stack.pop()
                node: Node = _mapping(closed) if closed.is_map else Sequence(tuple(closed.values), closed.line)
                self._place(_Anchored(node, closed.nodes, closed.height), closed.anchor, closed.line)
            case "DocumentStartEvent" if self.root is not None:
                raise TreeError("holds a second document (`---`); a configuration is one", line)

    def _place(self, made: _Anchored, anchor: str | None, line: int) -> None:
        """Put a finished value where it belongs and count it."""
        if anchor is not None:
            self._anchors[anchor] = made
        if not self._stack:
            self.root = made.node
            return
        parent = self._stack[-1]
        parent.values.append(made.node)
        parent.nodes += made.nodes
        parent.height = max(parent.height, made.height + 1)
        if parent.nodes > NODES_MAX:
            raise TreeError(f"holds more than {NODES_MAX} values, aliases counted; leave out what is not used", line)
        if len(self._stack) + made.height > DEPTH_MAX + 1:
            raise TreeError(f"is nested deeper than {DEPTH_MAX} levels through an alias", line)

    @staticmethod
    def _refuse_tag(event: Any, line: int) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise TreeError("a tag (`!`) means nothing here; leave it out, or quote a text beginning so", line)


def _mapping(closed: _Open) -> Mapping:
    """Make a map of alternating keys and values; what `<<` brings yields to the map's own keys."""
    own: list[Entry] = []
    merged: list[Entry] = []
    for key, value in zip(closed.values[::2], closed.values[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise TreeError("a key must be a plain word, not a list or a map", key.line)
        if key.text == _MERGE_KEY and key.plain:
            merged.extend(_merged(value))
        else:
            own.append(Entry(key.text, key.line, value))
    taken = {entry.key for entry in own}
    for entry in merged:
        if entry.key not in taken:
            taken.add(entry.key)
            own.append(entry)
    return Mapping(tuple(own), closed.line)


def _merged(value: Node) -> list[Entry]:
    maps = value.items if isinstance(value, Sequence) else (value,)
    entries: list[Entry] = []
    for each in maps:
        if not isinstance(each, Mapping):
            raise TreeError("`<<` takes a map, or a list of maps", value.line)
        entries.extend(each.entries)
    return entries


def _restored(text: str) -> str:
    return text.replace(_OPEN, "${").replace(_CLOSE, "}")


def _explained(error: "yaml.MarkedYAMLError", text: str) -> TreeError:
    """Say in our words what the parser met; its own words for the rest, without the line that it quotes."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    indentation = written[: len(written) - len(written.lstrip())]
    if "\t" in indentation:
        return TreeError("a tab in the indentation; YAML wants spaces", line)
    if written[mark.column : mark.column + 1] in ("@", "`", "%") if mark is not None else False:
        return TreeError("a text that begins with `@`, `%` or a back-tick needs quotes", line)
    problem = str(error.problem or error.context or "cannot be read")
    since = ""
    if error.context and error.context_mark is not None and error.problem:
        since = f" ({error.context}, begun on line {error.context_mark.line + 1})"
    return TreeError(f"not YAML: {problem}{since}", line)


def _unreadable(error: "yaml.reader.ReaderError", text: str) -> TreeError:
    position = error.position if isinstance(error.position, int) else 0
    line = text[:position].count("\n") + 1
    return TreeError(f"holds the character U+{int(error.character):04X}, which YAML does not allow; remove it", line)
