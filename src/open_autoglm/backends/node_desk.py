"""What a server has to know of a node to write tickets for it, as the node says it on each connection.

A node's process has a name and a clock of its own. Invariant: the time that is reckoned here for the node's clock is
never ahead of it, so a ticket never lives longer than was meant, and at most the way to the node and back shorter.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError
from open_autoglm.membership.seal import derive_key
from open_autoglm.protocol.codecs import CODECS, Codec
from open_autoglm.protocol.opcodes import TICKET_REQUEST
from open_autoglm.secret import Secret
from open_autoglm.security.ticket import TicketKey
from open_autoglm.transport.framed_session import FramedSession

_log = logging.getLogger(__name__)
_AGAIN_S: Final = 30.0
"""Clocks drift apart by less than 10 ms meanwhile."""


class UsageSink(Protocol):
    """Who writes tickets, and hears of their use.

    Attributes:
        issuer: 8 bytes that no other server's process has.
    """

    issuer: bytes

    def take(self, number: int, body: dict[str, Any]) -> None:
        """Count a report, unless it was counted before.

        Raises:
            AutoGLMError: it cannot be read.
        """


class NodeDesk:
    """See the module.

    Args:
        issuer: our name.
        secret: that the node knows us by.

    Attributes:
        node: name of the node's process; empty until it was told.
        key: for tickets of that process; None until it was told.
    """

    __slots__ = ("_asked_s", "_clock_ms", "_heard_s", "_issuer", "_secret", "key", "node")

    def __init__(self, issuer: bytes, secret: Secret) -> None:
        self._issuer = issuer
        self._secret = secret
        self._asked_s = 0.0
        self._clock_ms = 0
        self._heard_s = 0.0
        self.node = ""
        self.key: TicketKey | None = None

    def introduce(self, session: FramedSession, now_s: float) -> None:
        """Say on a connection who we are, and ask who the node is."""
        codec = CODECS[session.codec]
        stream = session.connection.open(TICKET_REQUEST, codec.encode({"issuer": self._issuer.hex()}))
        if stream:
            self._asked_s = now_s
            session.handlers[stream] = _Introduction(self, codec)

    def is_due(self, now_s: float) -> bool:
        """Whether the node's clock should be asked for again."""
        return now_s - self._asked_s >= _AGAIN_S

    def node_ms(self, now_s: float) -> int:
        """What the node's clock shows now, or a little less."""
        return self._clock_ms + int((now_s - self._heard_s) * 1000)

    def told(self, node: str, clock_ms: int, now_s: float) -> None:
        """The node has said who it is, and what its clock shows.

        Raises:
            ValueError: its name has no meaning.
        """
        if node != self.node:
            secret = self._secret.reveal().encode()
            self.key = TicketKey(derive_key(secret, "ticket", bytes.fromhex(node)))
            self.node = node
        self._clock_ms, self._heard_s = clock_ms, now_s


class _Introduction:
    """Hears what a node says of itself; see `transport.framed_session.StreamHandler`."""

    __slots__ = ("_codec", "_desk")

    def __init__(self, desk: NodeDesk, codec: Codec) -> None:
        self._desk = desk
        self._codec = codec

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        try:
            fields = self._codec.decode(payload)
            self._desk.told(str(fields["node"]), int(fields["clock_ms"]), clock.monotonic())
        except (AutoGLMError, KeyError, TypeError, ValueError) as error:
            _log.warning("a node's answer about tickets cannot be read: %s", error)

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        """The node takes no tickets."""

    def on_lost(self, detail: str) -> None:
        """The next connection asks again."""

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """There are none."""
