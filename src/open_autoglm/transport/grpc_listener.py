"""The gRPC listener: a `grpc.aio` server on the loop that everything else runs on. Needs the extra `grpc`.

It moves bytes: a message in, messages or a status out; what they say is the application's. Invariant: every RPC that
reached the application is left in the end, whether it was answered, cancelled, overdue or given up.

| what | its limit |
|---|---|
| a message | `wire.body_bytes`; compressed ones are refused |
| metadata | `wire.header_bytes` |
| RPCs | 1,024 on a connection, `wire.connections` on all together |
| connections | `wire.connections` |
| a client that takes nothing | `wire.write_timeout`; then its answer is given up |
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import grpc
from grpc import aio

from open_autoglm.transport.settings import TlsFiles, WireLimits

Metadata = tuple[tuple[str, str | bytes], ...]
_STREAMS_MAX: Final = 1024
_HANDSHAKE_MS: Final = 10_000
_KEEPALIVE_MS: Final = 60_000
_KEEPALIVE_TIMEOUT_MS: Final = 20_000
_IDENTITY_ONLY: Final = 1
"""As a set of bits: of all codings of messages, the one that changes nothing."""
STATUSES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
    508: grpc.StatusCode.FAILED_PRECONDITION,
}
"""What gRPC says for a status of HTTP."""
_TOO_SLOW: Final = (("mcp-code", "request_timeout"), ("mcp-retryable", "false"))


class Terms(NamedTuple):
    """What an RPC says beside its message.

    Attributes:
        address: of the client.
        metadata: as sent; names are lower-case.
        remaining_s: seconds until its deadline, None when it has none.
        streamed: whether the answer comes in parts.
    """

    address: str
    metadata: Metadata
    remaining_s: float | None
    streamed: bool


class Failure(NamedTuple):
    """Why there is no answer, or no more of it.

    Attributes:
        status: as HTTP has it.
        code: one of `errors.CODES`.
        message: for people.
        retryable: whether the same request may succeed when it is sent again.
        retry_after_ms: when; 0 when that is not known.
    """

    status: int
    code: str
    message: str
    retryable: bool
    retry_after_ms: int


class Answer(Protocol):
    """What comes of a request."""

    async def next(self) -> bytes | None:
        """The next message; None when there are no more."""

    def metadata(self) -> Metadata:
        """What goes with the answer; known with its first message, or at its end."""

    def failure(self) -> Failure | None:
        """Why it ended, when that was no success; known at its end."""


_A = TypeVar("_A", bound=Answer)


class GrpcApplication(Protocol[_A]):
    """What stands behind the listener."""

    def ask(self, terms: Terms, data: bytes) -> _A:
        """Take a request. Must not raise."""

    def leave(self, answer: _A) -> None:
        """An RPC is over, told once or twice: whatever still runs for it is not wanted any more."""


class GrpcListener(Generic[_A]):
    """See the module; to be made on the running loop.

    Args:
        application: see `GrpcApplication`.
        service: full name of the service.
        limits: see the module.
    """

    def __init__(self, application: GrpcApplication[_A], service: str, limits: WireLimits) -> None:
        self._application = application
        self._write_timeout_s = limits.write_timeout_s
        self._server = aio.server(options=_options(limits), maximum_concurrent_rpcs=limits.connections)
        methods = {
            "Infer": grpc.unary_unary_rpc_method_handler(self._infer),
            "InferStream": grpc.unary_stream_rpc_method_handler(self._infer_stream),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    async def listen(self, host: str, port: int, tls: TlsFiles, *, beside: bool = False) -> int:
        """Open the listening socket and return its port.

        Args:
            host, port: where; port 0 asks the system for a free one.
            tls: files of the data listener, whose clients come here too.
            beside: whether the process that is being replaced still listens there.

        Raises:
            OSError: the address cannot be had, or the files cannot be read.
        """
        if not beside:
            _try(host, port)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls.cert is None:
                taken = self._server.add_insecure_port(place)
            else:
                taken = self._server.add_secure_port(place, _credentials(tls))
        except RuntimeError as error:  # so says gRPC whatever the reason is
            raise OSError(0, f"{place} cannot be had") from error
        await self._server.start()
        return int(taken)

    async def close(self, grace_s: float) -> None:
        """Take no more connections and requests at once; return when all are over, or cut after `grace_s`."""
        await self._server.stop(grace_s)

    # RPCs.

    async def _infer(self, data: bytes, context: Any) -> bytes:
        answer = self._ask(data, context, streamed=False)
        try:
            message = await answer.next()
            await self._conclude(answer, context)
            assert message is not None, "no failure, and no answer either"
            return message
        finally:
            self._application.leave(answer)

    async def _infer_stream(self, data: bytes, context: Any) -> None:
        answer = self._ask(data, context, streamed=True)
        try:
            first = await answer.next()
            if first is not None:
                await context.send_initial_metadata(answer.metadata())
                await self._write(first, context)
            while (message := await answer.next()) is not None:
                await self._write(message, context)
            await self._conclude(answer, context)
        except TimeoutError:
            self._application.leave(answer)  # at once: the status waits behind what the client does not take
            await context.abort(STATUSES[408], f"the client took nothing for {self._write_timeout_s:g} s", _TOO_SLOW)
        finally:
            self._application.leave(answer)

    def _ask(self, data: bytes, context: Any, *, streamed: bool) -> _A:
        metadata = tuple(context.invocation_metadata() or ())
        terms = Terms(address_of(context.peer()), metadata, context.time_remaining(), streamed)
        return self._application.ask(terms, data)

    async def _write(self, message: bytes, context: Any) -> None:
        async with asyncio.timeout(self._write_timeout_s):
            await context.write(message)

    @staticmethod
    async def _conclude(answer: _A, context: Any) -> None:
        """Say what goes with the answer's end; raises, as gRPC wants it, when that is a failure."""
        failure = answer.failure()
        if failure is None:
            context.set_trailing_metadata(answer.metadata())
            return
        said: Metadata = (("mcp-code", failure.code), ("mcp-retryable", "true" if failure.retryable else "false"))
        if failure.retry_after_ms:
            said += (("mcp-retry-after-ms", str(failure.retry_after_ms)),)
        await context.abort(STATUSES[failure.status], failure.message, answer.metadata() + said)


def address_of(peer: str) -> str:
    """The address in what gRPC calls a peer: `ipv4:127.0.0.1:4000`, `ipv6:%5B::1%5D:4000`."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")


def _options(limits: WireLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),  # how long an answer may be is checked where it is read
        ("grpc.max_concurrent_streams", _STREAMS_MAX),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", limits.header_bytes),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.so_reuseport", 1),  # so that whoever replaces this process can listen before it leaves
    ]


def _credentials(tls: TlsFiles) -> Any:
    assert tls.cert is not None
    key = Path(tls.key).read_bytes() if tls.key is not None else Path(tls.cert).read_bytes()
    authorities = Path(tls.client_ca).read_bytes() if tls.client_ca is not None else None
    pairs = ((key, Path(tls.cert).read_bytes()),)
    return grpc.ssl_server_credentials(pairs, authorities, require_client_auth=authorities is not None)


def _try(host: str, port: int) -> None:
    """Find out why an address cannot be had, which gRPC does not say; and that nobody is there who shares his port.

    Raises:
        OSError: with the reason.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
