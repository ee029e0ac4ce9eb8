"""Limits and timers of the wire: the wall to the outside. Each has a bound; none can be switched off whole."""

from typing import Annotated

from msgspec import Meta, Struct, field

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
