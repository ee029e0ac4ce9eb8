"""Limits of one connection, as its role sets them; the server's are told to the client in WELCOME."""

from __future__ import annotations

from msgspec import Struct

from open_autoglm.protocol.handshake import (
    FRAME_BYTES_MAX,
    HEARTBEAT_MS,
    MESSAGE_BYTES_MAX,
    REQUESTS_MAX,
    WINDOW_BYTES,
)


class ConnectionSettings(Struct, frozen=True, kw_only=True):
    """See the module.

    Attributes:
        frame_bytes_max: longest payload of a frame, 64 KiB to 16 MiB. A server's; a client takes what WELCOME says.
        message_bytes_max: longest message, all its fragments together; a connection keeps at most twice as many bytes
            of messages that are not whole. A server's.
        requests_max: streams that may be open at once. A server's.
        heartbeat_ms: silence after which a side asks whether the other is there, twice of it ends the connection;
            100 ms to an hour. A server's.
        window_bytes: bytes of chunks that we take on a stream before we have given more credit, 64 KiB to 2 GiB. A
            client's goes out in its `Hello`.
        handshake_s: until when the handshake must have come to its end.
        waiting_bytes_max: chunk bytes of a stream that wait for credit; a producer that goes on regardless is cut off.
        stall_s: how long a stream waits for credit, or for more of a message, before it is given up.
    """

    frame_bytes_max: int = FRAME_BYTES_MAX
    message_bytes_max: int = MESSAGE_BYTES_MAX
    requests_max: int = REQUESTS_MAX
    heartbeat_ms: int = HEARTBEAT_MS
    window_bytes: int = WINDOW_BYTES
    handshake_s: float = 10.0
    waiting_bytes_max: int = 1 << 20
    stall_s: float = 60.0
