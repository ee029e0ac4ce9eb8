"""Compares our reading of JSON with the standard library's: what one takes, the other takes, but for the limits.

The input is put into a field of a chat request, in a small body or a large one by its first byte.
Without a driver: `python -m tests.fuzz.json_bodies FILE…`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final

from open_autoglm.dialects import ChatFace, RequestView
from open_autoglm.dialects.document import DEPTH_MAX, MEMBERS_MAX, skeleton
from open_autoglm.dialects.openai_view import ChatView
from open_autoglm.dialects.splice import splice_request
from open_autoglm.errors import RequestError

FACE: Final = ChatFace()
FORBIDDEN: Final = frozenset({"api_base", "base_url", "api_key"})
TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"model"', b'"model":"z"', b'"messages"', b'"messages":[]', b'"n":1',
    b"1", b"1e5", b"1e400", b"-", b"0", b".5", b"NaN", b"Infinity", b"true", b"null", b'"\\ud83d\\ude00"',
    b'"\\ud800"', b'"\\u006d"', b'"mod\\u0065l":"q"', b"\\", b'"', b'\\"', b"\\\\", b"\xff", b"\xe4\xb8\xad", b"\0",
    b" ", b"\n", b"[" * 63, b"]" * 63, b'{"a":' * 30, b"}" * 30, b'"stop":"x"', b'{"model":1}', b'1,"b":', b'"b":2',
]  # fmt: skip
PADDING: Final = b"lorem [ipsum] {dolor} " * 300
READ: Final = frozenset(ChatView.__struct_fields__) - FORBIDDEN


class NotJson(Exception):
    """The reference refuses this text."""


def fuzz_one(data: bytes) -> None:
    """Read one body twice.

    Raises:
        AssertionError: the two readings differ; any other exception is a defect as well.
    """
    if not data:
        return
    padding = PADDING if data[0] & 1 else b""
    body = b'{"model":"m","messages":[{"role":"user","content":"' + padding + b'"}],"x":' + data[1:] + b"}"
    try:
        expected = _reference(body)
    except NotJson:
        expected = None
    view = _read(body)
    if isinstance(view, RequestError):
        assert view.code == "invalid_request"
        assert expected is None or _beyond_limits(expected) or _is_odd(expected), f"refused: {view.message}"
        return
    assert expected is not None, "what is taken is JSON"
    names = [name for name, _ in expected]
    for name in READ:
        assert names.count(name) <= 1, "a field that is read comes once"
    assert view.model == dict(expected)["model"]
    assert _depth(dict(expected)) <= DEPTH_MAX
    assert set(skeleton(body, b"")) <= set(b"[]")
    changed = splice_request(body, view, "other", want_usage=False)
    assert dict(_reference(changed)) == {**dict(expected), "model": "other"}
    assert len(changed) >= len(body) - len(view.model) * 6


def _read(body: bytes) -> RequestView | RequestError:
    try:
        return FACE.read(body)
    except RequestError as error:
        return error


def _reference(body: bytes) -> list[tuple[str, Any]]:
    """The fields of the outermost object, repetitions included."""
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is closed last
        return dict(found)

    try:
        value = json.loads(body.decode(), object_pairs_hook=keep, parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotJson from error
    if not isinstance(value, dict):
        raise NotJson
    return pairs


def _refuse(text: str) -> None:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _beyond_limits(pairs: list[tuple[str, Any]]) -> bool:
    return _depth(dict(pairs)) > DEPTH_MAX or len(pairs) > MEMBERS_MAX


def _is_odd(pairs: list[tuple[str, Any]]) -> bool:
    """Whether the input did more than give `x` a value: repeated a name, or set a field that is read."""
    names = [name for name, _ in pairs]
    return len(names) != len(set(names)) or len(READ & set(names)) > 2 or bool(FORBIDDEN & set(names))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
