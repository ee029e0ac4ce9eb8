"""An engine for ONNX graphs that write no text: named tensors in, named tensors out.

One thread runs one request after the other; a request brings as many rows as it likes where the graph leaves its size
open. Invariant: every request that was taken and not cancelled gets one answer, tensors or an error, in that thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from numpy.typing import NDArray

from open_autoglm import clock
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.model_engine import DRAIN_S, Deliver, EngineLoad, LiveVersion, Policy, SwapFigures
from open_autoglm.engines.model_folder import ModelFolder
from open_autoglm.engines.onnx_session import MODEL_FILE, open_session
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.protocol.arrays import Tensors

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TensorsDeliver = Callable[[Tensors | AutoGLMError], None]
CLOSE_TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 0.5
DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
"""ONNX Runtime's name of an element type -> the protocol's, which is numpy's."""


class Input(Struct, frozen=True):
    """What a graph takes; a dimension of 0 is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def check(self, tensor: NDArray[Any]) -> None:
        """Raise unless a tensor fits.

        Raises:
            RequestError: `invalid_request`.
        """
        fits = len(tensor.shape) == len(self.shape) and all(
            wanted in (0, size) for wanted, size in zip(self.shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype.name != self.dtype:
            raise RequestError(
                "invalid_request",
                f"tensor {self.name!r} is {tensor.dtype.name} {list(tensor.shape)}; the model takes {self.dtype} "
                f"{list(self.shape)}, where 0 is any size",
            )


class Waiting(Struct):
    """A request in the queue."""

    handle: int
    tensors: Tensors
    deadline_s: float | None
    deliver: TensorsDeliver


def open_tensors(path: Path, name: str, threads: int = 0, queue_max: int = 256) -> OnnxTensorEngine:
    """Read and check a folder whose manifest is of kind `tensors`.

    Args:
        path: the folder.
        name: that clients use.
        threads: of the library, for one pass; 0 for one per core.
        queue_max: requests that may wait.

    Raises:
        ServerError: `internal_error`, with what is wrong and what to do.
    """
    folder = ModelFolder(path)
    if folder.manifest.kind != "tensors":
        raise folder.refuse("manifest.json", f"is of a folder for {folder.manifest.kind!r}, not 'tensors'")
    session = open_session(folder, threads)
    try:
        return OnnxTensorEngine(name, folder.manifest.version, session, queue_max)
    except ValueError as error:
        raise folder.refuse(MODEL_FILE, str(error)) from error


class OnnxTensorEngine:
    """See the module; a `ModelEngine` that takes tensors with `infer` instead of messages.

    Args:
        name, version: of the model.
        session: of ONNX Runtime.
        queue_max: requests that may wait; the next one is refused.

    Raises:
        ValueError: the graph takes or gives what the protocol has no type for.
    """

    threaded = True

    def __init__(self, name: str, version: str, session: InferenceSession, queue_max: int = 256) -> None:
        self.name = name
        self.version = version
        self.flush: Callable[[], None] = _nothing
        self.inputs = {each.name: Input(each.name, _dtype(each), _shape(each)) for each in session.get_inputs()}
        self.outputs = [each.name for each in session.get_outputs() if _dtype(each)]
        self._session = session
        self._queue_max = queue_max
        self._queue: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._handles = itertools.count(1)
        self._closed = False
        self._running = 0
        self._passes_total = 0
        self._failures_total = 0
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)

    def start(self) -> None:
        """See `ModelEngine`."""
        self._thread.start()

    def submit(self, request: GenerateRequest, deliver: Deliver) -> int:
        """Refuse: there is no text here."""
        raise RequestError(
            "unsupported_parameter",
            f"{self.name!r} takes tensors: {', '.join(sorted(self.inputs))}; send TENSOR frames",
        )

    def infer(self, tensors: Tensors, deadline_s: float | None, deliver: TensorsDeliver) -> int:
        """Take a request and return its handle, for `cancel`.

        Args:
            tensors: by the names of the graph's inputs; they are not changed, and must not be until the answer.
            deadline_s: monotonic seconds after which nobody waits for the answer.
            deliver: called once, in the engine's thread.

        Raises:
            RequestError: `invalid_request`: these are not what the graph takes.
            ServerError: `overloaded`, `server_draining`.
        """
        if tensors.keys() != self.inputs.keys():
            raise RequestError(
                "invalid_request", f"tensors {sorted(tensors)!r:.300}; the model takes {sorted(self.inputs)!r:.300}"
            )
        for name, tensor in tensors.items():
            self.inputs[name].check(tensor)
        waiting = Waiting(next(self._handles), tensors, deadline_s, deliver)
        with self._changed:
            if self._closed:
                raise ServerError("server_draining", "the model is being stopped; send the request again")
            if len(self._queue) >= self._queue_max:
                raise ServerError(
                    "overloaded",
                    f"{self._queue_max} requests wait for {self.name!r} already; try again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.handle

    def cancel(self, handle: int) -> None:
        """See `ModelEngine`."""
        with self._changed:
            self._queue = deque(each for each in self._queue if each.handle != handle)

    def load(self) -> EngineLoad:
        """See `ModelEngine`; a pass counts as a token."""
        with self._changed:
            return EngineLoad(
                len(self._queue), self._running, 1, self._passes_total, self._passes_total, self._failures_total
            )

    def publish(self, model: Any, policy: Policy = "pin", drain_s: float = DRAIN_S, share: float = 1.0) -> None:
        """Refuse: versions of these graphs are not exchanged while they run."""
        raise RequestError("conflict", f"{self.name!r} stays as it was loaded; start the node with the other version")

    def weigh(self, share: float, drain_s: float = DRAIN_S) -> None:
        """See `ModelEngine`."""
        raise RequestError("conflict", f"no version of {self.name!r} but the current one is kept")

    def rollback(self, policy: Policy = "pin", drain_s: float = DRAIN_S) -> str:
        """See `ModelEngine`."""
        raise RequestError("conflict", f"no version of {self.name!r} but the current one is kept")

    def forget(self) -> None:
        """See `ModelEngine`; nothing is kept."""

    def versions(self) -> tuple[LiveVersion, ...]:
        """See `ModelEngine`."""
        return (LiveVersion(self.version, "current", self._running),)

    def swap_figures(self) -> SwapFigures:
        """See `ModelEngine`."""
        return SwapFigures(0, 0, 0.0, 0.0)

    def close(self) -> None:
        """Fail what waits with `server_draining` and join the thread, for 5 s at most.

        Raises:
            ServerError: `internal_error`, when the thread does not end.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is None:
            self._end_all()
            return
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise ServerError("internal_error", f"the engine's thread did not end within {CLOSE_TIMEOUT_S} s")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._queue or self._closed):
                    self._changed.wait()
                if self._closed:
                    break
                waiting = self._queue.popleft()
                self._running = 1
            self._tell(waiting, self._compute(waiting))
            with self._changed:
                self._running = 0
        self._end_all()

    def _compute(self, waiting: Waiting) -> Tensors | AutoGLMError:
        if waiting.deadline_s is not None and clock.monotonic() >= waiting.deadline_s:
            return ServerError("deadline_exceeded", "the deadline passed before the model was free")
        self._passes_total += 1
        try:
            found = self._session.run(self.outputs, waiting.tensors)
        except Exception as error:  # the library has exceptions of its own for each of its error codes
            self._failures_total += 1
            return ServerError("internal_error", f"the model failed ({type(error).__name__})")
        return dict(zip(self.outputs, found, strict=True))

    def _tell(self, waiting: Waiting, result: Tensors | AutoGLMError) -> None:
        try:
            waiting.deliver(result)
            self.flush()
        except Exception:  # a broken callback must not end the other requests; it is counted
            self._failures_total += 1

    def _end_all(self) -> None:
        with self._changed:
            left, self._queue = self._queue, deque()
        for waiting in left:
            self._tell(waiting, ServerError("server_draining", "the model is being stopped; send the request again"))


def _dtype(place: Any) -> str:
    found = DTYPES.get(place.type)
    if found is None:
        raise ValueError(f"has {place.name!r} of type {place.type!r}, for which there is no tensor in the protocol")
    return found


def _shape(place: Any) -> tuple[int, ...]:
    return tuple(size if type(size) is int and size > 0 else 0 for size in place.shape)


def _nothing() -> None:
    """Nobody waits for the end of a pass."""
