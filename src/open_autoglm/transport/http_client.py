"""The HTTP/1.1 client shell: pools of kept-alive connections to one origin.

A request goes out in one write and its answer comes back through callbacks; no task is made unless a connection
must be opened. Invariants: a connection carries one request at a time; it goes back to the pool only when its answer
ended cleanly, with nothing after it, and the server keeps it; the newest idle connection is used first; an answer
that ends before its framing says so is `lost`, never `end`; every transfer hears `on_end` or `on_lost` once, unless it
was cancelled; `open` counts connecting, busy, idle and closing connections, each once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from open_autoglm import clock
from open_autoglm.transport.http_answer import AnswerSink, Headers, Loss
from open_autoglm.transport.known_head import KnownHead, remember_answer
from open_autoglm.transport.settings import PoolLimits
from open_autoglm.transport.upstream_connection import Transfer, UpstreamConnection

_WAITING_MAX = 10_000
"""Requests that wait for a connection; as many as the server has clients, by default."""
_TLS_SHUTDOWN_S = 2.0
_LEARNT_PER_SWEEP_MAX = 4
"""Heads of answers that are remembered in a second."""


class _StatusSink:
    """Wants to know an answer's status and nothing more."""

    __slots__ = ("status",)

    def __init__(self, status: asyncio.Future[int]) -> None:
        self.status = status

    def on_sent(self, reused: bool) -> None:
        pass

    def on_head(self, status: int, headers: Headers) -> None:
        self._tell(status)

    def on_data(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        pass

    def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
        self._tell(status)

    def on_lost(self, loss: Loss, detail: str) -> None:
        self._tell(0)

    def _tell(self, status: int) -> None:
        if not self.status.done():
            self.status.set_result(status)


class HttpPool:
    """Connections to one origin.

    Attributes:
        known_answer: the head of the latest plain answers.

    Args:
        host, port: where to connect; `unix_path` instead for a Unix socket.
        tls: context for https, else None.
        tls_name: what its certificate must show; `host` when left out.
        limits: of connections.
        connect_timeout_s: to open one, handshake included; also how long a request waits for its turn.
        loop: where it runs.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        limits: PoolLimits,
        connect_timeout_s: float,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
        unix_path: str | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits
        self.connect_timeout_s = connect_timeout_s
        self.open = 0
        self.closed = False
        self.known_answer: KnownHead[Headers] | None = None
        self._answers_learnt = 0
        self._loop = loop
        self._tls = tls
        self._tls_name = tls_name or host
        self._unix_path = unix_path
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[Transfer] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, head: bytes, body: bytes, sink: AnswerSink) -> Transfer:
        """Send a request; the sink hears of its answer, never before this returns, unless it is lost at once."""
        transfer = Transfer(head, body, sink)
        self.dispatch(transfer)
        return transfer

    def dispatch(self, transfer: Transfer) -> None:
        """Send a request that is a transfer already; as `send`."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                connection.carry(transfer, True)
                return
        if self.open < self.limits.connections:
            self._connect(transfer)
        elif len(self._waiting) >= _WAITING_MAX:
            self._give_up(transfer, f"{_WAITING_MAX} requests wait for a connection already")
        else:
            transfer.waits_until_s = clock.monotonic() + self.connect_timeout_s
            self._waiting.append(transfer)
            if self.closed:
                self._sweep_late()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take back a usable connection whose answer has ended cleanly."""
        while self._waiting:
            transfer = self._waiting.popleft()
            if transfer.sink is not None:
                connection.carry(transfer, reused=True)
                return
        if len(self._idle) < self.limits.idle and not self.closed:
            self._idle.append(connection)
        else:
            connection.close()

    def know_answer(self, headers: Headers, data: bytes, body_bytes: int) -> None:
        """Remember the head of an answer for the next ones; see `remember_answer`.

        Heads tell the second; those that differ from answer to answer are not worth the trouble.
        """
        if self._answers_learnt < _LEARNT_PER_SWEEP_MAX:
            self._answers_learnt += 1
            self.known_answer = remember_answer(headers, data, body_bytes) or self.known_answer

    def forget(self, connection: UpstreamConnection) -> None:
        """Note that a connection has closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._release()

    def _release(self) -> None:
        """One connection less: whoever waits may open another."""
        self.open -= 1
        while self._waiting and self.open < self.limits.connections:
            transfer = self._waiting.popleft()
            if transfer.sink is not None:
                self._connect(transfer)

    def sweep(self, now_s: float) -> None:
        """Close connections that were idle too long, and give up on requests that waited too long. Call each second."""
        self._answers_learnt = 0
        limit_s = now_s - self.limits.idle_timeout_s
        while self._idle and self._idle[0].idle_since_s < limit_s:
            self._idle.pop(0).close()
        while self._waiting and self._waiting[0].waits_until_s < now_s:
            self._give_up(self._waiting.popleft(), f"all {self.limits.connections} connections are busy")

    def close(self) -> None:
        """Keep no connection any longer: idle ones close now, busy ones after their answer.

        Requests that began while the pool was in use may still be sent, each on what it finds or opens.
        """
        self.closed = True
        while self._idle:
            self._idle.pop().close()
        if self._waiting:
            self._sweep_late()

    def _sweep_late(self) -> None:
        """Whoever waits at a closed pool, which nobody sweeps, waits no longer than at any other."""
        self._loop.call_later(self.connect_timeout_s, lambda: self.sweep(clock.monotonic()))

    @staticmethod
    def _give_up(transfer: Transfer, detail: str) -> None:
        sink = transfer.sink
        transfer.sink = None
        if sink is not None:
            sink.on_lost("connect", detail)

    def _connect(self, transfer: Transfer) -> None:
        self.open += 1
        task = self._loop.create_task(self._connect_and_carry(transfer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect_and_carry(self, transfer: Transfer) -> None:
        try:
            connection = await asyncio.wait_for(self._open_connection(), self.connect_timeout_s)
        except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors; a bad name is a ValueError
            self._give_up(transfer, self._describe(error))
            self._release()
            return
        except asyncio.CancelledError:
            self.open -= 1
            raise
        if not connection.usable():
            self._give_up(transfer, "the connection was closed as soon as it was open")
            self._release()
            return
        connection.counted = True
        if transfer.sink is not None:
            connection.carry(transfer, reused=False)
        else:
            connection.idle_since_s = clock.monotonic()
            self.give_back(connection)

    async def ask_status(self, head: bytes, timeout_s: float) -> int:
        """Send a request without a body on a connection of its own; return the answer's status, 0 when none came."""
        asked = _StatusSink(self._loop.create_future())
        transfer = Transfer(head, b"", asked)
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._open_connection()
                if not connection.usable():
                    return 0
                connection.carry(transfer, reused=False)
                return await asked.status
        except (OSError, ValueError):
            return 0
        finally:
            transfer.cancel()

    async def _open_connection(self) -> UpstreamConnection:
        def factory() -> asyncio.Protocol:
            return cast(asyncio.Protocol, UpstreamConnection(self))

        if self._unix_path is not None:
            _, connection = await self._loop.create_unix_connection(factory, self._unix_path)
        else:
            tls = self._tls
            _, connection = await self._loop.create_connection(
                factory,
                self.host,
                self.port,
                ssl=tls,
                server_hostname=self._tls_name if tls is not None else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S if tls is not None else None,
            )
        return cast(UpstreamConnection, connection)

    def _describe(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no connection within {self.connect_timeout_s:g} s"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"TLS failed: {error.verify_message or 'the certificate is not accepted'}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or error.__class__.__name__}"
        return f"connection failed: {error.__class__.__name__}"
