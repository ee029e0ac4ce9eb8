"""The streamed answer of a virtual model, with the events of its run: who was asked, and how sure the decision was."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct


class TeamAnswer(Struct, frozen=True):
    """What a stream came to.

    Attributes:
        text: of the answer.
        complete: whether the stream said that it was.
        failure: what it says instead of an answer.
        usage: as the server wrote it; empty where it did not.
        members: questions to each member.
        posterior: chance that the answer is right, as the team sees it, 0 to 1; None where it does not say.
    """

    text: str
    complete: bool
    failure: str
    usage: dict[str, Any]
    members: dict[str, int]
    posterior: float | None


def read_stream(body: bytes) -> TeamAnswer:
    """Read a stream to its end; what cannot be read is passed over."""
    text, failure = "", ""
    usage: dict[str, Any] = {}
    members: Counter[str] = Counter()
    posterior = None
    complete = False
    for kind, data in _events(body):
        complete = complete or data == b"[DONE]"
        value = _object(data)
        if kind == "mcp.asked" and isinstance(value.get("member"), str):
            members[value["member"]] += 1
        elif kind == "mcp.decided" and isinstance(value.get("posterior"), int | float):
            posterior = min(1.0, max(0.0, float(value["posterior"])))
        elif not kind:
            text += _delta(value)
            error = value.get("error")
            failure = str(error.get("message", "")) if isinstance(error, dict) else failure
            usage = value["usage"] if isinstance(value.get("usage"), dict) else usage
    return TeamAnswer(text, complete, failure, usage, dict(members), posterior)


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


def _delta(value: dict[str, Any]) -> str:
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""
