"""An outgoing framed connection that is opened again when it is lost.

| a link is | until | then |
|---|---|---|
| down | its backoff is over | connecting |
| connecting | WELCOME, or it takes too long | open, or down |
| open | the connection is lost, or the peer drains | down |
| closed | – | for ever |

A peer that drains may name others. Each of them is tried once, and then the link's own place again, so that a link is
away from there for one session at most unless that one's peer names others too.

Invariant: at most one session is `session`; one that takes nothing new lives on until its last answer. Backoff grows
with full jitter, so that many links do not come back together.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from open_autoglm import clock
from open_autoglm.protocol.handshake import Hello, signed
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.security.signature import NONCE_BYTES, SigningKey
from open_autoglm.transport.framed_session import FramedSession, OtherFrame
from open_autoglm.transport.framed_shell import Flusher
from open_autoglm.transport.tls import SHUTDOWN_S, tls_reason

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_PATROL_S: Final = 1.0
_WRITE_TIMEOUT_S: Final = 30.0
_CERTIFICATE_HINT: Final = " in the handshake; where it asks for certificates, it has got none of ours that it takes"

Detours = Callable[[Sequence[str]], list[tuple[str, int]]]
"""Reads addresses that a peer has named; returns hosts and ports of those that may be gone to."""


class FramedLink:
    """See the module.

    Args:
        hello: who we are.
        host, port: where to connect; `unix_path` instead for a Unix socket.
        flusher: of the loop.
        loop: where it runs.
        rng: for backoff.
        connect_timeout_s: to open the connection, handshake included.
        tls: context where the peer speaks TLS.
        tls_name: that the peer's certificate must have; `host` when left out.
        key: to sign handshakes with, in place of what `hello` says of who we are.
        settings: our own limits.
        within: puts a protocol around the shell, as WebSocket's; None for frames on the transport itself.
        detours: hosts and ports of those addresses, of which a peer that drains has named, that may be gone to; None
            goes to no other place.

    Attributes:
        session: the open connection; None while there is none.
        rtt_s: how long the last opening took, 0.0 before the first.
        failure: code and message of the last opening that came to nothing; empty while a session is open.
        on_change: told when a session has opened, when it takes nothing more, and when an opening came to nothing.
        other: takes messages of stream 0, as LOAD.
    """

    __slots__ = (
        "_closed",
        "_connect_timeout_s",
        "_detours",
        "_flusher",
        "_hello",
        "_key",
        "_loop",
        "_lost",
        "_others",
        "_place",
        "_rng",
        "_sessions",
        "_settings",
        "_task",
        "_tls",
        "_tls_name",
        "_unix_path",
        "_within",
        "failure",
        "on_change",
        "other",
        "rtt_s",
        "session",
    )

    def __init__(
        self,
        hello: Hello,
        host: str,
        port: int,
        *,
        flusher: Flusher,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        connect_timeout_s: float = 5.0,
        tls: ssl.SSLContext | None = None,
        tls_name: str | None = None,
        key: SigningKey | None = None,
        unix_path: str | None = None,
        settings: ConnectionSettings | None = None,
        within: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None,
        detours: Detours | None = None,
    ) -> None:
        self._hello = hello
        self._place = (host, port)
        self._unix_path = unix_path
        self._flusher = flusher
        self._loop = loop
        self._rng = rng
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._tls_name = tls_name if tls is not None else None
        self._key = key
        self._settings = settings or ConnectionSettings()
        self._within = within
        self._detours = detours
        self._others: list[tuple[str, int]] = []
        self._sessions: set[FramedSession] = set()
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._closed = False
        self.session: FramedSession | None = None
        self.rtt_s = 0.0
        self.failure = ("", "")
        self.on_change: Callable[[FramedLink], None] = _nothing
        self.other: OtherFrame = _pass_over

    @property
    def connections(self) -> int:
        """Open connections, those included that only finish what runs on them."""
        return len(self._sessions)

    def start(self) -> None:
        """Begin to connect, and go on with it whenever the connection is lost."""
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._run())
            self._patrol()

    def renew(self, hello: Hello) -> None:
        """Say this in every handshake from now on."""
        self._hello = hello

    def close(self) -> None:
        """Take nothing new; connections close when their last answer has come."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for session in list(self._sessions):
            session.end()

    def give_up(self, silent_s: float, message: str) -> None:
        """Lose every connection on which nothing came for so long, with what runs there: the peer is said to be gone.

        A new one is tried as after any loss.
        """
        now_s = clock.monotonic()
        for session in list(self._sessions):
            if now_s - session.connection.heard_s >= silent_s:
                session.lose(now_s, message)

    async def _run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._closed:
            if await self._connect():
                backoff_s = _BACKOFF_FIRST_S
                await self._lost.wait()
            await asyncio.sleep(self._rng.uniform(0.0, backoff_s))
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _connect(self) -> bool:
        """Open a connection and shake hands; whether that went well."""
        began_s = clock.monotonic()
        welcomed: asyncio.Future[bool] = self._loop.create_future()
        key = self._key
        detour = self._others.pop() if self._others else None
        session = FramedSession(
            self._hello if key is None else signed(self._hello, key.id, secrets.token_hex(NONCE_BYTES)),
            self._flusher,
            self._settings,
            began_s,
            other=self._take,
            over=self._over,
            welcomed=welcomed,
            key=key,
        )
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._open(session, detour or self._place)
                let_in = await welcomed
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; a bad name is a ValueError
            session.shell.abort()
            return self._failed("no_healthy_endpoint", tls_reason(error) or str(error) or "no answer in time")
        except asyncio.CancelledError:
            session.shell.abort()
            raise
        if detour is not None and (not let_in or session.connection.finished):
            # Who turns us away there has not been asked for by anybody: nothing follows for our own place.
            return self._failed("no_healthy_endpoint", f"{detour[0]}:{detour[1]}: {session.ending[1]}")
        if not let_in or session.connection.finished:
            code, message = session.ending
            # A listener that does not like our certificate hangs up when TLS is there for us already, and says nothing.
            hint = _CERTIFICATE_HINT if self._tls is not None and code == "stream_interrupted" else ""
            return self._failed(code, message + hint)
        if session.connection.draining:  # it was over before it was ours, and will not be over again
            return self._failed("server_draining", "the peer is about to stop")
        self.rtt_s = clock.monotonic() - began_s
        self._lost.clear()
        self._sessions.add(session)
        self.failure = ("", "")
        self.session = session
        self.on_change(self)
        return True

    def _failed(self, code: str, message: str) -> bool:
        self.failure = (code, message)
        self.on_change(self)
        return False

    async def _open(self, session: FramedSession, place: tuple[str, int]) -> None:
        def factory() -> asyncio.Protocol:
            shell = cast(asyncio.Protocol, session.shell)
            return shell if self._within is None else self._within(shell)

        if self._unix_path is not None:
            await self._loop.create_unix_connection(factory, self._unix_path)
        else:
            await self._loop.create_connection(
                factory,
                *place,
                ssl=self._tls,
                server_hostname=self._tls_name,
                ssl_shutdown_timeout=SHUTDOWN_S if self._tls is not None else None,
            )

    def _take(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        self.other(opcode, flags, aux, stream, arg, payload)

    def _over(self, session: FramedSession) -> None:
        """A session takes nothing new."""
        if session.alternatives and self._detours is not None:
            self._others = self._detours(session.alternatives)
            self._rng.shuffle(self._others)  # those that leave together do not arrive together
        if self.session is session:
            self.session = None
            self._lost.set()
            self.on_change(self)

    def _patrol(self) -> None:
        now_s = clock.monotonic()
        for session in list(self._sessions):
            session.shell.patrol(now_s, _WRITE_TIMEOUT_S)
            if session.connection.finished:
                self._sessions.discard(session)
        if self._sessions or not self._closed:
            self._loop.call_later(_PATROL_S, self._patrol)


def _nothing(link: FramedLink) -> None:
    """Nobody wants to know."""


def _pass_over(opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
    """Nobody wants to know."""
