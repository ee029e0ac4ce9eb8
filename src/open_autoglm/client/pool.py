"""A few connections to one server, used in turn, and the requests that wait for one of them.

| there is | a request |
|---|---|
| an open connection with room | goes out at once |
| none with room | waits for its turn until its time is up; so many may wait |
| none open, but one was before | waits `connect_timeout_s` at most |
| none open, and all were tried in vain | fails |
| a server that turned us away | fails, and nothing is tried again |

Invariant: a request is on one connection or waits, and its time runs in both cases. Time is looked at in one sweep.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, cast

from open_autoglm import clock
from open_autoglm.client.address import Address, detours
from open_autoglm.client.answer import AnswerReader
from open_autoglm.client.failures import late, refused
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.handshake import Hello
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_client import FramedLink
from open_autoglm.transport.framed_session import FramedSession, StreamHandler
from open_autoglm.transport.framed_shell import Flusher

_SWEEP_S: Final = 0.05
_TOGETHER: Final = 16
"""Requests that go out in one write, before the next connection gets some: behind it may be another process."""
_FOR_GOOD: Final = frozenset(
    ("invalid_request", "invalid_api_key", "invalid_signature", "forbidden", "token_expired", "not_implemented")
)
"""A server that ends a handshake with one of these will do so again."""

Send = Callable[[FramedSession], int]
"""Sends a request on a connection; returns its stream, or 0 when there is no room."""


class Caller(StreamHandler, Protocol):
    """Who waits for an answer.

    Attributes:
        until_s: monotonic seconds; the answer is of no use after that.
    """

    until_s: float

    def expire(self) -> None:
        """The time is up; the server has been told."""


class Pool:
    """See the module. Made within a running loop.

    Args:
        address: of the server, for messages.
        codec: of bodies.
        links: to the server, not started.
        waiting_max: how many requests may wait.
        connect_timeout_s: how long to wait for a connection that was lost to come back.

    Attributes:
        codec: as above.
        answers: reads them.
        create_future: of the loop.
        waiting: requests that wait, the first first.
    """

    __slots__ = (
        "_address",
        "_connect_timeout_s",
        "_links",
        "_loop",
        "_lost_s",
        "_open",
        "_refusal",
        "_sessions",
        "_sweep_handle",
        "_turn",
        "_waiting_max",
        "answers",
        "codec",
        "create_future",
        "waiting",
    )

    def __init__(
        self,
        address: Address,
        codec: Codec,
        links: Sequence[FramedLink],
        *,
        waiting_max: int,
        connect_timeout_s: float,
    ) -> None:
        self._address = address
        self.codec = codec
        self.answers = AnswerReader(codec)
        self._waiting_max = waiting_max
        self._connect_timeout_s = connect_timeout_s
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future
        self._open: list[FramedSession] = []
        self._sessions: set[FramedSession] = set()
        self._turn = 0
        self._lost_s = 0.0  # when the last open connection was lost; 0 when there was none yet
        self._refusal: Callable[[], AutoGLMError] | None = None  # each caller is told with an error of its own
        self._sweep_handle: asyncio.TimerHandle | None = None
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._links = links
        for link in self._links:
            link.on_change = self._changed
            link.start()

    @property
    def connections(self) -> int:
        """How many are open and take requests."""
        return len(self._open)

    def renew(self, hello: Hello) -> None:
        """Say this in every handshake from now on."""
        for link in self._links:
            link.renew(hello)

    def leave(self) -> None:
        """Take nothing new; connections close when their last answer has come."""
        self._refusal = partial(ServerError, "no_healthy_endpoint", f"{self._address} is not asked any more")
        for link in self._links:
            link.close()
        self._wake_all()

    def session(self) -> FramedSession | None:
        """The next connection in turn; None while none is open, or others wait for room.

        What is asked before the loop turns goes out together: a write costs more than all that is done for a request.
        """
        sessions = self._open
        if not sessions or self.waiting:
            return None
        if self._sweep_handle is None:
            self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)
        turn = self._turn
        session = sessions[turn % len(sessions)]
        if not 0 < len(session.connection.out) < _TOGETHER:
            self._turn = turn = turn + 1
            session = sessions[turn % len(sessions)]
        return session

    async def place(self, send: Send, until_s: float) -> tuple[FramedSession, int]:
        """Send a request as soon as there is room; returns where it is.

        Args:
            send: see `Send`.
            until_s: monotonic seconds.

        Raises:
            ServerError: `no_healthy_endpoint`: nothing can be reached; `overloaded`: too many wait.
            UpstreamError: `deadline_exceeded`.
            AutoGLMError: whatever the server turned us away with.
        """
        if len(self.waiting) >= self._waiting_max:
            raise ServerError("overloaded", f"{len(self.waiting)} requests wait for room on {self._address}")
        began_s = clock.monotonic()
        while True:
            for session in list(self._open):
                stream = send(session)
                if stream:
                    self._watch()
                    return session, stream
            now_s = clock.monotonic()
            wait_s = until_s - now_s
            if wait_s <= 0:
                raise late(until_s - began_s)
            if not self._open:
                wait_s = min(wait_s, self._patience_s(now_s))
            await self._wait(wait_s)

    def wake(self) -> None:
        """There may be room again for one that waits."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self, message: str) -> None:
        """Close every connection; what runs and what waits ends with an error that says so."""
        self._refusal = partial(ServerError, "client_closed", message)
        sessions = list(self._sessions)
        for link in self._links:
            link.close()
        for session in sessions:
            session.connection.goodbye("client_closed", message)
        self._wake_all()
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None

    def _patience_s(self, now_s: float) -> float:
        """How long to wait for a connection.

        Raises:
            AutoGLMError: there is no use in waiting.
        """
        if self._refusal is not None:
            raise self._refusal()
        reasons = [link.failure[1] for link in self._links if link.failure[0]]
        rest_s = self._lost_s + self._connect_timeout_s - now_s if self._lost_s else self._connect_timeout_s
        if rest_s <= 0 or (not self._lost_s and len(reasons) == len(self._links)):
            reason = f": {reasons[0]}" if reasons else ""
            raise ServerError("no_healthy_endpoint", f"cannot connect to {self._address}{reason}")
        return rest_s

    async def _wait(self, wait_s: float) -> None:
        waiter = self._loop.create_future()
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout(wait_s):
                await waiter
        except TimeoutError:
            pass  # whoever waits looks again, and finds out which time is up
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake()
            raise
        finally:
            if not waiter.done() or waiter.cancelled():
                self._leave(waiter)

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    def _wake_all(self) -> None:
        waiting, self.waiting = self.waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _changed(self, link: FramedLink) -> None:
        """A connection has opened, takes nothing more, or could not be opened."""
        before = self._open
        self._open = [link.session for link in self._links if link.session is not None]
        self._sessions = {each for each in self._sessions if not each.connection.finished} | set(self._open)
        if before and not self._open:
            self._lost_s = clock.monotonic()
        code, message = link.failure
        if code in _FOR_GOOD and self._refusal is None:
            self._refusal = partial(refused, code, message)
            for each in self._links:
                each.close()
        self._wake_all()

    def _watch(self) -> None:
        if self._sweep_handle is None:
            self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Give up what has run out of time."""
        self._sweep_handle = None
        now_s = clock.monotonic()
        for session in list(self._sessions):
            callers = cast("dict[int, Caller]", session.handlers)
            for stream, caller in list(callers.items()):
                if caller.until_s <= now_s:
                    session.cancel(stream)
                    caller.expire()
            if callers:
                self._watch()
            elif session.connection.finished:
                self._sessions.discard(session)


def open_links(
    address: Address,
    hello: Hello,
    count: int,
    *,
    connect_timeout_s: float,
    tls: ssl.SSLContext | None,
    tls_name: str = "",
    key: SigningKey | None = None,
    follow: bool = False,
) -> list[FramedLink]:
    """Links for a pool, not started. Called within a running loop.

    Args:
        address: of the server.
        hello: who we are.
        count: how many connections are kept open.
        connect_timeout_s: to open one, handshake included.
        tls: context where the address asks for TLS; the system's authorities when None.
        tls_name: that the certificate must have; empty for the host of the address.
        key: to sign handshakes with, in place of what `hello` says of who we are.
        follow: go where a server that drains says, if that is as safe; see `client.address.detours`.
    """
    loop = asyncio.get_running_loop()
    flusher = Flusher(loop)
    within: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None
    if address.web_path:
        from open_autoglm.client.websocket import WebSocketProtocol

        def within(inner: asyncio.Protocol) -> asyncio.Protocol:
            return WebSocketProtocol(inner, str(address))

    context = (tls or ssl.create_default_context()) if address.tls else None
    return [
        FramedLink(
            hello,
            address.host,
            address.port,
            flusher=flusher,
            loop=loop,
            rng=random.Random(),
            connect_timeout_s=connect_timeout_s,
            tls=context,
            tls_name=tls_name or None,
            key=key,
            unix_path=address.unix_path,
            settings=ConnectionSettings(window_bytes=hello.window),
            within=within,
            detours=partial(detours, address) if follow else None,
        )
        for _ in range(count)
    ]
