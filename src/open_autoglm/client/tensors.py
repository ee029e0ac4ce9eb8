"""A request and an answer in tensors; numpy is loaded when the first one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from open_autoglm import clock
from open_autoglm.client.failures import LostError, late, lost, read_failure
from open_autoglm.client.pool import Pool
from open_autoglm.client.stream import RESENDS_MAX
from open_autoglm.errors import AutoGLMError, RequestError, UpstreamError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.opcodes import NO_RETRY
from open_autoglm.protocol.preambles import read_response
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.tensor_handler import TensorHandler

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANSWER_BYTES_MAX: Final = 64 << 20
ANSWER_TENSORS_MAX: Final = 256


class TensorAnswer(Struct, frozen=True):
    """What a model answered in tensors.

    Attributes:
        tensors: by the names of the model's outputs; they may be read-only.
        model, model_version: that answered; the version is empty when unknown.
        trace: id that the request had on its way, 16 bytes.
        attempts: endpoints that were asked, 0 when that is not said.
    """

    tensors: dict[str, NDArray[Any]]
    model: str
    model_version: str
    trace: bytes
    attempts: int

    @property
    def trace_id(self) -> str:
        """`trace` as 32 hexadecimal digits; `autoglm trace` finds the request by it."""
        return self.trace.hex()


class PendingTensors(TensorHandler):
    """Waits for one answer; see `client.pool.Caller`.

    Args:
        loop: of the caller.
        codec: of bodies.
        until_s: monotonic seconds.
        timeout_s: how long that was, for the error.

    Attributes:
        future: gets the response's payload, or the error.
        tensors: payloads that have come.
    """

    __slots__ = ("_codec", "_size", "_timeout_s", "future", "tensors", "until_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, codec: Codec, until_s: float, timeout_s: float) -> None:
        self.future: asyncio.Future[bytes] = loop.create_future()
        self.tensors: list[bytes] = []
        self.until_s = until_s
        self._codec = codec
        self._timeout_s = timeout_s
        self._size = 0

    def on_tensor(self, payload: bytes) -> None:
        """See `TensorHandler.on_tensor`."""
        self._size += len(payload)
        self.tensors.append(payload)
        if self._size > ANSWER_BYTES_MAX or len(self.tensors) > ANSWER_TENSORS_MAX:
            self.tensors.clear()
            message = f"the answer has more than {ANSWER_TENSORS_MAX} tensors or {ANSWER_BYTES_MAX} bytes of them"
            self._fail(UpstreamError("upstream_error", message))

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        if not self.future.done():
            self.future.set_result(payload)

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """Nobody asked for chunks."""

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self._fail(read_failure(self._codec, status, flags, retry_after_ms, payload))

    def on_lost(self, detail: str) -> None:
        self._fail(
            UpstreamError("stream_interrupted", f"the answer broke off: {detail}") if self._size else lost(detail)
        )

    def expire(self) -> None:
        self._fail(late(self._timeout_s))

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def written(tensors: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Payloads of TENSOR frames.

    Raises:
        RequestError: `invalid_request`: there are none.
        ProtocolError: `invalid_request`: one has no form on the wire.
    """
    from open_autoglm.protocol.arrays import write_array

    if not tensors:
        raise RequestError("invalid_request", "a request in tensors has at least one", param="tensors")
    return [write_array(name, array) for name, array in tensors.items()]


async def ask_in_tensors(
    pool: Pool, tensors: list[bytes], payload: bytes, flags: int, *, timeout_s: float, trace: bytes
) -> TensorAnswer:
    """Send a request, and wait for its answer. One whose connection was lost before that is sent again, if it may be.

    Args:
        pool: connections.
        tensors: payloads, at least one.
        payload, flags, timeout_s, trace: of the request.

    Raises:
        AutoGLMError: there is no answer.
    """
    loop = asyncio.get_running_loop()
    until_s = clock.monotonic() + timeout_s
    left = 0 if flags & NO_RETRY else RESENDS_MAX
    while True:
        pending = PendingTensors(loop, pool.codec, until_s, timeout_s)

        def send(session: FramedSession, pending: PendingTensors = pending) -> int:
            remaining_ms = max(1, int((until_s - clock.monotonic()) * 1000))
            return session.request_in_tensors(pending, tensors, payload, remaining_ms, flags)

        session, stream = await pool.place(send, until_s)
        try:
            response = await pending.future
        except LostError:
            if not left:
                raise
            left -= 1
            continue
        except BaseException:
            session.cancel(stream)
            raise
        finally:
            if pool.waiting:
                pool.wake()
        return _read(pending.tensors, response, trace)


def _read(tensors: list[bytes], response: bytes, trace: bytes) -> TensorAnswer:
    from open_autoglm.protocol.arrays import read_array

    head = read_response(response)
    try:
        arrays = dict(map(read_array, tensors))
    except AutoGLMError as error:
        raise UpstreamError("upstream_error", f"the answer cannot be read: {error.message}") from error
    return TensorAnswer(arrays, head.model, head.version, trace, head.attempts)
