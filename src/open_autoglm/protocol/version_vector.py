"""Version vectors: which write of which member was known when another one was made.

A vector maps a member's name to the number of its newest write that is known. Invariant: vectors are never changed in
place; each function returns a new one. Of two writes the second knew the first when its vector covers the first one's
writer and number; when neither covers the other they are concurrent (Parker and others, 1983; the pair of writer and
number is the dot of Preguiça and others, 2012).

| `compare(a, b)` | means |
|---|---|
| `equal` | the same writes are known to both |
| `before` | b knows all that a knows, and more |
| `after` | the other way round |
| `concurrent` | each knows something that the other does not |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from open_autoglm.protocol.errors import ProtocolError

VECTOR_MEMBERS_MAX: Final = 64
MEMBER_BYTES_MAX: Final = 64
COUNTER_MAX: Final = 2**53 - 1
"""The largest whole number that every reader of JSON keeps."""

Vector = Mapping[str, int]
Order = Literal["equal", "before", "after", "concurrent"]


def covers(vector: Vector, writer: str, counter: int) -> bool:
    """Whether the write `counter` of `writer` was known."""
    return vector.get(writer, 0) >= counter


def includes(left: Vector, right: Vector) -> bool:
    """Whether all that `right` knows is known to `left`."""
    return all(covers(left, member, counter) for member, counter in right.items())


def compare(left: Vector, right: Vector) -> Order:
    """Return how two vectors stand to each other; see the module. A member that is missing counts as 0."""
    forward, backward = includes(right, left), includes(left, right)
    if forward and backward:
        return "equal"
    if forward:
        return "before"
    return "after" if backward else "concurrent"


def join(*vectors: Vector) -> dict[str, int]:
    """Return the least vector that knows all that any of them knows."""
    joined: dict[str, int] = {}
    for vector in vectors:
        for member, counter in vector.items():
            if counter > joined.get(member, 0):
                joined[member] = counter
    return joined


def prune(vector: Vector, gone: Collection[str], keep: Collection[str], members_max: int) -> dict[str, int]:
    """Return a vector without members that are gone, and of `members_max` members at most.

    Only the vector of a new write may be pruned: one that others know already stays as it is. What is left out makes at
    worst two writes concurrent that were not, so that both are kept; none is lost.

    Args:
        vector: to prune.
        gone: members that write no more.
        keep: members that stay whatever happens.
        members_max: those with the lowest counters go first.
    """
    kept = {member: counter for member, counter in vector.items() if member in keep or member not in gone}
    spare = sorted((counter, member) for member, counter in kept.items() if member not in keep)
    for _, member in spare[: max(len(kept) - members_max, 0)]:
        del kept[member]
    return kept


def check_vector(value: Any) -> dict[str, int]:
    """Return a vector from JSON or MessagePack.

    Raises:
        ProtocolError: `invalid_request`: it is no object, has more than 64 members, a name that is empty or longer than
            64 bytes, or a counter that is no whole number from 0 to 2^53 - 1.
    """
    if not isinstance(value, dict):
        raise ProtocolError("invalid_request", "a version vector is an object: member to counter")
    if len(value) > VECTOR_MEMBERS_MAX:
        raise ProtocolError(
            "invalid_request", f"a version vector has {len(value)} members; {VECTOR_MEMBERS_MAX} are the most"
        )
    for member, counter in value.items():
        if not isinstance(member, str) or not 0 < len(member.encode()) <= MEMBER_BYTES_MAX:
            raise ProtocolError("invalid_request", f"a version vector names a member by 1 to {MEMBER_BYTES_MAX} bytes")
        if isinstance(counter, bool) or not isinstance(counter, int) or not 0 <= counter <= COUNTER_MAX:
            raise ProtocolError("invalid_request", "a version vector counts in whole numbers from 0 to 2^53 - 1")
    return value
