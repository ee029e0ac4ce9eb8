"""Notes that operators set on members: written at one server, shown at each.

Invariant: a note replaces only what its writer has seen: the version that was shown goes with the new text.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from open_autoglm.cluster.facts import ClusterFacts
from open_autoglm.dissemination import Reading, WriteConflict
from open_autoglm.errors import RequestError

_PREFIX: Final = "note/"
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


def _row(reading: Reading) -> dict[str, Any]:
    return {"note": _text(reading.value), "note_version": _version(reading)}


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _version(reading: Reading) -> str:
    """Short for the vector of what is there."""
    if not reading.entries:
        return ""
    return sha256(repr(sorted(reading.vector.items())).encode()).hexdigest()[:_VERSION_CHARACTERS]
