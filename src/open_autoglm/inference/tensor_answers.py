"""Requests and answers in tensors on one connection of a node: TENSOR frames are kept until their request comes.

Invariant: what is kept for requests that have not come is at most `TENSORS_MAX` tensors for each and `KEPT_BYTES_MAX`
for all; a stream gets one ending, and its tensors come before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from open_autoglm.engines.events import Usage
from open_autoglm.engines.onnx_tensors import OnnxTensorEngine
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.protocol.arrays import Tensors, read_array, write_array
from open_autoglm.protocol.opcodes import LAST, TENSOR, TENSORS
from open_autoglm.protocol.preambles import write_response

if TYPE_CHECKING:
    from open_autoglm.inference.service import NodeLine

TENSORS_MAX: Final = 32
KEPT_BYTES_MAX: Final = 64 << 20
ANSWER_BYTES_MAX: Final = 32 << 20


class TensorDesk:
    """See the module.

    Args:
        line: the connection.
    """

    __slots__ = ("_bytes", "_kept", "_line")

    def __init__(self, line: NodeLine) -> None:
        self._line = line
        self._kept: dict[int, tuple[Tensors, int]] = {}
        self._bytes = 0

    def take(self, stream: int, payload: bytes) -> None:
        """Keep a tensor for the request that follows.

        Raises:
            RequestError: `invalid_request`, `request_too_large`.
        """
        tensors, size = self._kept.get(stream, ({}, 0))
        if len(tensors) >= TENSORS_MAX or self._bytes + len(payload) > KEPT_BYTES_MAX:
            raise RequestError(
                "request_too_large",
                f"more than {TENSORS_MAX} tensors of a request, or {KEPT_BYTES_MAX} bytes of all on this connection",
            )
        name, array = read_array(payload)
        if name in tensors:
            raise RequestError("invalid_request", f"two tensors are called {name!r:.80}")
        tensors[name] = array
        self._kept[stream] = tensors, size + len(payload)
        self._bytes += len(payload)

    def drop(self, stream: int) -> Tensors:
        """Keep no more what came on a stream; return it."""
        tensors, size = self._kept.pop(stream, ({}, 0))
        self._bytes -= size
        return tensors

    def ask(self, stream: int, served: ServedModel, deadline_s: float | None) -> TensorAnswer:
        """Hand the request of a stream to its engine.

        Raises:
            RequestError: the model takes no tensors, or others.
            ServerError: see `OnnxTensorEngine.infer`.
        """
        tensors = self.drop(stream)
        engine = served.engine
        if not isinstance(engine, OnnxTensorEngine):
            raise RequestError("unsupported_parameter", f"{served.name!r} takes messages, no tensors")
        answer = TensorAnswer(self._line, served, stream)
        answer.handle = engine.infer(tensors, deadline_s, answer.post)
        served.in_flight += 1
        return answer


class TensorAnswer:
    """One answer on its way into the connection.

    Args:
        line: the connection.
        served: the model that is asked.
        stream: on that connection.

    Attributes:
        handle: for the engine's `cancel`.
    """

    __slots__ = ("_line", "_over", "_served", "_stream", "handle")

    def __init__(self, line: NodeLine, served: ServedModel, stream: int) -> None:
        self._line = line
        self._served = served
        self._stream = stream
        self._over = False
        self.handle = 0

    def post(self, result: Tensors | AutoGLMError) -> None:
        """Called in the engine's thread."""
        self._line.service.outbox.post(self, [result])

    def take(self, results: list[Tensors | AutoGLMError]) -> None:
        """Write tensors and response, or the error; on the loop."""
        if self._over:
            return
        self._over = True
        served, line, stream = self._served, self._line, self._stream
        result = results[0]
        if not isinstance(result, AutoGLMError) and sum(each.nbytes for each in result.values()) > ANSWER_BYTES_MAX:
            result = ServerError(
                "internal_error", f"the answer has more than {ANSWER_BYTES_MAX} bytes; send fewer rows"
            )
        if isinstance(result, AutoGLMError):
            served.failed(result.code)
            line.fail(stream, result)
            return
        version = served.engine.version
        served.ended(Usage(0, 0, version))
        left = len(result)
        for name, array in result.items():
            left -= 1
            line.connection.send(TENSOR, stream, write_array(name, array), 0 if left else LAST)
        line.respond(stream, write_response(0, 0, "stop", 1, version, served.name) + line.encode({}), TENSORS)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if not self._over:
            self._over = True
            self._served.dropped()
            self._served.engine.cancel(self.handle)
