"""A configuration as it was written: scalars, lists and maps, each with its line.

Both notations (YAML, JSON) and the environment are read into this tree before anything is interpreted, so that
every later complaint can say where the value stands. Scalars keep the text that was typed; what it means is
decided by the type of the field it stands for (`name: 123` is a name, `port: 123` is a number).

Invariant: a tree holds at most `NODES_MAX` values, counted after aliases are expanded, and is at most `DEPTH_MAX` deep.
"""

import re
from dataclasses import dataclass

TEXT_BYTES_MAX = 2**20
"""Size of a configuration, bytes: a thousand models take a third of it."""

DEPTH_MAX = 32
"""Levels of lists and maps; the deepest key that we know stands on level 5."""

NODES_MAX = 100_000
"""Values of a configuration, aliases expanded; the largest honest files stay below a tenth of it."""

SHOWN_CHARACTERS_MAX = 80
"""Of a value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value.

    Attributes:
        text: as typed, without quotes and with escapes resolved.
        line: counted from 1; 0 when it comes from the environment.
        plain: written without quotes, so that it may be a number, a truth value or nothing at all.
        origin: name of the environment variable that it comes from, else empty.
    """

    text: str
    line: int
    plain: bool
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    line: int
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A map, its keys as typed and in order. Keys may repeat; the reader of types refuses that."""

    entries: tuple["Entry", ...]
    line: int
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a map and what stands under it; `line` is the key's."""

    key: str
    line: int
    value: "Node"


Node = Scalar | Sequence | Mapping

_MASKED = re.compile(r"(?P<lead>//)[^/@\s]*@|(?P<name>(?:password|passwd|pwd|secret|token|key)=)[^&\s]*", re.IGNORECASE)
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


class TreeError(Exception):
    """A text that is no configuration at all.

    Args:
        message: what is wrong and what to do.
        line: counted from 1; 0 when it concerns the text as a whole.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def is_nothing(node: Node) -> bool:
    """Whether the value is `null`, `~` or left empty, which counts as left out."""
    return isinstance(node, Scalar) and node.plain and node.text in _NOTHING


def describe(node: Node) -> str:
    """Name a value in a message: the typed text, shortened, or `a list`, `a map`, `nothing`."""
    if isinstance(node, Mapping):
        return "a map"
    if isinstance(node, Sequence):
        return "a list"
    return "nothing" if is_nothing(node) else shorten(node.text)


def masked(text: str) -> str:
    """Hide what an address may carry: `//user:password@` and `password=…`."""
    return _MASKED.sub(lambda match: f"{match['lead']}***@" if match["lead"] else f"{match['name']}***", text)


def shorten(text: str) -> str:
    """Quote a text for a message: masked, cut to `SHOWN_CHARACTERS_MAX`."""
    shown = masked(text[: 4 * SHOWN_CHARACTERS_MAX])
    if len(shown) <= SHOWN_CHARACTERS_MAX:
        return repr(shown)
    return f"{shown[: SHOWN_CHARACTERS_MAX - 1]!r}… ({len(text)} characters)"
