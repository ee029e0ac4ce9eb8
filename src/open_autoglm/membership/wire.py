"""Messages between members as bytes: fixed binary, read within limits, nothing trusted.

A message is: kind u8, sender (text), start u64, nonce u32, target (text), news until the end. A text is its length in
one byte and as many bytes of ASCII, or UTF-8 for names of models. Big-endian. News begin with a byte that says what
they are:

| byte | news | then |
|---|---|---|
| 1 | record | length u16 of what follows: flags u8 (1 node, 2 draining), start u64, incarnation u32, id, class, \
gossip, address, models |
| 2, 3, 4 | suspect, dead, left | start u64, incarnation u32, id, who says so |
| 5 | load | start u64, id, a load report of 32 bytes |

Models are a count u8 and for each its name and its version. A full state, which goes over TCP, is a count u16 and for
each member its state u8 (place in `STATES`), its record, and a byte 1 with a load report or a byte 0 without.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct as Layout
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from open_autoglm.byte_reader import ByteReader, write_text
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LOAD_BYTES, LoadReport, read_load, write_load
from open_autoglm.membership.member import (
    CLASSES,
    MODEL_BYTES_MAX,
    MODELS_MAX,
    STATES,
    VERSION_BYTES_MAX,
    Record,
    State,
    is_address,
    is_id,
)

PING: Final = 1
ACK: Final = 2
NACK: Final = 3
PING_REQUEST: Final = 4
GOSSIP: Final = 5

MESSAGE_BYTES_MAX: Final = 1360
"""What a datagram of 1,400 bytes has room for, beside its seal."""
RECORD_BYTES_MAX: Final = 1100
"""So that a record fits a message, whatever else is in it."""

_RECORD, _SUSPECT, _DEAD, _LEFT, _LOAD = 1, 2, 3, 4, 5
_VERDICTS: Final[dict[int, Literal["suspect", "dead", "left"]]] = {_SUSPECT: "suspect", _DEAD: "dead", _LEFT: "left"}
_VERDICT_BYTES: Final[dict[str, int]] = {state: number for number, state in _VERDICTS.items()}
_NODE, _DRAINING = 1, 2

_START = Layout(">BQ")
_FLAGS = Layout(">BQI")
_VERDICT = Layout(">BQI")
_NONCE = Layout(">QI")
_HEAD = Layout(">BH")
_COUNT = Layout(">H")
_ONE = Layout(">Q")


class Verdict(NamedTuple):
    """What is said of a member. `by` is who says so."""

    state: Literal["suspect", "dead", "left"]
    id: str
    start: int
    incarnation: int
    by: str


class Reported(NamedTuple):
    """A member's load, from its start `start`."""

    id: str
    start: int
    load: LoadReport


News = Record | Verdict | Reported


class Message(Struct):
    """One message.

    Attributes:
        kind: PING asks `target` for a sign of life, ACK gives it (`target`: on whose behalf), PING_REQUEST asks the
            receiver to ask `target`, NACK says that this was done and nothing came, GOSSIP brings news only.
        sender: the member that sends it, of the start `start`.
        nonce: of the question and its answers.
        target: see `kind`; empty for GOSSIP.
        news: what comes along.
    """

    kind: int
    sender: str
    start: int
    nonce: int = 0
    target: str = ""
    news: list[News] = []


class Entry(NamedTuple):
    """One member in a full state."""

    state: State
    record: Record
    load: LoadReport | None


def write_message(kind: int, sender: tuple[str, int], nonce: int, target: str, news: Iterable[bytes]) -> bytes:
    """Return a message; `sender` is its id and start, news are written already."""
    head = bytes((kind,)) + write_text(sender[0]) + _NONCE.pack(sender[1], nonce) + write_text(target)
    return head + b"".join(news)


def read_message(data: bytes) -> Message:
    """Read a message.

    Raises:
        GossipError: anything in it is not as it should be.
    """
    if len(data) > MESSAGE_BYTES_MAX:
        raise GossipError(f"a message has {len(data)} bytes; {MESSAGE_BYTES_MAX} are the most")
    reader = _Reader(data)
    kind = reader.byte()
    if not PING <= kind <= GOSSIP:
        raise GossipError(f"no message is of kind {kind}")
    sender = reader.id()
    start, nonce = reader.unpack(_NONCE)
    target = reader.text(255)
    if target and not is_id(target):
        raise GossipError("a message's target is no member's name")
    if bool(target) is (kind == GOSSIP):
        raise GossipError("a message lacks its target, or should have none")
    news: list[News] = []
    while not reader.ended:
        news.append(reader.news())
    return Message(kind, sender, start, nonce, target, news)


