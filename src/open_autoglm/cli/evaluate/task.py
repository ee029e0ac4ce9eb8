"""Tasks with a right answer, from files of JSON lines, and what is right.

| checker | an answer is right when |
|---|---|
| `number` | the last number in it equals the expected one, commas between thousands aside |
| `exact` | it is the expected text, white space at the ends aside |
| `json` | it is, or its one fenced block is, JSON of the same value |
| `contains` | the expected text is part of it, whatever the case |
| `choice` | it is the expected choice, or begins with it, brackets, marks and case aside |

A line has `prompt`, `answer` and `checker`, and may have `id`, `system` (a system message) and `class` (figures are
told for each). Lines of the held-out sets of the models that ship, which have `task` instead of `checker`, are read
as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed

TASKS_MAX: Final = 100_000
FILE_BYTES_MAX: Final = 64 * 2**20
_DIGITS_MAX: Final = 400
"""Of a number that is compared; longer ones are compared as texts would be: not at all."""
_NUMBER: Final = re.compile(r"[-−]?\d+(?:,\d{3})*(?:\.\d+)?")
_FENCE: Final = re.compile(r"^\s*```\w*\n(.*?)\n```\s*$", re.DOTALL)
_TOOLS: Final = [{"type": "function", "function": {"name": name}} for name in ("calculator", "weather", "convert")]
_OF_TASK: Final = {"arithmetic": "number", "tool": "json", "plan": "json", "intent": "exact", "result": "exact"}
"""Checker for each task of the held-out sets."""
_RESULT_MARK: Final = "结果："


class Task(Struct, frozen=True):
    """One question.

    Attributes:
        id: unique in an evaluation.
        messages: what is sent, in OpenAI's form.
        answer: the right one.
        checker: see the module.
        kind: for figures by class; may be empty.
        tools: what the model may call; None for none.
    """

    id: str
    messages: list[dict[str, Any]]
    answer: str
    checker: str
    kind: str = ""
    tools: list[dict[str, Any]] | None = None


class _Line(Struct):
    prompt: str
    answer: str | int | float
    checker: str = ""
    id: str = ""
    system: str | None = None
    kind: str = msgspec.field(default="", name="class")
    task: str = ""


_lines = msgspec.json.Decoder(_Line)


def read_tasks(path: Path, limit: int | None = None) -> list[Task]:
    """Read the tasks of a file, the first `limit` at most.

    Raises:
        CommandFailed: it cannot be read, or a line of it is no task.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CommandFailed(f"{str(path)!r} has more than {FILE_BYTES_MAX} bytes; split it", WRONG_USAGE)
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CommandFailed(f"cannot read {str(path)!r}: {error.strerror or error}", WRONG_USAGE) from error
    tasks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tasks.append(_task(_lines.decode(line), f"{path.stem}-{number}"))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise CommandFailed(f"{str(path)!r}, line {number}: {error}", WRONG_USAGE) from error
        if len(tasks) > TASKS_MAX:
            raise CommandFailed(f"{str(path)!r} has more than {TASKS_MAX} tasks; split it", WRONG_USAGE)
        if len(tasks) == limit:
            break
    if not tasks:
        raise CommandFailed(f"{str(path)!r} has no tasks; write a JSON object on each line", WRONG_USAGE)
    return tasks


def is_right(task: Task, answer: str) -> bool:
    """Whether an answer is right; never raises, whatever a model has written."""
    return CHECKERS[task.checker](task.answer, answer)


def _task(line: _Line, name: str) -> Task:
    if not line.prompt.strip():
        raise ValueError("the prompt is empty")
    messages = [{"role": "user", "content": line.prompt}]
    tools = None
    checker = line.checker
    if not checker and line.task:
        checker = _OF_TASK.get(line.task, "")
        if line.system == "tools":
            tools = _TOOLS
        elif line.system == "result":
            question = "算" if line.prompt.startswith(_RESULT_MARK) else "ask"
            shown = line.prompt.removeprefix(_RESULT_MARK)
            messages = [{"role": "user", "content": question}, {"role": "tool", "content": shown}]
    if checker not in CHECKERS:
        raise ValueError(f"the checker is {checker!r}; there are: {', '.join(CHECKERS)}")
    if line.system and line.system not in ("tools", "result"):
        messages.insert(0, {"role": "system", "content": line.system})
    answer = line.answer if isinstance(line.answer, str) else json.dumps(line.answer)
    if checker == "number" and _last_number(answer) is None:
        raise ValueError(f"the answer {answer!r:.80} is no number")
    if checker == "json" and _value(answer) is _NOTHING:
        raise ValueError(f"the answer {answer!r:.80} is no JSON")
    return Task(line.id or name, messages, answer, checker, line.kind or line.task, tools)


def _number(expected: str, answer: str) -> bool:
    said = _last_number(answer)
    return said is not None and said == _last_number(expected)


def _last_number(text: str) -> Fraction | None:
    found = _NUMBER.findall(text)
    if not found or len(found[-1]) > _DIGITS_MAX:
        return None
    return Fraction(found[-1].replace(",", "").replace("−", "-"))


def _exact(expected: str, answer: str) -> bool:
    return expected.strip() == answer.strip()


_NOTHING: Final = object()


def _json(expected: str, answer: str) -> bool:
    said = _value(answer)
    return said is not _NOTHING and _same(said, _value(expected))


def _value(text: str) -> Any:
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return _NOTHING


def _same(one: Any, two: Any) -> bool:
    """Equality that tells `true` from 1, which Python does not."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(value, two[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)


def _contains(expected: str, answer: str) -> bool:
    return expected.strip().casefold() in answer.casefold()


def _choice(expected: str, answer: str) -> bool:
    wanted, said = (text.strip(" \t\r\n\"'`*()[].:").casefold() for text in (expected, answer))
    return said == wanted or (bool(wanted) and re.match(re.escape(wanted) + r"(?!\w)", said) is not None)


CHECKERS: Final[dict[str, Callable[[str, str], bool]]] = {
    "number": _number,
    "exact": _exact,
    "json": _json,
    "contains": _contains,
    "choice": _choice,
}
