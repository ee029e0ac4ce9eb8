"""Sends a version of a model to a node, over a connection of its own.

Its own, because on a shared one every answer would wait behind a chunk. Invariant: a piece goes out only when the one
before it has gone, so that what waits here is one chunk; the throttle, the receiver's window and the stream's credit
each hold it up. A connection that is cut is opened again, and the update goes on with what is missing; one that could
not be opened at first, or that is refused, ends the update with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, cast

import msgspec

from open_autoglm import clock
from open_autoglm.errors import CODES
from open_autoglm.inference.update_receiver import Abort, Commit, Result
from open_autoglm.protocol import opcodes
from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.handshake import Hello, Welcome, signed
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.wire_error import read_error
from open_autoglm.rollout.delta import ChunkSource
from open_autoglm.rollout.pieces import split
from open_autoglm.rollout.reception import Offer
from open_autoglm.rollout.transmission import Effect, Progress, SendChunk, SendOffer, Throttle, Transmission
from open_autoglm.security.signature import NONCE_BYTES, SigningKey
from open_autoglm.transport.framed_shell import Flusher, FramedShell
from open_autoglm.transport.tls import tls_reason

CONNECT_S: Final = 10.0
RESULT_S: Final = 120.0
"""Longest time to check a version that has arrived, or to commit it."""
RECONNECT_S: Final = 1.0
RECONNECTS_MAX: Final = 30
TOLD_MAX: Final = 256
"""Messages that may wait to be read; a node sends one for each chunk."""
_WRITE_TIMEOUT_S: Final = 30.0

Told = Progress | Result | None
"""What a line brings; None when it is cut."""


_LATE: Final = ("request_timeout", "client_closed")
"""Codes of the 400s that another connection need not meet."""


class UpdateLost(Exception):
    """The node was not reached, does not let us in, or went away and stayed away."""


class LineRefused(ConnectionRefusedError):
    """The node does not let us in, and would not at another time."""


class Line(Protocol):
    """One open connection to a node."""

    async def told(self, timeout_s: float) -> Told:
        """What comes next.

        Raises:
            TimeoutError: nothing within `timeout_s`.
        """
        ...

    def ask(self, opcode: int, payload: bytes) -> None:
        """Open a stream with a message; an earlier one is given up."""
        ...

    def chunk(self, chunk: SendChunk) -> None:
        """Send a chunk on the open stream, as far as the credit goes, and the rest when there is more."""
        ...


Connect = Callable[[], contextlib.AbstractAsyncContextManager[Line]]


async def send_update(
    connect: Connect,
    offer: Offer,
    source: ChunkSource,
    throttle: Throttle,
    *,
    attempts: int = RECONNECTS_MAX,
    reconnect_s: float = RECONNECT_S,
) -> Result:
    """Bring a version to a node and have it staged there.

    Args:
        connect: opens a line.
        offer, source: the version.
        throttle: bytes a second; its burst holds the largest chunk.
        attempts: connections that may be opened.
        reconnect_s: between two of them, seconds.

    Raises:
        UpdateLost: the node was not reached, does not let us in, or stopped answering.
    """
    sender = Transmission(source, throttle)
    reached, why = False, "no connection"
    for attempt in range(attempts):
        if attempt:
            await asyncio.sleep(reconnect_s)
        try:
            async with connect() as line:
                reached, why = True, "the connection was lost again and again"
                result = await _send(line, sender, offer)
                if result is not None:
                    return result
        except OSError as error:
            why = _reason(error)
            if not reached or isinstance(error, LineRefused):
                break
        if sender.state == "ended":
            why = "it has stopped answering"
            break
    raise UpdateLost(f"the node did not take the version: {why}")


async def command(connect: Connect, told: Commit | Abort) -> Result:
    """Commit or abort an update.

    Raises:
        UpdateLost: the node was not reached, or said nothing.
    """
    opcode = opcodes.UPDATE_COMMIT if isinstance(told, Commit) else opcodes.UPDATE_ABORT
    asked, why = False, "the connection was lost"
    try:
        async with connect() as line:
            line.ask(opcode, msgspec.json.encode(told))
            asked = True
            answer = await line.told(RESULT_S)
            if isinstance(answer, Result):
                return answer
    except OSError as error:
        why = _reason(error)
    what = "the node did not answer whether it has done it" if asked else "the node could not be asked"
    raise UpdateLost(f"{what}: {why}")


def _reason(error: OSError) -> str:
    """Why a connection came to nothing, in words."""
    if isinstance(error, TimeoutError) and not str(error):
        return "it did not answer in time"
    return tls_reason(error) or error.strerror or str(error) or type(error).__name__


def _is_refusal(code: str) -> bool:
    """Whether what ended a connection would end the next one too."""
    known = CODES.get(code)
    return known is not None and known.http_status < 500 and not known.retryable and code not in _LATE


async def _send(line: Line, sender: Transmission, offer: Offer) -> Result | None:
    """Pump one connection; None when it was cut, or the sender has given up."""
    effects: list[Effect] = sender.start(clock.monotonic())
    while True:
        for effect in effects:
            if isinstance(effect, SendOffer):
                line.ask(opcodes.UPDATE_BEGIN, msgspec.json.encode(offer))
            else:
                line.chunk(effect)
        due_s = sender.next_deadline()
        if due_s is None:
            return None
        verifying = sender.state == "verifying"
        try:
            told = await line.told(RESULT_S if verifying else max(0.0, due_s - clock.monotonic()))
        except TimeoutError:
            if verifying:
                return None
            effects = await asyncio.to_thread(sender.handle_timeout, clock.monotonic())
            continue
        if told is None:
            return None
        if isinstance(told, Result):
            sender.end(told.outcome)
            return told
        effects = await asyncio.to_thread(sender.progress, told, clock.monotonic())


class FramedLine:
    """A framed connection to a node; see `Line`. Hears the connection as its `ClientSink` and its shell's owner."""

    def __init__(self, hello: Hello, flusher: Flusher, key: SigningKey | None = None) -> None:
        if key is not None:
            hello = signed(hello, key.id, secrets.token_hex(NONCE_BYTES))
        self.shell = FramedShell(flusher, reads_while_paused=True)
        self.connection = ClientConnection(hello, self, self.shell.wake, ConnectionSettings(), clock.monotonic(), key)
        self.shell.connection, self.shell.owner = self.connection, self
        self.welcomed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.closed = ("", "")  # code and message, once it is
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._stream = 0
        self._pieces: deque[tuple[bytes, int, int]] = deque()
        self._blocked = 0

    async def told(self, timeout_s: float) -> Told:
        """See `Line`."""
        until_s = clock.monotonic() + timeout_s
        while True:
            left_s = until_s - clock.monotonic()
            try:
                async with asyncio.timeout(max(0.0, min(1.0, left_s))):
                    return await self._told.get()
            except TimeoutError:
                self.shell.patrol(clock.monotonic(), _WRITE_TIMEOUT_S)
                if left_s <= 1.0:
                    raise

    def ask(self, opcode: int, payload: bytes) -> None:
        """See `Line`."""
        if self._stream:
            self.connection.cancel(self._stream)
        self._pieces.clear()
        self._blocked = 0
        self._stream = self.connection.open(opcode, payload)
        if not self._stream:
            self._told.put_nowait(None)

    def chunk(self, chunk: SendChunk) -> None:
        """See `Line`."""
        welcome = self.connection.welcome
        if welcome is None:
            return
        pieces = split(chunk.index, chunk.payload, min(welcome.frame_bytes_max, welcome.window // 2))
        flags = [opcodes.MORE] * (len(pieces) - 1) + [0]
        self._pieces += [(piece, flag, chunk.codec) for piece, flag in zip(pieces, flags, strict=True)]
        self._pump()

    def _pump(self) -> None:
        while self._pieces and not self._blocked:
            piece, flags, codec = self._pieces.popleft()
            gone = self.connection.chunk(self._stream, piece, flags, codec, opcodes.UPDATE_CHUNK)
            self._blocked = len(piece) - gone

    # The protocol calls these; see `protocol.sinks.ClientSink`.

    def on_welcome(self, welcome: Welcome) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(True)

    def on_credit(self, stream: int, released: int) -> None:
        if stream == self._stream:
            self._blocked = max(0, self._blocked - released)
            self._pump()

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if stream != self._stream or not stream:
            return
        if self._told.qsize() >= TOLD_MAX:
            self.connection.goodbye("overloaded", "more is told of an update than was asked")
            return
        kind: type[Progress] | type[Result]
        if opcode == opcodes.UPDATE_STATE:
            kind = Progress
        elif opcode == opcodes.UPDATE_RESULT:
            kind, self._stream = Result, 0
        else:
            return
        try:
            self._told.put_nowait(msgspec.json.decode(payload, type=kind))
        except msgspec.DecodeError:
            self.connection.goodbye("invalid_request", "the state of an update cannot be read")

    def on_error(self, stream: int, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        if stream == self._stream:
            self._stream = 0
            error = read_error(self.connection.codec, status, flags, retry_after_ms, payload)
            message = error.message or f"the node answered {status}"
            self._told.put_nowait(Result("", "", "refused", error.code, message))

    def on_closed(self, code: str, message: str) -> None:
        self.closed = code, message
        if not self.welcomed.done():
            self.welcomed.set_result(False)
        self._told.put_nowait(Result("", "", "refused", code, message) if _is_refusal(code) else None)
        self.shell.wake()

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        """No request was sent."""

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """No request was sent."""

    def on_message(self, stream: int, flags: int, payload: bytes) -> None:
        """No request was sent."""

    def on_drain(self, grace_ms: int, payload: bytes) -> None:
        """What runs may end."""

    # The shell calls these.

    def on_pause(self) -> None:
        """The window bounds what waits."""

    def on_resume(self) -> None:
        """See `on_pause`."""

    def on_gone(self) -> None:
        """`on_closed` has said it."""


@contextlib.asynccontextmanager
async def framed_line(
    hello: Hello,
    host: str,
    port: int,
    flusher: Flusher,
    *,
    key: SigningKey | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Line]:
    """Connect to a node and shake hands; closed behind the block.

    Args:
        hello: what is offered.
        host, port: of the node.
        flusher: of the loop.
        key: to sign the handshake with, in place of what `hello` says of who we are.
        tls: context where the node speaks TLS.

    Raises:
        LineRefused: it does not let us in.
        OSError: it cannot be reached, or has no place for us now.
    """
    line = FramedLine(hello, flusher, key)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(lambda: cast(asyncio.Protocol, line.shell), host, port, ssl=tls)
            if not await line.welcomed:
                code, message = line.closed
                kind = LineRefused if _is_refusal(code) else ConnectionAbortedError
                raise kind(f"it does not let us in ({code}): {message}")
        yield line
    finally:
        line.shell.close()
