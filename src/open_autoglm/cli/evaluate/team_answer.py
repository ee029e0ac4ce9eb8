"""The streamed answer of a virtual model, with the events of its run: who was asked, and how sure the decision was."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
from msgspec import Struct

from open_autoglm.cli.evaluate.figures import busy_of


class TeamAnswer(Struct, frozen=True):
    """What a stream came to.

    Attributes:
        text: of the answer; of one tool call a JSON object of name and arguments.
        complete: whether the stream said that it was.
        failure: what it says instead of an answer.
        usage: as the server wrote it; empty where it did not.
        members: questions to each member.
        busy: seconds that these took, by member: from the question to its answer, its failure or its cancellation.
        slots: questions to each member that were under way at once, at most.
        posterior: chance that the answer is right, as the team sees it, 0 to 1; None where it does not say.
    """

    text: str
    complete: bool
    failure: str
    usage: dict[str, Any]
    members: dict[str, int]
    posterior: float | None
    busy: dict[str, float] = {}
    slots: dict[str, int] = {}


def read_stream(body: bytes) -> TeamAnswer:
    """Read a stream to its end; what cannot be read is passed over."""
    text, failure = "", ""
    calls: dict[int, list[str]] = {}
    usage: dict[str, Any] = {}
    members: Counter[str] = Counter()
    spans = _Spans()
    posterior = None
    complete = False
    for kind, data in _events(body):
        complete = complete or data == b"[DONE]"
        value = _object(data)
        spans.take(kind, value)
        if kind == "mcp.asked" and isinstance(value.get("member"), str):
            members[value["member"]] += 1
        elif kind == "mcp.decided" and isinstance(value.get("posterior"), int | float):
            posterior = min(1.0, max(0.0, float(value["posterior"])))
        elif not kind:
            delta = _delta(value)
            content = delta.get("content")
            text += content if isinstance(content, str) else ""
            _add_calls(calls, delta)
            error = value.get("error")
            failure = str(error.get("message", "")) if isinstance(error, dict) else failure
            usage = value["usage"] if isinstance(value.get("usage"), dict) else usage
    busy, slots = spans.figures()
    return TeamAnswer(text or _as_text(calls), complete, failure, usage, dict(members), posterior, busy, slots)


class _Spans:
    """When members were at work, by the events of one run."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[str, float]] = {}
        self._over: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._last_s = 0.0

    def take(self, kind: str, value: dict[str, Any]) -> None:
        """Take an event, if it is one that tells."""
        at_ms, number = value.get("at_ms"), value.get("ask" if kind == "mcp.candidate" else "number")
        if not isinstance(at_ms, int | float):
            return
        self._last_s = max(self._last_s, at_ms / 1000)
        if kind == "mcp.asked" and isinstance(number, int) and isinstance(value.get("member"), str):
            self._begun[number] = value["member"], at_ms / 1000
        elif kind in ("mcp.candidate", "mcp.failed") and number in self._begun:
            self._end(number, at_ms / 1000)

    def figures(self) -> tuple[dict[str, float], dict[str, int]]:
        """Seconds and slots by member; what nobody said the end of went on to the last event."""
        for number in list(self._begun):
            self._end(number, self._last_s)
        told = {member: busy_of(spans) for member, spans in self._over.items()}
        return {member: busy for member, (busy, _) in told.items()}, {
            member: most for member, (_, most) in told.items()
        }

    def _end(self, number: int, at_s: float) -> None:
        member, begun_s = self._begun.pop(number)
        self._over[member].append((begun_s, max(begun_s, at_s)))


def _events(body: bytes) -> list[tuple[str, bytes]]:
    """Each event's type, empty where it has none, and its data."""
    events = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        kind, data = "", []
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"event":
                kind = value.strip().decode("utf-8", "replace")
            elif name == b"data":
                data.append(value.removeprefix(b" "))
        if data:
            events.append((kind, b"\n".join(data)))
    return events


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _delta(value: dict[str, Any]) -> dict[str, Any]:
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return delta if isinstance(delta, dict) else {}


def _add_calls(calls: dict[int, list[str]], delta: dict[str, Any]) -> None:
    """Put the pieces of tool calls, name and arguments, to those that came before."""
    told = delta.get("tool_calls")
    for call in told if isinstance(told, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            index = call.get("index")
            pieces = calls.setdefault(index if isinstance(index, int) else 0, ["", ""])
            for place, key in enumerate(("name", "arguments")):
                pieces[place] += function[key] if isinstance(function.get(key), str) else ""


def _as_text(calls: dict[int, list[str]]) -> str:
    """The one tool call; nothing of several, or of one that cannot be read."""
    if len(calls) != 1:
        return ""
    [(name, arguments)] = calls.values()
    try:
        return msgspec.json.encode({"name": name, "arguments": msgspec.json.decode(arguments)}).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
