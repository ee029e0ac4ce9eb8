"""One task out of the text of one task: a JSON object, or a call as `search(query="tea", count=$2)`.

The texts are whole and their brackets match, as `plan_parser` found them; hence recursion here is bounded there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from open_autoglm.scheduling.references import ID
from open_autoglm.scheduling.task import Task

REMARKS: Final = frozenset(("description", "name", "note", "reason", "thought", "title"))
"""Fields that models like to add for the reader; they mean nothing here. Any other unknown one is an error."""

_FIELDS = frozenset(Task.__struct_fields__)
_MODEL_FIELDS = ("model", "strategy")  # a strategy is used by the name of its virtual model

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)", re.ASCII)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|' r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:\w+|\{[^{}]*\})", re.ASCII)
_BARE = re.compile(r"-?\d[\w.+-]*|[A-Za-z_]\w*", re.ASCII)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_TO_ESCAPE = re.compile(r'\\(.)|(["\n\r\t])', re.DOTALL)
_ESCAPED = {'"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BYTE = re.compile(r" ?\(byte (\d+)\)$")


class TextProblem(ValueError):
    """What is written is no task.

    Args:
        message: what is wrong.
        at: where, characters from the start of the task's text.
    """

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def task_of_json(text: str) -> Task:
    """Read a JSON object.

    Raises:
        TextProblem: it is no JSON, or no task.
    """
    try:
        fields = msgspec.json.decode(text)
    except msgspec.DecodeError as wrong:
        message = str(wrong)
        byte = _BYTE.search(message)
        at = len(text.encode()[: int(byte[1])].decode("utf-8", "ignore")) if byte else 0
        raise TextProblem(_BYTE.sub("", message), at) from None
    assert isinstance(fields, dict)
    fields = {name: value for name, value in fields.items() if name not in REMARKS}
    for name in _MODEL_FIELDS:
        if name in fields and "tool" not in fields:
            fields["tool"] = f"model:{fields.pop(name)}"
    if unknown := sorted(fields.keys() - _FIELDS):
        raise TextProblem(f"a task has no field {unknown[0]!r}; its fields are {', '.join(sorted(_FIELDS))}")
    for name in ("id", "tool"):
        if name not in fields:
            raise TextProblem(f"a task needs {name!r}")
    fields["id"] = _as_id(fields["id"])
    depends_on = fields.get("depends_on", [])
    if not isinstance(depends_on, list):
        raise TextProblem(f"task {fields['id']!r}: 'depends_on' is a list of ids")
    fields["depends_on"] = [_as_id(item) for item in depends_on]
    try:
        return msgspec.convert(fields, Task)
    except msgspec.ValidationError as wrong:
        raise TextProblem(f"task {fields['id']!r}: {wrong}") from None


def task_of_call(task: str, tool: str, arguments: str, parameters: Sequence[str]) -> Task:
    """Read a call.

    Args:
        task: id of the task.
        tool: name of the tool.
        arguments: what stands between the brackets of the call.
        parameters: names for arguments that are written without one, in their order.

    Raises:
        TextProblem: the arguments are malformed, or one has no name or has it twice.
    """
    return Task(task, tool, _Arguments(arguments).read(parameters))


def _as_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not ID.fullmatch(str(value)):
        raise TextProblem("an id is a number, or up to 64 letters, digits, `_` and `-`")
    return str(value)


class _Arguments:
    """Goes through the arguments once, from left to right."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, parameters: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        unnamed = 0
        while self._peek():
            start = self._at
            if named := _NAME.match(self._text, start):
                self._at = named.end()
                name = named[1]
            elif unnamed == len(found) < len(parameters):
                name = parameters[unnamed]
                unnamed += 1
            else:
                raise TextProblem("an argument without a name: write `name=value`", start)
            if name in found:
                raise TextProblem(f"argument {name!r} is there twice", start)
            found[name] = self._value()
            if self._peek():
                self._take(",")
        return found

    def _value(self) -> Any:
        match self._peek():
            case "[":
                return self._list()
            case "{":
                return self._object()
            case '"' | "'":
                return self._string()
            case "$":
                if reference := _REFERENCE.match(self._text, self._at):
                    self._at = reference.end()
                    return reference[0]
        bare = _BARE.match(self._text, self._at)
        if bare is None:
            raise TextProblem("expected a value", self._at)
        if bare[0] in _WORDS:
            self._at = bare.end()
            return _WORDS[bare[0]]
        try:
            value = msgspec.json.decode(bare[0])
        except msgspec.DecodeError:
            raise TextProblem(f"{bare[0][:80]!r} is no value; texts stand in quotation marks", self._at) from None
        self._at = bare.end()
        return value

    def _list(self) -> list[Any]:
        items: list[Any] = []
        self._at += 1
        while self._peek() != "]":
            items.append(self._value())
            if self._peek() != "]":
                self._take(",")
        self._at += 1
        return items

    def _object(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        self._at += 1
        while self._peek() != "}":
            if self._peek() not in ("'", '"'):
                raise TextProblem("expected a key in quotation marks", self._at)
            key = self._string()
            self._take(":")
            items[key] = self._value()
            if self._peek() != "}":
                self._take(",")
        self._at += 1
        return items

    def _string(self) -> str:
        match = _STRING.match(self._text, self._at)
        assert match is not None  # the parser found its end
        inner = match[1] if match[1] is not None else match[2]
        try:
            value: str = msgspec.json.decode(f'"{_TO_ESCAPE.sub(_as_json, inner)}"')
        except msgspec.DecodeError:
            raise TextProblem("a text with a wrong escape or a control character", self._at) from None
        self._at = match.end()
        return value

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise TextProblem(f"expected `{mark}`", self._at)
        self._at += 1

    def _peek(self) -> str:
        """Skip space; the next character, empty at the end."""
        space = _SPACE.match(self._text, self._at)
        if space is not None:
            self._at = space.end()
        return self._text[self._at : self._at + 1]


def _as_json(match: re.Match[str]) -> str:
    """The escape of one character in a JSON string."""
    if match[2]:
        return _ESCAPED[match[2]]
    return "'" if match[1] == "'" else match[0]
