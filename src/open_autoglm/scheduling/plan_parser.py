"""Reads a plan while a model is still writing it: each task comes out with its last byte.

| state | is looking for | goes to |
|---|---|---|
| prose | `[` + `{`; `{` + `"`; a line `1. tool(` | items, object, call |
| items | the next `{` of the array, `,`, or `]` | item, or over |
| item, object | the bracket that closes it, or in an object `"tasks": [` | items, or prose |
| call | the `)` that closes it | prose |
| over | nothing: the plan is complete, what follows is ignored | |

Plans are JSON, bare, after prose or in a code fence: an array of tasks (`Task`'s fields; ids may be numbers; `model`
may stand in the place of `tool`), or an object with such an array under `tasks`, `plan` or `steps`, or one task. Or
they are lines `1. tool(name="text", n=$2)` as LLMCompiler writes them (arXiv 2312.04511), with JSON or Python
literals, up to `join()` or the end.

Invariants: the tasks and the problem do not depend on how the text is cut; work is linear in its length; no more than
the limits is ever held.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.plan_text import TextProblem, task_of_call, task_of_json
from open_autoglm.scheduling.task import Task

PLAN_KEYS: Final = ("tasks", "plan", "steps")
LAST_CALLS: Final = ("join", "finish")
"""Calls that end a plan of lines, and are no tasks."""

_SPACE = re.compile(r"[ \t\r\n]*")
_PROSE = re.compile(r"[\[{(\n]")
_JSON_MARKS = re.compile(r'["{}\[\]]')
_CALL_MARKS = re.compile(r"""["'(){}\[\]]""")
_STRING_MARKS = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}
_OPENING = {"]": "[", "}": "{", ")": "("}
_LINE = re.compile(r"\s*(?:[-*]\s+)?(\d{1,6})[.)]\s*([A-Za-z_][\w.:/-]{0,127})", re.ASCII)
_HEAD_CHARS_MAX = 200
"""Of a line, up to the bracket of its call."""
_TASKS = re.compile(rf'(?<!\\)"(?:{"|".join(PLAN_KEYS)})"\s*:\s*\[\Z')
_TASKS_CHARS_MAX = 80
"""Of a key, its colon and the bracket after it, with the space between them."""
_ONE_TASK = re.compile(r'"(?:tool|model|strategy)"\s*:')


class PlanLimits(Struct, frozen=True):
    """How large a plan may be.

    Attributes:
        tasks: their number.
        text_bytes: its whole text, prose too.
        depth: of brackets within one task, the outermost too.
    """

    tasks: int = 128
    text_bytes: int = 128 * 1024
    depth: int = 16


