"""Takes the messages of updates on a node's event loop, and has them worked off in a thread, in order.

Invariants: no more messages wait than the window that is granted; a chunk's bytes give credit again when the chunk is
on disk, but those of a chunk that is not whole yet at once, so that a chunk may be larger than the credit. What is kept
of chunks, whole or not, is bounded over all streams and connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import msgspec

from open_autoglm.inference.update_receiver import WINDOW, Abort, Commit, Result, UpdateReceiver
from open_autoglm.protocol import opcodes
from open_autoglm.rollout.chunks import CHUNK_BYTES_MAX
from open_autoglm.rollout.pieces import PieceJoiner
from open_autoglm.rollout.reception import Offer
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Progress

_log = logging.getLogger(__name__)

WAITING_MAX: Final = 2 * WINDOW + 4
"""Messages that may wait for the thread: a window of chunks, repeated once after a cut, and the commands."""

STREAMS_MAX: Final = 4
"""Updates that one connection may bring at once; a sender has one."""
HELD_BYTES_MAX: Final = 4 * CHUNK_BYTES_MAX
"""Bytes of chunks that may be in memory, of all connections together."""

_T = TypeVar("_T", bound=msgspec.Struct)
_R = TypeVar("_R")


class UpdateLine(Protocol):
    """The connection that updates come over: `protocol.ServerConnection` is one."""

    def send(self, opcode: int, stream: int, payload: bytes = b"") -> bool:
        """Send a message; the stream goes on."""
        ...

    def end(self, opcode: int, stream: int, payload: bytes = b"") -> bool:
        """Send the message that ends the stream."""
        ...

    def consume(self, stream: int, size: int) -> None:
        """Give the peer credit again for so many bytes of chunks."""
        ...


class UpdateDesk:
    """See the module.

    Args:
        receiver: does the work.
        held_bytes_max: bytes of chunks that may be in memory.
    """

    def __init__(self, receiver: UpdateReceiver, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._receiver = receiver
        self._held_bytes_max = held_bytes_max
        self._held = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="update")
        self._waiting = 0
        self._streams: dict[tuple[int, int], _Desked] = {}
        self._taken: dict[str, _Desked] = {}  # by model, in the thread: whose update arrives

    def on_message(self, line: UpdateLine, opcode: int, flags: int, aux: int, stream: int, payload: bytes) -> None:
        """Take one UPDATE_* message, in the loop: fragments of UPDATE_BEGIN are joined, those of UPDATE_CHUNK are not.

        Args:
            line: the connection.
            opcode, flags, aux, stream: of its frame.
            payload: its bytes.
        """
        desked = self._streams.get((id(line), stream))
        chunk: tuple[int, int, bytes] | None = None
        try:
            if self._waiting >= WAITING_MAX:
                raise UpdateRefused("busy", f"{self._waiting} messages wait already; send no more than the window")
            if opcode == opcodes.UPDATE_CHUNK:
                if desked is None:
                    raise UpdateRefused("unknown", "a chunk came before its offer was taken")
                chunk = self._join(desked, payload, aux, more=bool(flags & opcodes.MORE))
                if chunk is None:
                    line.consume(stream, len(payload))
                    return
            elif opcode == opcodes.UPDATE_BEGIN:
                offer = _read(payload, Offer)
                offer.plan.check()
                self._forget((id(line), stream))
                if sum(key[0] == id(line) for key in self._streams) >= STREAMS_MAX:
                    raise UpdateRefused("busy", f"{STREAMS_MAX} updates arrive over this connection already")
                desked = self._streams[(id(line), stream)] = _Desked(offer)
        except UpdateRefused as error:
            self._answer(
                line, stream, Result(desked.name if desked else "", "", "refused", error.reason, error.message)
            )
            if desked is not None:
                self._thread.submit(self._cut, desked)
            return
        self._waiting += 1
        self._held += len(chunk[2]) if chunk else 0
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._work, opcode, desked, payload, chunk)
        work.add_done_callback(lambda done: self._done(done, line, stream, len(payload), chunk))

    def run(self, work: Callable[[], _R]) -> asyncio.Future[_R]:
        """Have something else done by the thread, in its turn; on the loop."""
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def gone(self, line: UpdateLine, stream: int | None = None) -> None:
        """A stream was given up, or (None) its whole connection is lost: what it sent is kept for the next offer."""
        keys = [key for key in self._streams if key[0] == id(line) and stream in (None, key[1])]
        for key in keys:
            self._thread.submit(self._cut, self._forget(key))

    def close(self) -> None:
        """End the thread after what waits."""
        for key in list(self._streams):
            self._thread.submit(self._cut, self._forget(key))
        self._thread.shutdown(wait=True)

    def _join(self, desked: _Desked, piece: bytes, codec: int, *, more: bool) -> tuple[int, int, bytes] | None:
        """Put a piece to those before it; see `PieceJoiner.push`."""
        if self._held + len(piece) > self._held_bytes_max:
            raise UpdateRefused("busy", f"{self._held} bytes of chunks wait already; send one update after the other")
        before = desked.joiner.held
        try:
            return desked.joiner.push(piece, codec, more=more)
        finally:
            self._held += desked.joiner.held - before

    def _forget(self, key: tuple[int, int]) -> _Desked | None:
        desked = self._streams.pop(key, None)
        if desked is not None:
            self._held -= desked.joiner.held
        return desked

    def _cut(self, desked: _Desked | None) -> None:
        """In the thread: the stream of an update is gone, unless another stream has taken the update on."""
        if desked is not None and self._taken.get(desked.name) is desked:
            del self._taken[desked.name]
            self._receiver.cut(desked.name)

    def _done(
        self,
        done: asyncio.Future[list[msgspec.Struct]],
        line: UpdateLine,
        stream: int,
        size: int,
        chunk: tuple[int, int, bytes] | None,
    ) -> None:
        self._waiting -= 1
        self._held -= len(chunk[2]) if chunk else 0
        if done.cancelled():
            return
        if chunk is not None:
            line.consume(stream, size)
        error = done.exception()
        if error is not None:
            _log.error("an update failed", exc_info=error)
            self._answer(line, stream, Result("", "", "refused", "storage", f"the node failed: {type(error).__name__}"))
            return
        for told in done.result():
            self._answer(line, stream, told)

    def _answer(self, line: UpdateLine, stream: int, told: msgspec.Struct) -> None:
        payload = msgspec.json.encode(told)
        if isinstance(told, Progress):
            line.send(opcodes.UPDATE_STATE, stream, payload)
            return
        self._forget((id(line), stream))
        line.end(opcodes.UPDATE_RESULT, stream, payload)

    def _work(
        self, opcode: int, desked: _Desked | None, payload: bytes, chunk: tuple[int, int, bytes] | None
    ) -> list[msgspec.Struct]:
        """In the thread: do what a message asks, and say what to answer."""
        name = desked.name if desked is not None else ""
        try:
            if opcode == opcodes.UPDATE_BEGIN and desked is not None:
                desked.name, told = self._receiver.begin(desked.offer)
                self._taken[desked.name] = desked
                return self._after(desked.name, told)
            if opcode == opcodes.UPDATE_CHUNK and chunk is not None:
                return self._after(name, self._receiver.chunk(name, *chunk))
            if opcode == opcodes.UPDATE_COMMIT:
                commit = _read(payload, Commit)
                name = commit.name
                self._receiver.commit(commit)
                return [Result(name, commit.version, "published")]
            if opcode == opcodes.UPDATE_ABORT:
                abort = _read(payload, Abort)
                self._receiver.abort(abort.name)
                return [Result(abort.name, "", "aborted", "", abort.reason)]
            raise UpdateRefused("unknown", f"opcode {opcode} is not for a node")
        except UpdateRefused as error:
            self._cut(desked)
            return [Result(name, "", "refused", error.reason, error.message)]

    def _after(self, name: str, told: Progress) -> list[msgspec.Struct]:
        if not self._receiver.complete(name):
            return [told]
        version = self._receiver.stage(name)
        self._taken.pop(name, None)
        return [told, Result(name, version, "staged")]


class _Desked:
    """One update's stream: its offer, the model's name once that is known, and the chunk that is coming in."""

    __slots__ = ("joiner", "name", "offer")

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.name = ""
        self.joiner = PieceJoiner(offer.plan.chunk_bytes)


def _read(payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRefused("manifest", f"the message cannot be read: {error}") from error
