"""References to results of other tasks inside a task's arguments.

| written | means |
|---|---|
| `$id` | the result of task `id`; the name is the longest run of ASCII letters, digits and `_` |
| `${id}` | the same, where more text follows or the id holds `-` |
| `${id.field}` | one field of it, or one item of a list (`${id.0}`), as deep as needed |
| `$$` | a dollar sign |
| `$` before anything else | itself |

A string that is one reference and nothing else becomes the value itself, of whatever JSON type; inside other text it
is put as `as_text` writes it. References are looked for in strings at any depth, not in the keys of
objects, and not in what they are replaced by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from open_autoglm.errors import RequestError

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What an id may look like."""

FILLED_CHARS_MAX: Final = 4 * 1024 * 1024
"""Characters of one task's texts after filling: results may be put into them many times over."""

_REFERENCE = re.compile(r"\$(?:(\$)|([A-Za-z0-9_]+)|\{([^{}]*)\}|(\{))")


class ReferenceProblem(RequestError):
    """A reference that is malformed, or points at nothing.

    Args:
        message: which one, and what is wrong with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__("invalid_request", message)


def needed(value: Any) -> tuple[str, ...]:
    """Ids that a JSON value refers to, each once, in the order in which they stand.

    Raises:
        ReferenceProblem: a reference is malformed.
    """
    return tuple(dict.fromkeys(_path(match)[0] for text in _texts(value) for match in _references(text)))


def fill(value: Any, results: Mapping[str, Any]) -> Any:
    """Put results in the place of the references to them.

    Args:
        value: JSON value; it is not changed.
        results: id -> JSON value.

    Returns:
        A value without references; parts that had none may be shared with `value`, and results with `results`.

    Raises:
        ReferenceProblem: a reference is malformed, or there is no such result or field, or it grows too long.
    """
    return _Filling(results).value(value)


def rename(value: Any, names: Mapping[str, str]) -> Any:
    """Make references point at other ids; each is written as `${id}` then, so that equal ones look alike.

    Args:
        value: JSON value; it is not changed.
        names: id -> new id; those that are not there stay.

    Raises:
        ReferenceProblem: a reference is malformed.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: match[0] if match[1] else _renamed(match, names), value)
    if isinstance(value, dict):
        return {key: rename(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rename(item, names) for item in value]
    return value


def apart(value: Any) -> tuple[Any, tuple[str, ...]]:
    """Take the ids out of the references.

    Returns:
        The value with references that name no task, and with its keys in order; and the ids in the order in which they
        stood in it. Two values that `rename` makes equal have equal ones of both.

    Raises:
        ReferenceProblem: a reference is malformed.
    """
    ordered = msgspec.json.decode(msgspec.json.encode(value, order="deterministic"))
    ids = tuple(_path(match)[0] for text in _texts(ordered) for match in _references(text))
    return rename(ordered, dict.fromkeys(ids, "")), ids


def as_text(value: Any) -> str:
    """Write a JSON value into a text: a string as it is, all else as JSON.

    Of an object whose only field is `result`, as many tools give it, that field is written.
    """
    if isinstance(value, dict) and value.keys() == {"result"}:
        return as_text(value["result"])
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def escape(text: str) -> str:
    """Write a text so that `fill` gives it back as it is."""
    return text.replace("$", "$$")


class _Filling:
    """One call of `fill`; counts what it writes."""

    __slots__ = ("_left", "_results")

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._results = results
        self._left = FILLED_CHARS_MAX

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def _text(self, text: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None and not whole[1]:
            result = self._result(whole)
            self._count(as_text(result))  # it is shared here, and written out many times over as JSON
            return result
        pieces: list[str] = []
        at = 0
        for match in _REFERENCE.finditer(text):
            self._write(text[at : match.start()], pieces)
            self._write("$" if match[1] else as_text(self._result(match)), pieces)
            at = match.end()
        self._write(text[at:], pieces)
        return "".join(pieces)

    def _write(self, piece: str, pieces: list[str]) -> None:
        self._count(piece)
        pieces.append(piece)

    def _count(self, piece: str) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise ReferenceProblem(f"with the results filled in, the arguments exceed {FILLED_CHARS_MAX} characters")

    def _result(self, match: re.Match[str]) -> Any:
        task, *fields = _path(match)
        if task not in self._results:
            raise ReferenceProblem(
                f"`{match[0][:80]}` refers to task {task!r}, which has no result; write `$$` for a dollar sign"
            )
        value = self._results[task]
        for field in fields:
            if isinstance(value, dict) and field in value:
                value = value[field]
            elif isinstance(value, list) and field.isdecimal() and len(field) < 10 and int(field) < len(value):
                value = value[int(field)]
            else:
                raise ReferenceProblem(f"`{match[0][:80]}`: the result of task {task!r} has no {field[:80]!r} there")
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _references(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _REFERENCE.finditer(text) if not match[1])


def _path(match: re.Match[str]) -> list[str]:
    """The id, then the fields."""
    if match[2]:
        path = [match[2]]
    elif match[4]:
        raise ReferenceProblem("`${` without its `}`; write `$${` when it is no reference")
    else:
        path = match[3].split(".")
    if not ID.fullmatch(path[0]) or not all(path):
        raise ReferenceProblem(f"`{match[0][:80]}` is no reference: write `$id`, `${{id}}`, `${{id.field}}`, or `$$`")
    return path


def _renamed(match: re.Match[str], names: Mapping[str, str]) -> str:
    task, *fields = _path(match)
    return f"${{{'.'.join((names.get(task, task), *fields))}}}"
