"""Feeds bytes to the readers of facts that members share, and what is read to a link and its map.

The first byte chooses the reader: entries of an exchange of states, a link's datagram, a message of facts, a state.
Without a driver: `python -m tests.fuzz.facts FILE…`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from open_autoglm.cluster.facts import join_state, read_facts, split_state
from open_autoglm.dissemination import DeltaLink, DisseminationError, Entry, LinkSettings, ReplicatedMap, Told
from open_autoglm.dissemination.entry import read_all, write_all, write_told
from open_autoglm.dissemination.replicated_map import SIBLINGS_MAX
from open_autoglm.membership.errors import GossipError

KEYS_MAX: Final = 4
ENTRIES_MAX: Final = 8
ENTRY: Final = write_told(Told(Entry("k", "b", 3, 4, {"b": 3, "a": 2}, b"value"), 5000))
REMOVED: Final = write_told(Told(Entry("k", "c", 1, 9, {"c": 1}, None), None))
TOKENS: Final = [
    ENTRY, REMOVED, b"\x00", b"\x01", b"\x02", b"\x03", b"\x06", b"\xff", b"\x01k", b"\x01a", b"\x01b",
    (1).to_bytes(8, "big"), (2).to_bytes(8, "big"), (0).to_bytes(8, "big"), (2**53).to_bytes(8, "big"),
    (2**64 - 1).to_bytes(8, "big"), (1).to_bytes(4, "big"), (0).to_bytes(4, "big"), (2**16 - 1).to_bytes(2, "big"),
]  # fmt: skip


def fuzz_one(data: bytes) -> None:
    """Read one input.

    Raises:
        AssertionError: a promise was broken; any other exception is a defect as well.
    """
    if not data:
        return
    choice, payload = data[0] % 4, data[1:]
    try:
        if choice == 0:
            told = read_all(payload, ENTRIES_MAX)
            assert write_all(told) == payload
            _merged(told)
        elif choice == 1:
            _link(payload)
        elif choice == 2:
            sender, start, datagram = read_facts(payload)
            assert len(sender) + len(datagram) + 10 == len(payload)
            assert 0 <= start < 2**64
        else:
            members, facts = split_state(payload)
            assert join_state(members, facts) == payload
    except (DisseminationError, GossipError):
        pass


def _facts() -> ReplicatedMap:
    facts = ReplicatedMap("a", keys_max=KEYS_MAX)
    facts.write("k", b"mine", {}, 0.0)
    return facts


def _merged(told: list[Told]) -> None:
    one, other = _facts(), _facts()
    one.merge(told, 0.0)
    other.merge(reversed(told), 0.0)
    other.merge(told, 0.0)
    assert len(one) <= 2 * KEYS_MAX
    for key in one.keys():  # noqa: SIM118 - it is no dict
        entries = one.read(key).entries
        assert len(entries) <= SIBLINGS_MAX
        assert list(entries) == sorted(entries, key=lambda entry: entry.rank, reverse=True)
    one.expire(1e9)
    assert all(entry.ttl_ms is None for entry in one.everything(1e9))


def _link(payload: bytes) -> None:
    facts = _facts()
    settings = LinkSettings(parity=2, window=4)
    link = DeltaLink(facts, "b", 1, settings)
    link.send(0.0)
    try:
        link.receive(payload, 0.01)
        link.receive(payload, 0.02)
    finally:
        for step in range(5):
            for datagram in link.send(0.1 + step):
                assert len(datagram) <= settings.datagram_bytes
        assert 0.0 < link.timeout_s <= settings.timeout_max_s
        assert len(facts) <= 2 * KEYS_MAX


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
