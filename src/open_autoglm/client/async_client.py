"""The client: requests and streams to one server, or to one node, over a few connections.

A request that succeeds costs no task: the caller waits for a future that the connection's own callback resolves, and
what is sent within one turn of the loop goes out in one write per connection.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from open_autoglm import clock
from open_autoglm.client.address import read_address
from open_autoglm.client.answer import Answer, codec_of
from open_autoglm.client.direct import DirectPaths
from open_autoglm.client.failures import LostError
from open_autoglm.client.pool import Pool, open_links
from open_autoglm.client.request import Options, RequestWriter, TensorOptions
from open_autoglm.client.stream import RESENDS_MAX, AnswerStream
from open_autoglm.client.tensors import TensorAnswer, ask_in_tensors, written
from open_autoglm.client.unary import PendingAnswer
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.protocol.handshake import VERSIONS, WINDOW_BYTES, Credentials, Hello
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE, STREAM
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_session import FramedSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONNECTIONS_MAX: Final = 256
TIMEOUT_MAX_S: Final = 86_400.0
KEY_VARIABLE: Final = "MCP_API_KEY"
_CLOSED: Final = "the client is closed"
_TURNS_TO_CLOSE: Final = 3
"""Of the loop: the goodbyes go out, the transports close, and their protocols hear of it."""


class AsyncClient:
    """See the module. For one event loop; connects when it is first used.

    Args:
        address: `mcp://host:port`, `mcps://host:port` with TLS, or `unix:/path`; see `client.address`.
        key: API key; the variable MCP_API_KEY when left out.
        codec: of bodies: `msgpack`, `json` or `protobuf`.
        connections: how many are kept open, 1 to 256; one carries 1,024 requests at a time.
        timeout_s: for requests that say none, above 0, at most a day.
        connect_timeout_s: to open a connection, and to wait for one that was lost to come back.
        waiting_max: requests that may wait for room on a connection; more fail as `overloaded`.
        window_bytes: of a stream's text that may come before its reader takes it, 64 KiB to 2 GiB.
        tls: context for TLS; the system's authorities when left out.
        direct: ask nodes themselves where the server allows it; see `client.direct`.
        sign: prove that we know the key instead of sending it, and ask only a server that proves it too.

    Raises:
        AutoGLMError: an argument is out of its range.
    """

    def __init__(
        self,
        address: str,
        key: str | None = None,
        codec: str = "msgpack",
        *,
        connections: int = 1,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        waiting_max: int = 4096,
        window_bytes: int = WINDOW_BYTES,
        tls: ssl.SSLContext | None = None,
        direct: bool = False,
        sign: bool = False,
    ) -> None:
        if not 1 <= connections <= CONNECTIONS_MAX:
            raise RequestError("invalid_request", f"connections: {connections!r}; 1 to {CONNECTIONS_MAX}")
        _check_timeout(timeout_s)
        self._address = read_address(address)
        self._key = key or os.environ.get(KEY_VARIABLE) or None
        if sign and self._key is None:
            raise RequestError("invalid_request", f"sign: there is no key to sign with; give `key`, or {KEY_VARIABLE}")
        self._signer = SigningKey(self._key) if sign and self._key is not None else None
        self._codec = codec_of(codec)
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._waiting_max = waiting_max
        self._window_bytes = window_bytes
        self._tls = tls
        self._writer = RequestWriter(self._codec, timeout_s)
        self._pool: Pool | None = None
        self._is_direct = direct
        self._direct: DirectPaths | None = None
        self._closed = False

    async def infer(self, model: str, prompt: str | None = None, **options: Unpack[Options]) -> Answer:
        """Ask for a whole answer.

        Args:
            model: its name; empty leaves the choice to the server.
            prompt: the question, unless `messages` are given.
            **options: see `Options`.

        Raises:
            AutoGLMError: there is no answer; `code` says why, `retryable` whether to try again, `retry_after_s` when.
        """
        direct = self._direct
        pool = self._pool if direct is None else direct.take(model, options)
        payload, trace, flags, timeout_s = self._writer.write(model, prompt, options, resumable=False)
        if pool is None:
            pool = self._start()
        if timeout_s > TIMEOUT_MAX_S or flags & RESUMABLE:
            _check_timeout(timeout_s)
            return await self._read(pool, model, payload, flags, timeout_s, trace).whole()
        until_s = clock.monotonic() + timeout_s
        pending = PendingAnswer(pool.create_future(), pool.codec, until_s, timeout_s)
        session = pool.session()
        stream = 0
        if session is not None:
            stream = session.request(pending, payload, flags, int(timeout_s * 1000) or 1)
        if session is None or not stream:
            pool = self._pool or pool  # a node without room is not waited for
            if direct is not None:
                direct.look(model)
            session, stream = await _placed(pool, pending, payload, flags)
        try:
            answer = await pending.future
        except asyncio.CancelledError:
            session.cancel(stream)
            raise
        except AutoGLMError as error:
            server = self._pool
            if server is None:
                raise
            resends = RESENDS_MAX
            if pool is server:
                if flags & NO_RETRY or not isinstance(error, LostError):
                    raise
                resends -= 1
            elif direct is None or not await direct.failed(model, error, flags):
                raise
            rest_s = max(until_s - clock.monotonic(), 0.001)
            again = AnswerStream(server, payload, flags, timeout_s=rest_s, trace=trace, resends=resends)
            return await again.whole()
        finally:
            if pool.waiting:
                pool.wake()
        return pool.answers.read(answer, trace)

    def stream(self, model: str, prompt: str | None = None, **options: Unpack[Options]) -> AnswerStream:
        """Ask for an answer in pieces. The request goes out when the stream is first read.

        Args:
            model, prompt, **options: see `infer`.

        Raises:
            AutoGLMError: the request cannot be written as it is.
        """
        direct = self._direct
        pool = self._pool
        if direct is not None:
            direct.look(model)
            pool = direct.take(model, options)
        payload, trace, flags, timeout_s = self._writer.write(model, prompt, options, resumable=True)
        _check_timeout(timeout_s)
        if pool is None:
            pool = self._start()
        return self._read(pool, model, payload, flags | STREAM, timeout_s, trace)

    async def infer_tensors(
        self, model: str, tensors: Mapping[str, NDArray[Any]], **options: Unpack[TensorOptions]
    ) -> TensorAnswer:
        """Ask a model that takes tensors; always through the server, where `direct` is set too.

        Args:
            model: its name; empty leaves the choice to the server.
            tensors: by the names of the model's inputs, at least one.
            **options: see `TensorOptions`.

        Raises:
            AutoGLMError: see `infer`.
        """
        payload, trace, flags, timeout_s = self._writer.write_for_tensors(model, options)
        _check_timeout(timeout_s)
        pool = self._pool or self._start()
        return await ask_in_tensors(pool, written(tensors), payload, flags, timeout_s=timeout_s, trace=trace)

    def asks_node(self, model: str) -> bool:
        """Whether requests for a model go to a node now, without the server between."""
        return self._direct is not None and self._direct.open(model)

    async def close(self) -> None:
        """Close every connection; what runs ends with `client_closed`."""
        self._closed = True
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close(_CLOSED)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(_CLOSED)
            for _ in range(_TURNS_TO_CLOSE):
                await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        if self._pool is None:
            self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self) -> Pool:
        if self._closed:
            raise ServerError("client_closed", _CLOSED)
        hello = Hello(
            versions=list(VERSIONS),
            codecs=[self._codec.name],
            auth=Credentials(key=self._key if self._signer is None else None),
            window=self._window_bytes,
            agent="open-autoglm",
        )
        timeout_s = self._connect_timeout_s
        links = open_links(
            self._address,
            hello,
            self._connections,
            connect_timeout_s=timeout_s,
            tls=self._tls,
            key=self._signer,
            follow=True,
        )
        self._pool = Pool(self._address, self._codec, links, waiting_max=self._waiting_max, connect_timeout_s=timeout_s)
        if self._is_direct:
            self._direct = DirectPaths(
                self._pool,
                hello,
                connections=self._connections,
                connect_timeout_s=timeout_s,
                tls=self._tls,
                secured=self._address.tls,
            )
        return self._pool

    def _read(self, pool: Pool, model: str, payload: bytes, flags: int, timeout_s: float, trace: bytes) -> AnswerStream:
        """An answer in pieces; one that a node has not begun comes from the server."""
        direct, server = self._direct, self._pool
        if direct is None or server is None or pool is server:
            return AnswerStream(pool, payload, flags, timeout_s=timeout_s, trace=trace)

        async def otherwise(error: AutoGLMError) -> Pool | None:
            return server if await direct.failed(model, error, flags) else None

        return AnswerStream(pool, payload, flags, timeout_s=timeout_s, trace=trace, otherwise=otherwise)


async def _placed(pool: Pool, pending: PendingAnswer, payload: bytes, flags: int) -> tuple[FramedSession, int]:
    """Send a request as soon as there is room."""

    def send(session: FramedSession) -> int:
        remaining_ms = max(1, int((pending.until_s - clock.monotonic()) * 1000))
        return session.request(pending, payload, flags, remaining_ms)

    return await pool.place(send, pending.until_s)


def _check_timeout(timeout_s: float) -> None:
    if not 0 < timeout_s <= TIMEOUT_MAX_S:
        raise RequestError(
            "invalid_request", f"timeout_s: {timeout_s!r}; above 0, at most {TIMEOUT_MAX_S:g}", param="timeout_s"
        )
