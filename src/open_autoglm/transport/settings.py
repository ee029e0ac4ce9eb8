"""Limits and timers of the wire: the wall to the outside. Each has a bound; none can be switched off whole."""

from typing import Annotated

from msgspec import Meta, Struct, field

from open_autoglm.protocol.handshake import (
    FRAME_BYTES_LEAST,
    FRAME_BYTES_MAX,
    FRAME_BYTES_MOST,
    HEARTBEAT_MS,
    MESSAGE_BYTES_MOST,
    REQUESTS_MAX,
    WINDOW_BYTES,
    WINDOW_BYTES_LEAST,
    WINDOW_BYTES_MOST,
)
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.quantities import Bytes, Seconds


class WireLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one client connection may send, and how slowly.

    Attributes:
        target_bytes: of the request target (path and query).
        header_bytes: of a request's head in all.
        headers: header lines of a request.
        body_bytes: of a request's body.
        pipeline_bytes: that a client may send ahead while an answer is being made.
        connections: open at once; more are answered 503 and closed.
        connections_per_address: the same for one client: an IPv4 address, or the network of an IPv6 address (/64).
            Clients on this machine are not counted. Raise it where a proxy stands before the server.
        header_timeout_s: from the first byte of a request to the end of its head.
        idle_timeout_s: of a kept-alive connection without a request; one that never sent any has 30 s at most.
        body_grace_s: after which a body must arrive at `body_rate` on average.
        body_rate: bytes per second, at least.
        write_timeout_s: a client that takes nothing for so long is closed.
        write_buffer_bytes: waiting for a slow reader; beyond it the upstream is not read.
    """

    target_bytes: Bytes = 8 * 2**10
    header_bytes: Bytes = 32 * 2**10
    headers: Annotated[int, Meta(ge=1, le=1000)] = 100
    body_bytes: Bytes = 32 * 2**20
    pipeline_bytes: Bytes = 64 * 2**10
    connections: Annotated[int, Meta(ge=1)] = 10_000
    connections_per_address: Annotated[int, Meta(ge=1)] = 2000
    header_timeout_s: Seconds = field(default=10.0, name="header_timeout")
    idle_timeout_s: Seconds = field(default=75.0, name="idle_timeout")
    body_grace_s: Seconds = field(default=10.0, name="body_grace")
    body_rate: Bytes = 1024
    write_timeout_s: Seconds = field(default=30.0, name="write_timeout")
    write_buffer_bytes: Bytes = 256 * 2**10


_FrameBytes = Annotated[int, Meta(ge=FRAME_BYTES_LEAST, le=FRAME_BYTES_MOST, extra={"quantity": "size"})]
_WindowBytes = Annotated[int, Meta(ge=WINDOW_BYTES_LEAST, le=WINDOW_BYTES_MOST, extra={"quantity": "size"})]
_WaitingBytes = Annotated[int, Meta(ge=WINDOW_BYTES_LEAST, le=2**30, extra={"quantity": "size"})]
_Heartbeat = Annotated[float, Meta(ge=0.1, le=3600, extra={"quantity": "duration"})]
_Handshake = Annotated[float, Meta(ge=0.1, le=60, extra={"quantity": "duration"})]
_Stall = Annotated[float, Meta(ge=1, le=3600, extra={"quantity": "duration"})]


class FrameLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and timers of a client's framed connection; new connections get what is set now.

    Attributes:
        frame_bytes: longest payload of a frame, 64 KiB to 16 MiB. The longest message is `limits.body_bytes`.
        streams: requests that may be open on one connection.
        window: bytes of chunks that the server takes on a stream before it has given more credit, 64 KiB to 2 GiB.
        waiting_bytes: of one answer that may wait for a client's credit; the answer is given up beyond it.
        heartbeat_s: silence after which a client is asked for a sign of life; twice of it ends the connection.
        handshake_timeout_s: until when a client must have said who it is, 60 s at most.
        stall_timeout_s: how long an answer waits for credit, and a message for its rest.
    """

    frame_bytes: _FrameBytes = FRAME_BYTES_MAX
    streams: Annotated[int, Meta(ge=1, le=1_000_000)] = REQUESTS_MAX
    window: _WindowBytes = WINDOW_BYTES
    waiting_bytes: _WaitingBytes = 2**20
    heartbeat_s: _Heartbeat = field(default=HEARTBEAT_MS / 1000, name="heartbeat")
    handshake_timeout_s: _Handshake = field(default=10.0, name="handshake_timeout")
    stall_timeout_s: _Stall = field(default=60.0, name="stall_timeout")


def connection_settings(limits: FrameLimits, body_bytes: int) -> ConnectionSettings:
    """What these limits are to a connection, with the longest body as its longest message."""
    return ConnectionSettings(
        frame_bytes_max=limits.frame_bytes,
        message_bytes_max=min(max(body_bytes, FRAME_BYTES_LEAST), MESSAGE_BYTES_MOST),
        requests_max=limits.streams,
        heartbeat_ms=round(limits.heartbeat_s * 1000),
        window_bytes=limits.window,
        handshake_s=limits.handshake_timeout_s,
        waiting_bytes_max=limits.waiting_bytes,
        stall_s=limits.stall_timeout_s,
    )


class PoolLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Connections to one endpoint.

    Attributes:
        connections: open at once; more requests wait their turn until their connect timeout.
        idle: kept open without a request.
        idle_timeout_s: after which an idle connection is closed; below what servers usually keep (vLLM: 5 s).
        head_bytes: of an answer's head.
    """

    connections: Annotated[int, Meta(ge=1)] = 1024
    idle: Annotated[int, Meta(ge=0)] = 256
    idle_timeout_s: Seconds = field(default=60.0, name="idle_timeout")
    head_bytes: Bytes = 64 * 2**10


class TlsFiles(Struct, frozen=True, forbid_unknown_fields=True):
    """Files of the listener's TLS, PEM.

    Attributes:
        cert: certificate chain; TLS is off without it.
        key: private key of `cert`.
        client_ca: authorities whose clients are let in; others are refused at the handshake.
    """

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None


class TlsClientFiles(Struct, frozen=True):
    """Files of outgoing TLS connections, PEM.

    Attributes:
        ca: authorities that are trusted; the system's when None.
        cert: certificate chain that is shown to a listener that asks for one; none when None.
        key: private key of `cert`; in the same file when None.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
