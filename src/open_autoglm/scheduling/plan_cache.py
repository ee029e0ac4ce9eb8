"""Keeps plans of earlier requests, for those that differ from them in nothing but numbers and quoted texts.

A request's template is the request with each number and each text in double quotation marks replaced by a slot. A
plan is kept by the template only where that can be undone: the values of the slots all differ, and each stands in the
plan's arguments, so that none of them decided about the plan's form (as in "three ideas, 3 at most"). Else it is kept
by the request's own words. Whatever else a plan depends on goes into `scope`: the planner and its version, the tools
and theirs.

Invariants: no more than `entries_max` plans, of which the one that was not used for longest goes first; in a plan that
comes out, the values of the request that it is for stand where the values of the request that it was made for stood.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from open_autoglm.scheduling.references import escape
from open_autoglm.scheduling.task import Task

REQUEST_CHARS_MAX: Final = 4_000
"""A longer request is not kept: it hardly comes again."""

_REFERENCE = r"\$\$|\$[A-Za-z0-9_]+|\$\{[^{}]*\}"
_NUMBER = r"\d+(?:\.\d+)?"
_SLOT = re.compile(rf'"([^"]+)"|({_NUMBER})', re.ASCII)
_BLANKS = re.compile(r"[ \t]+")
_JSON_NUMBER = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)


class _Text(tuple[str | int, ...]):
    """A text with slots: pieces, and numbers of slots between them."""

    __slots__ = ()


class _Figure(int):
    """A JSON number that is the value of the slot with this number."""

    __slots__ = ()


class PlanCache:
    """See the module.

    Args:
        entries_max: plans that are kept, > 0.
    """

    def __init__(self, entries_max: int = 256) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[tuple[str, str], tuple[Task, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, scope: str, request: str) -> tuple[Task, ...] | None:
        """Return the plan for a request, or None."""
        template, values = _template(request)
        for key in ((scope, _own(request)), (scope, template)):
            plan = self._entries.get(key)
            if plan is not None and not any(_is_no_figure(task.args, values) for task in plan):
                self._entries.move_to_end(key)
                return tuple(_with_args(task, lambda leaf: _filled(leaf, values)) for task in plan)
        return None

    def put(self, scope: str, request: str, plan: tuple[Task, ...]) -> None:
        """Keep a plan that led to an answer."""
        if len(request) > REQUEST_CHARS_MAX:
            return
        key, values = _template(request)
        slots = _Slots(values)
        kept = tuple(_with_args(task, slots.put) for task in plan)
        if len(set(values)) < len(values) or len(slots.used) < len(values):
            key, kept = _own(request), plan
        self._entries[scope, key] = kept
        self._entries.move_to_end((scope, key))
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


class _Slots:
    """Puts slots in the place of the values of one request."""

    def __init__(self, values: Sequence[str]) -> None:
        self._at = {escape(value): at for at, value in enumerate(values)}
        quoted = sorted((re.escape(value) for value in self._at if not value.isascii() or not value.isdigit()), key=len)
        self._pieces = re.compile("|".join((_REFERENCE, *reversed(quoted), _NUMBER)), re.ASCII)
        self.used: set[int] = set()

    def put(self, leaf: Any) -> Any:
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            at = self._at.get(msgspec.json.encode(leaf).decode())
            if at is None:
                return leaf
            self.used.add(at)
            return _Figure(at)
        if not isinstance(leaf, str):
            return leaf
        pieces: list[str | int] = []
        end = 0
        for match in self._pieces.finditer(leaf):
            if (at := self._at.get(match[0])) is not None:
                self.used.add(at)
                pieces += [leaf[end : match.start()], at]
                end = match.end()
        return _Text((*pieces, leaf[end:])) if pieces else leaf


def _template(request: str) -> tuple[str, list[str]]:
    """The request with slots, and their values; its own words hold no character 0, so no request looks like it."""
    values: list[str] = []

    def slot(match: re.Match[str]) -> str:
        values.append(match[1] or match[2])
        return '"\0"' if match[1] else "\0"

    return "~" + _SLOT.sub(slot, _plain(request)), values


def _own(request: str) -> str:
    return "=" + _plain(request)


def _plain(request: str) -> str:
    return _BLANKS.sub(" ", request.replace("\0", " ")).strip()


def _with_args(task: Task, change: Callable[[Any], Any]) -> Task:
    return msgspec.structs.replace(task, args=_changed(task.args, change))


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    return change(value)


def _filled(leaf: Any, values: Sequence[str]) -> Any:
    if isinstance(leaf, _Figure):
        return msgspec.json.decode(values[leaf])
    if isinstance(leaf, _Text):
        return "".join(piece if isinstance(piece, str) else escape(values[piece]) for piece in leaf)
    return leaf


def _is_no_figure(value: Any, values: Sequence[str]) -> bool:
    """Whether a JSON number would get a value that is none, as 007."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return any(_is_no_figure(item, values) for item in items)
    return isinstance(value, _Figure) and not _JSON_NUMBER.fullmatch(values[value])
