"""Feeds bytes to every reader of membership, and what is read to a member of a small cluster.

The first byte chooses the reader: a datagram as it comes from the network, a message behind a right seal, a full state,
a load report. Without a driver: `python -m tests.fuzz.gossip FILE…`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Final

from open_autoglm.membership import wire
from open_autoglm.membership.effects import Send
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LOAD_BYTES, LoadReport, read_load, write_load
from open_autoglm.membership.member import Record
from open_autoglm.membership.seal import DATAGRAM_BYTES_MAX, open_datagram, seal_datagram
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.swim import Swim

KEY: Final = bytes(32)
MEMBERS_MAX: Final = 8
ME: Final = Record(id="me", role="server", start=5, gossip="127.0.0.1:1", address="127.0.0.1:2")
OTHER: Final = Record(id="n1", role="node", node_class="cpu", start=7, gossip="127.0.0.1:3", models=(("a", "1"),))
LOAD: Final = write_load(LoadReport(cpu=0.5, running=1, number=3))
NAMES: Final = b"\x02me", b"\x02n1", b"\x03new"
TOKENS: Final = [
    *NAMES, b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\xff", LOAD, (7).to_bytes(8, "big"),
    (5).to_bytes(8, "big"), (0).to_bytes(4, "big"), (2**32 - 1).to_bytes(4, "big"), (2**64 - 1).to_bytes(8, "big"),
    b"\x0b127.0.0.1:4", wire.write_record(OTHER), wire.write_verdict(wire.Verdict("suspect", "me", 5, 0, "n1")),
    wire.write_verdict(wire.Verdict("dead", "n1", 7, 0, "x")),
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
            open_datagram(KEY, payload)
            raise AssertionError("nobody guesses a seal")
        if choice == 1:
            _message(payload)
        elif choice == 2:
            _state(payload)
        else:
            load = read_load(payload)
            assert read_load(write_load(load)) == load
            assert len(payload) == LOAD_BYTES
    except GossipError:
        pass


def _message(payload: bytes) -> None:
    if 0 < len(payload) <= wire.MESSAGE_BYTES_MAX:
        assert open_datagram(KEY, seal_datagram(KEY, 9, payload)) == (9, payload)
    message = wire.read_message(payload)
    assert len(message.news) <= len(payload)
    swim = _swim()
    before = swim.roster.me.age
    now_s = 0.0
    effects = swim.handle(message, "127.0.0.1:9", now_s)
    for _ in range(6):
        now_s = swim.next_deadline()
        effects += swim.handle_timeout(now_s)
    assert swim.roster.me.age >= before, "a member never grows younger"
    assert len(swim.members) <= MEMBERS_MAX
    for effect in effects:
        if isinstance(effect, Send):
            assert len(seal_datagram(KEY, 1, effect.message)) <= DATAGRAM_BYTES_MAX
            wire.read_message(effect.message)


def _state(payload: bytes) -> None:
    entries = wire.read_state(payload, MEMBERS_MAX)
    assert wire.read_state(wire.write_state(entries), MEMBERS_MAX) == entries
    swim = _swim()
    swim.merge(entries, "n1", 1.0)
    assert len(swim.members) <= MEMBERS_MAX


def _swim() -> Swim:
    swim = Swim(ME, SwimSettings(members_max=MEMBERS_MAX), random.Random(1), 0.0)
    swim.merge([wire.Entry("alive", OTHER, None)], "n1", 0.0)
    return swim


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
