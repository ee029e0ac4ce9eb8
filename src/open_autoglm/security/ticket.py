"""Tickets: a server's word, for a minute, that a client may ask one node itself.

| bytes | field |
|---|---|
| 0 | version, 1 |
| 1 | priority: the highest class that its requests may ask for |
| 2–3 | concurrency: requests that may run at once, 0 for no bound of its own |
| 4–7 | requests that it is good for, at least 1 |
| 8–15 | when it ends, in milliseconds of the node's own clock since the node's start |
| 16–23 | issuer: the server's process |
| 24–31 | number: of the issuer's tickets |
| 32– | u8 and the name of the client's key, u8 and the model, both UTF-8 |
| last 16 | HMAC-SHA256 over all before it, cut to 16 bytes (RFC 2104, section 5) |

The seal's key is made for one process of one node, so a ticket is worth nothing anywhere else, nor after that process
has ended; and its end is told in the node's own time, so no two clocks are compared. As text it is URL-safe base64
without padding (RFC 4648). Invariant: nothing of a ticket is looked at before its seal is right, and one text only
stands for a ticket.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from open_autoglm.errors import RequestError

TICKET_CHARS_MAX: Final = 1024
NAME_BYTES_MAX: Final = 255
ISSUER_BYTES: Final = 8
SEAL_BYTES: Final = 16
_VERSION: Final = 1
_HEAD: Final = Layout(f">BBHIQ{ISSUER_BYTES}sQ")
_LEAST_BYTES: Final = _HEAD.size + 2 + SEAL_BYTES
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class TicketKey:
    """Seals the tickets of one node's process. Both blocks of the key are hashed once (RFC 2104, section 4).

    Args:
        key: at most 64 secret bytes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def seal(self, said: bytes) -> bytes:
        """The 16 bytes that prove that somebody with the key wrote it."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(said)
        outer.update(inner.digest())
        return outer.digest()[:SEAL_BYTES]


class Ticket(Struct, frozen=True, gc=False):
    """See the module.

    Attributes:
        issuer, number: which ticket it is.
        key: name of the client's key.
        model: that may be asked.
        requests: how many.
        expires_ms: in the node's own time.
        priority, concurrency: see the module.
    """

    issuer: bytes
    number: int
    key: str
    model: str
    requests: int
    expires_ms: int
    priority: int = 0
    concurrency: int = 0


def seal_ticket(ticket: Ticket, key: TicketKey) -> str:
    """Return a ticket as the node takes it.

    Args:
        ticket: with names of at most 255 bytes.
        key: of that node's process.

    Raises:
        RequestError: `invalid_request`: a name is too long.
    """
    name, model = ticket.key.encode(), ticket.model.encode()
    if len(name) > NAME_BYTES_MAX or len(model) > NAME_BYTES_MAX:
        raise RequestError("invalid_request", f"a ticket's names have at most {NAME_BYTES_MAX} bytes")
    head = _HEAD.pack(
        _VERSION,
        ticket.priority,
        ticket.concurrency,
        ticket.requests,
        ticket.expires_ms,
        ticket.issuer,
        ticket.number,
    )
    said = b"%b%c%b%c%b" % (head, len(name), name, len(model), model)
    return urlsafe_b64encode(said + key.seal(said)).rstrip(b"=").decode("ascii")


def open_ticket(text: str, keys: Sequence[TicketKey]) -> Ticket:
    """Read a ticket.

    Args:
        text: as the client shows it.
        keys: of this process; the seal is that of one of them.

    Raises:
        RequestError: `invalid_signature`: it is no ticket of ours for this process.
    """
    if len(text) > TICKET_CHARS_MAX:
        raise _refused()
    try:
        shown = text.encode("ascii")
        data = binascii.a2b_base64(shown.translate(_STANDARD) + b"=" * (-len(shown) % 4), strict_mode=True)
    except ValueError as error:
        raise _refused() from error
    said, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
    if len(data) < _LEAST_BYTES or urlsafe_b64encode(data).rstrip(b"=") != shown:
        raise _refused()
    if not any(hmac.compare_digest(key.seal(said), seal) for key in keys):
        raise _refused()
    return _read(said)


def _read(said: bytes) -> Ticket:
    """The fields of what was sealed; even whoever has the key may have written nonsense."""
    version, priority, concurrency, requests, expires_ms, issuer, number = _HEAD.unpack_from(said)
    at = _HEAD.size
    name, at = said[at + 1 : at + 1 + said[at]], at + 1 + said[at]
    if version != _VERSION or not requests or at >= len(said) or at + 1 + said[at] != len(said):
        raise _refused()
    try:
        return Ticket(
            issuer, number, name.decode(), said[at + 1 :].decode(), requests, expires_ms, priority, concurrency
        )
    except UnicodeDecodeError as error:
        raise _refused() from error


def _refused() -> RequestError:
    return RequestError("invalid_signature", "this is no ticket for this node; ask the server for one")
