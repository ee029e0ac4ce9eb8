"""JSON (RFC 8259) read into a tree with lines.

The standard library's decoder does not tell lines, keeps the last of two equal keys and recurses without limit;
hence this small one. It accepts exactly JSON.
"""

import json
import re
from bisect import bisect_left

from open_autoglm.config.tree import DEPTH_MAX, NODES_MAX, Entry, Mapping, Node, Scalar, Sequence, TreeError

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"')
_BARE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


def parse_json(text: str, origin: str = "") -> Node:
    """Read a JSON text.

    Args:
        text: the text.
        origin: name of the environment variable that it comes from; its lines then count as 0.

    Raises:
        TreeError: it is no JSON, or goes beyond the limits of a tree.
    """
    reader = _Reader(text, origin)
    node = reader.value(1)
    reader.end()
    return node


class _Reader:
    """Goes through the text once, from left to right; recursion is bounded by `DEPTH_MAX`."""

    __slots__ = ("_at", "_line_breaks", "_nodes", "_origin", "_text")

    def __init__(self, text: str, origin: str) -> None:
        self._text = text
        self._origin = origin
        self._at = 0
        self._nodes = 0
        self._line_breaks = [match.start() for match in re.finditer("\n", text)]

    def value(self, depth: int) -> Node:
        """Read one value, white space before it included."""
        line = self._line()
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise TreeError(f"holds more than {NODES_MAX} values; split it or leave out what is not used", line)
        if depth > DEPTH_MAX:
            raise TreeError(f"is nested deeper than {DEPTH_MAX} levels", line)
        match self._peek():
            case "{":
                return Mapping(tuple(self._entries(depth)), line, self._origin)
            case "[":
                return Sequence(tuple(self._items(depth)), line, self._origin)
            case '"':
                return Scalar(self._string(), line, False, self._origin)
        bare = _BARE.match(self._text, self._at)
        if bare is None:
            raise self._unexpected("a value")
        self._at = bare.end()
        return Scalar(bare[0], line, True, self._origin)

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._peek():
            raise self._unexpected("the end of the text")

    def _entries(self, depth: int) -> list[Entry]:
        entries: list[Entry] = []
        if self._empty("}"):
            return entries
        while True:
            line = self._line()
            if self._peek() != '"':
                raise self._unexpected("a key in double quotes")
            key = self._string()
            if self._peek() != ":":
                raise self._unexpected("`:` after the key")
            self._at += 1
            entries.append(Entry(key, line, self.value(depth + 1)))
            if self._closes("}"):
                return entries

    def _items(self, depth: int) -> list[Node]:
        items: list[Node] = []
        if self._empty("]"):
            return items
        while True:
            items.append(self.value(depth + 1))
            if self._closes("]"):
                return items

    def _empty(self, bracket: str) -> bool:
        """Take the opening bracket, and the closing one when it follows at once; say whether it did."""
        self._at += 1
        if self._peek() != bracket:
            return False
        self._at += 1
        return True

    def _closes(self, bracket: str) -> bool:
        """Take the `,` or the closing bracket that must follow; say whether it was the bracket."""
        following = self._peek()
        if following not in (",", bracket):
            raise self._unexpected(f"`,` or `{bracket}`")
        self._at += 1
        return following == bracket

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise TreeError("a text that is not closed, or holds a wrong escape or control character", self._line())
        line = self._line()
        self._at = match.end()
        value: str = json.loads(match[0])
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise TreeError("a text holds half of a surrogate pair (\\ud800 to \\udfff)", line)
        return value

    def _peek(self) -> str:
        """Skip white space and return the next character, or nothing at the end."""
        space = _SPACE.match(self._text, self._at)
        if space is not None:
            self._at = space.end()
        return self._text[self._at : self._at + 1]

    def _line(self) -> int:
        self._peek()
        return 0 if self._origin else bisect_left(self._line_breaks, self._at) + 1

    def _unexpected(self, expected: str) -> TreeError:
        """Say what was found by its kind or first character alone: the rest may be a secret that lacks its quotes."""
        following = self._peek()
        found = f"`{following}`" if following else "the end of the text"
        if following.isalnum():
            found = "a number" if following.isdigit() else "a word without quotes"
        return TreeError(f"not JSON: expected {expected}, found {found}", self._line())
