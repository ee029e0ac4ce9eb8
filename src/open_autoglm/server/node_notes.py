"""What operators set on members, written at one server and followed by each: notes, and marks of drained nodes.

Invariants: a note replaces only what its writer has seen: the version that was shown goes with the new text. A mark
counts before its removal at the same time: a node that somebody wants no work on gets none.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from open_autoglm.cluster.facts import ClusterFacts
from open_autoglm.dissemination import Reading, WriteConflict
from open_autoglm.errors import RequestError

_PREFIX: Final = "note/"
_DRAINED: Final = "drained/"
_MARK: Final = b"1"
_VERSION_CHARACTERS: Final = 12


def note_of(facts: ClusterFacts, member_id: str) -> dict[str, Any]:
    """Return the note on a member: `note`, empty when there is none, and `note_version`, empty when there never was."""
    return _row(facts.map.read(_PREFIX + member_id))


def set_note(facts: ClusterFacts, member_id: str, text: str, version: str) -> dict[str, Any]:
    """Set the note on a member, or take it away with an empty text; return it as `note_of` does.

    Raises:
        RequestError: `conflict` when `version` is not that of what is there; `invalid_request` when there is no room.
    """
    key = _PREFIX + member_id
    reading = facts.map.read(key)
    if version != _version(reading):
        texts = " and ".join(repr(_text(entry.value)) for entry in reading.entries) or "nothing"
        raise RequestError(
            "conflict", f"the note is {texts}, of version {_version(reading)!r}; send that version", param="version"
        )
    try:
        facts.write(key, text.encode() or None, reading.vector)
    except WriteConflict as error:  # what was read has expired meanwhile, or come
        raise RequestError("conflict", str(error), param="version") from error
    except ValueError as error:
        raise RequestError("invalid_request", str(error), param="text") from error
    return _row(facts.map.read(key))


def is_drained(facts: ClusterFacts, member_id: str) -> bool:
    """Whether a node is to get no new requests."""
    return any(entry.value is not None for entry in facts.map.read(_DRAINED + member_id).entries)


def set_drained(facts: ClusterFacts, member_id: str, drained: bool) -> None:
    """Mark a node as one that gets no new requests, or take the mark away; twice is once.

    Raises:
        RequestError: `invalid_request`: there is no room.
    """
    if is_drained(facts, member_id) is drained:
        return
    key = _DRAINED + member_id
    try:
        facts.write(key, _MARK if drained else None, facts.map.read(key).vector)
    except ValueError as error:
        raise RequestError("invalid_request", str(error)) from error


def _row(reading: Reading) -> dict[str, Any]:
    return {"note": _text(reading.value), "note_version": _version(reading)}


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _version(reading: Reading) -> str:
    """Short for the vector of what is there."""
    if not reading.entries:
        return ""
    return sha256(repr(sorted(reading.vector.items())).encode()).hexdigest()[:_VERSION_CHARACTERS]
