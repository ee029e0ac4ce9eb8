"""Seals on what members send: nothing of a message is looked at before its seal is found to be right.

Keys are derived from the cluster's secret, one for each use (HKDF with SHA-256, RFC 5869, so that a seal of one use is
none of another). A seal is HMAC-SHA256 cut to 16 bytes (RFC 2104, section 5).

A datagram is: version u8, seal (16), sequence u64, message. The sequence grows with each datagram of a process;
together with sender and start it is taken once (`ReplayGuard`), in a window as that of IPsec (RFC 4303, 3.4.3).
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from hashlib import sha256
from struct import Struct as Layout
from typing import Final

from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.wire import MESSAGE_BYTES_MAX

DATAGRAM_BYTES_MAX: Final = 1400
"""Below what every path carries whole with IPv6, UDP and a tunnel around it."""
SEAL_BYTES: Final = 16
_VERSION: Final = 1
_SEQUENCE: Final = Layout(">Q")
_HEAD_BYTES: Final = 1 + SEAL_BYTES + _SEQUENCE.size
_WINDOW: Final = 1024

assert _HEAD_BYTES + MESSAGE_BYTES_MAX <= DATAGRAM_BYTES_MAX


def derive_key(secret: bytes, label: str, salt: bytes = b"") -> bytes:
    """Return the key of 32 bytes for one use of a secret; see the module."""
    extracted = hmac.digest(salt or bytes(sha256().digest_size), secret, "sha256")
    return hmac.digest(extracted, f"open-autoglm {label}".encode() + b"\x01", "sha256")


def seal_of(key: bytes, data: bytes) -> bytes:
    """Return the 16 bytes that prove that somebody with the key wrote `data`."""
    return hmac.digest(key, data, "sha256")[:SEAL_BYTES]


def is_sealed(key: bytes, data: bytes, seal: bytes) -> bool:
    """Whether a seal is right; takes as long whether it is or not."""
    return hmac.compare_digest(seal_of(key, data), seal)


def seal_datagram(key: bytes, sequence: int, message: bytes) -> bytes:
    """Return a datagram with a message in it."""
    rest = _SEQUENCE.pack(sequence) + message
    head = bytes((_VERSION,))
    return head + seal_of(key, head + rest) + rest


def open_datagram(key: bytes, data: bytes) -> tuple[int, bytes]:
    """Return sequence and message of a datagram.

    Raises:
        GossipError: it is too short or too long, of another version, or its seal is wrong.
    """
    if not _HEAD_BYTES < len(data) <= DATAGRAM_BYTES_MAX:
        raise GossipError(f"no datagram has {len(data)} bytes")
    head, seal, rest = data[:1], data[1 : 1 + SEAL_BYTES], data[1 + SEAL_BYTES :]
    if not is_sealed(key, head + rest, seal):
        raise GossipError("a datagram's seal is wrong")
    if head[0] != _VERSION:
        raise GossipError(f"version {head[0]} of datagrams is not known here")
    (sequence,) = _SEQUENCE.unpack_from(rest)
    return sequence, rest[_SEQUENCE.size :]


class ReplayGuard:
    """Knows which datagrams came already.

    A datagram is new when its member has not restarted since it was sent, and its sequence is not among the last 1,024
    that came, nor older than these.

    Args:
        members_max: whose windows are kept; beyond that the one goes that was silent for longest.
    """

    __slots__ = ("_members_max", "_windows")

    def __init__(self, members_max: int) -> None:
        self._members_max = members_max
        self._windows: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def is_new(self, sender: str, start: int, sequence: int) -> bool:
        """Note a datagram; return whether it is to be read.

        Args:
            sender: the member's name.
            start: of its process.
            sequence: of the datagram.
        """
        windows = self._windows
        known_start, highest, seen = windows.get(sender, (-1, 0, 0))
        if start < known_start:
            return False
        if start > known_start:
            highest, seen = sequence, 1
        elif sequence > highest:
            seen = ((seen << min(sequence - highest, _WINDOW)) | 1) & ((1 << _WINDOW) - 1)
            highest = sequence
        else:
            bit = 1 << (highest - sequence) if highest - sequence < _WINDOW else 0
            if not bit or seen & bit:
                return False
            seen |= bit
        windows[sender] = (start, highest, seen)
        windows.move_to_end(sender)
        if len(windows) > self._members_max:
            windows.popitem(last=False)
        return True