@lru_cache(maxsize=1024)
def write_record(record: Record) -> bytes:
    """Return a record as news; each is told many times.

    Raises:
        ValueError: it holds more than a datagram has room for, or a name that is none.
    """
    if not is_id(record.id) or record.node_class not in CLASSES:
        raise ValueError(f"{record.id!r} of class {record.node_class!r} is no member; see membership.member")
    if len(record.models) > MODELS_MAX:
        raise ValueError(f"a member serves {MODELS_MAX} models at most, not {len(record.models)}")
    flags = (_NODE if record.role == "node" else 0) | (_DRAINING if record.draining else 0)
    parts = [
        _FLAGS.pack(flags, record.start, record.incarnation),
        *map(write_text, (record.id, record.node_class, record.gossip, record.address)),
        bytes((len(record.models),)),
    ]
    for name, version in record.models:
        if not 0 < len(name.encode()) <= MODEL_BYTES_MAX or len(version.encode()) > VERSION_BYTES_MAX:
            raise ValueError(f"the name {name[:MODEL_BYTES_MAX]!r} of a model, or its version, is too long")
        parts += (write_text(name), write_text(version))
    data = b"".join(parts)
    if len(data) > RECORD_BYTES_MAX:
        raise ValueError(f"a record with these models has {len(data)} bytes; {RECORD_BYTES_MAX} are the most")
    return _HEAD.pack(_RECORD, len(data)) + data


def write_verdict(verdict: Verdict) -> bytes:
    """Return a verdict as news."""
    head = _VERDICT.pack(_VERDICT_BYTES[verdict.state], verdict.start, verdict.incarnation)
    return head + write_text(verdict.id) + write_text(verdict.by)


def write_reported(reported: Reported) -> bytes:
    """Return a load report as news."""
    return _START.pack(_LOAD, reported.start) + write_text(reported.id) + write_load(reported.load)


def write_state(entries: Iterable[Entry]) -> bytes:
    """Return a full state."""
    parts = []
    for state, record, load in entries:
        parts.append(bytes((STATES.index(state),)) + write_record(record))
        parts.append(b"\0" if load is None else b"\1" + write_load(load))
    return _COUNT.pack(len(parts) // 2) + b"".join(parts)


def read_state(data: bytes, members_max: int) -> list[Entry]:
    """Read a full state.

    Raises:
        GossipError: anything in it is not as it should be, or it has more than `members_max` members.
    """
    reader = _Reader(data)
    (count,) = reader.unpack(_COUNT)
    if count > members_max:
        raise GossipError(f"a state has {count} members; {members_max} are the most")
    entries = []
    for _ in range(count):
        place = reader.byte()
        if place >= len(STATES):
            raise GossipError(f"no state of a member has the number {place}")
        if reader.byte() != _RECORD:
            raise GossipError("a state holds something else than a record")
        record = reader.record()
        load = read_load(reader.take(LOAD_BYTES)) if reader.flag() else None
        entries.append(Entry(STATES[place], record, load))
    if not reader.ended:
        raise GossipError("a state goes on behind its end")
    return entries


class _Reader(ByteReader):
    """Reads what members say."""

    __slots__ = ()

    failure = GossipError

    def flag(self) -> bool:
        value = self.byte()
        if value > 1:
            raise GossipError(f"{value} stands where 0 or 1 should")
        return value == 1

    def id(self) -> str:
        text = self.text(255)
        if not is_id(text):
            raise GossipError("a member's name is none")
        return text

    def news(self) -> News:
        kind = self.byte()
        if kind == _RECORD:
            return self.record()
        if kind == _LOAD:
            (start,) = self.unpack(_ONE)
            return Reported(self.id(), start, read_load(self.take(LOAD_BYTES)))
        state = _VERDICTS.get(kind)
        if state is None:
            raise GossipError(f"no news are of kind {kind}")
        start, incarnation = self.unpack(_NONCE)
        return Verdict(state, self.id(), start, incarnation, self.id())

    def record(self) -> Record:
        (length,) = self.unpack(_COUNT)
        if length > RECORD_BYTES_MAX:
            raise GossipError(f"a record has {length} bytes; {RECORD_BYTES_MAX} are the most")
        return _record_of(self.take(length))


@lru_cache(maxsize=1024)
def _record_of(data: bytes) -> Record:
    """Read a record; each comes many times, on many ways."""
    reader = _Reader(data)
    flags = reader.byte()
    if flags > _NODE | _DRAINING:
        raise GossipError(f"no record has the flags {flags}")
    start, incarnation = reader.unpack(_NONCE)
    name, node_class = reader.id(), reader.text(16)
    gossip, address = reader.text(255), reader.text(255)
    if node_class not in CLASSES:
        raise GossipError("a record's class is none")
    if not is_address(gossip) or (address and not is_address(address)):
        raise GossipError("a record's address is none")
    count = reader.byte()
    if count > MODELS_MAX:
        raise GossipError(f"a record has {count} models; {MODELS_MAX} are the most")
    models = tuple((reader.text(MODEL_BYTES_MAX), reader.text(VERSION_BYTES_MAX)) for _ in range(count))
    if not all(model for model, _ in models):
        raise GossipError("a model has no name")
    if not reader.ended:
        raise GossipError("a record goes on behind its end")
    return Record(
        id=name,
        role="node" if flags & _NODE else "server",
        node_class=node_class,
        start=start,
        incarnation=incarnation,
        draining=bool(flags & _DRAINING),
        gossip=gossip,
        address=address,
        models=models,
    )