class PlanProblem(RequestError):
    """What was written is no plan.

    Args:
        message: what is wrong.
        line, column: where, counted from 1, in the text that was fed.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__("invalid_request", f"plan, line {line}, column {column}: {message}")
        self.line = line
        self.column = column


class PlanParser:
    """See the module.

    Args:
        limits: beyond which a plan is wrong.
        parameters: names of each tool's parameters, for calls that do not write them: `search("x")`.

    Attributes:
        problem: why nothing more is read; the tasks before it have come out.
        over: nothing more is read, since the plan is complete or wrong.
        count: tasks so far.
    """

    def __init__(self, limits: PlanLimits | None = None, parameters: Mapping[str, Sequence[str]] | None = None) -> None:
        self.problem: PlanProblem | None = None
        self.over = False
        self.count = 0
        self._limits = limits or PlanLimits()
        self._parameters = parameters or {}
        self._tasks: list[Task] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._bytes_left = self._limits.text_bytes
        self._place = (1, 1)  # line and column of what is read next
        self._state: Callable[[str, int], int] = self._prose
        # prose
        self._head = ""  # the line so far
        self._opened: tuple[str, tuple[int, int]] | None = None  # a bracket that may begin the plan, and its place
        self._lines = False  # a call was found: from then on only calls are looked for
        # items
        self._expected = ""
        # item, object, call
        self._start = (1, 1)  # its place
        self._parts: list[str] = []  # its text so far
        self._stack: list[str] = []  # its brackets that are open
        self._quote = ""  # of the string that is open
        self._escaped = False

    def feed(self, data: bytes | str) -> list[Task]:
        """Read on.

        Args:
            data: the next piece, cut anywhere; bytes are UTF-8.

        Returns:
            Tasks that are complete now. See `problem` for whether it is a plan so far.
        """
        if self.over:
            return []
        piece = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        allowed = piece[: self._bytes_left]
        self._bytes_left -= len(allowed)
        try:
            self._read(self._decoder.decode(allowed))
            if len(allowed) < len(piece):
                self._fail(f"a plan may have {self._limits.text_bytes} bytes, its prose included")
        except UnicodeDecodeError as wrong:
            self._read(wrong.object[: wrong.start].decode())
            self._fail("not UTF-8")
        found, self._tasks = self._tasks, []
        return found

    def close(self) -> None:
        """Say that nothing follows.

        Raises:
            PlanProblem: there was one, or there is no plan, or it is not complete.
        """
        if self._decoder.getstate()[0]:
            self._fail("the text ends within a character")
        elif self._state != self._prose:
            self._fail("the text ends within the plan")
        elif not self.count:
            self._fail("no plan: expected a JSON array of tasks, or lines `1. tool(name=value)`")
        self.over = True
        if self.problem is not None:
            raise self.problem

    def _read(self, text: str) -> None:
        at = 0
        while at < len(text) and not self.over:
            following = self._state(text, at)
            self._place = _moved(self._place, text[at:following])
            at = following

    def _prose(self, text: str, at: int) -> int:
        """Look for the beginning of a plan, or of the next call."""
        if self._opened is not None:
            return self._after_bracket(text, at)
        match = _PROSE.search(text, at)
        end = match.start() if match else len(text)
        if end > at:
            self._head = (self._head + text[at:end])[: _HEAD_CHARS_MAX + 1]
            return end
        mark = text[at]
        if mark == "\n":
            self._head = ""
        elif mark == "(" and len(self._head) <= _HEAD_CHARS_MAX and _LINE.fullmatch(self._head):
            self._begin(self._call, self._place)
            self._stack.append(mark)
            self._parts.append(mark)
        else:
            self._head = (self._head + mark)[: _HEAD_CHARS_MAX + 1]
            if mark != "(" and not self._lines:
                self._opened = (mark, self._place)
        return at + 1

    def _after_bracket(self, text: str, at: int) -> int:
        end = _end_of_space(text, at)
        if "\n" in text[at:end]:
            self._head = ""
        if end > at:
            return end
        assert self._opened is not None
        (bracket, place), self._opened = self._opened, None
        if bracket == "[" and text[at] == "{":
            self._state, self._expected = self._items, "{"
        elif bracket == "{" and text[at] == '"':
            self._begin(self._object, place)
            self._stack.append(bracket)
            self._parts.append(bracket)
        return at

    def _items(self, text: str, at: int) -> int:
        """Between the tasks of an array."""
        end = _end_of_space(text, at)
        if end > at:
            return end
        found = text[at]
        if found not in self._expected:
            wanted = " or ".join(f"`{mark}`" for mark in self._expected)
            self._fail(f"expected {wanted}, found `{found}`")
        elif found == "{":
            self._begin(self._item, self._place)
            return at
        elif found == "]":
            self.over = True
        else:
            self._expected = "{"
        return at + 1

    def _item(self, text: str, at: int) -> int:
        end = self._within(text, at, _JSON_MARKS)
        if not self._stack and not self.over:
            self._state, self._expected = self._items, ",]"
            self._take_json()
        return end

    def _object(self, text: str, at: int) -> int:
        """An object that holds the plan, or is one task, or has nothing to do with it."""
        end = self._within(text, at, _JSON_MARKS)
        if self._parts[-1] == "[" and self._stack == ["{", "["]:
            if _TASKS.search("".join(self._parts[-_TASKS_CHARS_MAX:])[-_TASKS_CHARS_MAX:]):
                self._state, self._expected = self._items, "{]"
        elif not self._stack and not self.over:
            self._state = self._prose
            if _ONE_TASK.search("".join(self._parts)):
                self._take_json()
                self.over = True
        return end

    def _call(self, text: str, at: int) -> int:
        end = self._within(text, at, _CALL_MARKS)
        if not self._stack and not self.over:
            self._state, self._lines = self._prose, True
            self._take_call()
        return end

    def _within(self, text: str, at: int, marks: re.Pattern[str]) -> int:
        """Read up to the next mark; or, when it is here, the mark."""
        if self._escaped:
            self._escaped = False
            self._parts.append(text[at])
            return at + 1
        match = (_STRING_MARKS[self._quote] if self._quote else marks).search(text, at)
        end = match.start() if match else len(text)
        if end > at:
            self._parts.append(text[at:end])
            return end
        mark = text[at]
        self._parts.append(mark)
        if mark == "\\":
            self._escaped = True
        elif self._quote:
            self._quote = ""
        elif mark in _STRING_MARKS:
            self._quote = mark
        elif mark in _OPENING:
            if not self._stack or self._stack.pop() != _OPENING[mark]:
                self._fail(f"`{mark}` does not close what is open")
        elif len(self._stack) == self._limits.depth:
            self._fail(f"brackets are nested deeper than {self._limits.depth}")
        else:
            self._stack.append(mark)
        return at + 1

    def _begin(self, state: Callable[[str, int], int], place: tuple[int, int]) -> None:
        self._state = state
        self._start = place
        self._parts = []
        self._stack = []

    def _take_json(self) -> None:
        text = "".join(self._parts)
        try:
            self._take(task_of_json(text))
        except TextProblem as wrong:
            self._fail(wrong.message, _moved(self._start, text[: wrong.at]))

    def _take_call(self) -> None:
        match = _LINE.fullmatch(self._head)
        assert match is not None  # else there was no call
        if match[2] in LAST_CALLS:
            self.over = True
            return
        text = "".join(self._parts)
        self._head = ""  # a further call may stand on the same line
        try:
            self._take(task_of_call(match[1], match[2], text[1:-1], self._parameters.get(match[2], ())))
        except TextProblem as wrong:
            self._fail(wrong.message, _moved(self._start, text[: wrong.at + 1]))

    def _take(self, task: Task) -> None:
        if self.count == self._limits.tasks:
            self._fail(f"a plan may have {self._limits.tasks} tasks", self._start)
            return
        self.count += 1
        self._tasks.append(task)

    def _fail(self, message: str, place: tuple[int, int] | None = None) -> None:
        if not self.over:
            self.over = True
            self.problem = PlanProblem(message, *(place or self._place))


def _end_of_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _moved(place: tuple[int, int], text: str) -> tuple[int, int]:
    """Line and column after a text that begins at a place."""
    line, column = place
    breaks = text.count("\n")
    return (line + breaks, len(text) - text.rfind("\n")) if breaks else (line, column + len(text))
