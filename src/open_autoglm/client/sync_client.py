"""The client for programs without an event loop: `AsyncClient` in a thread of its own, and the same words.

Any thread may use it, also several at once. Invariant: whoever stops waiting (by an exception, as of Ctrl-C) gives up
what was waited for, and the server is told.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, Unpack

from open_autoglm.client.answer import Answer
from open_autoglm.client.async_client import AsyncClient
from open_autoglm.client.request import Options, TensorOptions
from open_autoglm.client.stream import AnswerStream
from open_autoglm.client.tensors import TensorAnswer
from open_autoglm.errors import ServerError
from open_autoglm.protocol.handshake import WINDOW_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLOSE_S: Final = 10.0
_Result = TypeVar("_Result")


class _Wait(Protocol):
    """Runs a coroutine in the client's loop, and waits for it."""

    def __call__(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result: ...


class Client:
    """See the module and `AsyncClient`, which has the same arguments.

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
        self._client = AsyncClient(
            address,
            key,
            codec,
            connections=connections,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            waiting_max=waiting_max,
            window_bytes=window_bytes,
            tls=tls,
            direct=direct,
            sign=sign,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="autoglm-client", daemon=True)
        self._lock = threading.Lock()
        self._thread.start()

    def infer(self, model: str, prompt: str | None = None, **options: Unpack[Options]) -> Answer:
        """See `AsyncClient.infer`."""
        return self._wait(self._client.infer(model, prompt, **options))

    def stream(self, model: str, prompt: str | None = None, **options: Unpack[Options]) -> SyncAnswerStream:
        """See `AsyncClient.stream`."""
        return SyncAnswerStream(self._wait, self._wait(self._open(model, prompt, options)))

    def infer_tensors(
        self, model: str, tensors: Mapping[str, NDArray[Any]], **options: Unpack[TensorOptions]
    ) -> TensorAnswer:
        """See `AsyncClient.infer_tensors`."""
        return self._wait(self._client.infer_tensors(model, tensors, **options))

    def close(self) -> None:
        """Close every connection and end the thread. A closed client is of no further use."""
        with self._lock:
            if self._loop.is_closed():
                return
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(_CLOSE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _open(self, model: str, prompt: str | None, options: Options) -> AnswerStream:
        return self._client.stream(model, prompt, **options)

    def _wait(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("this is the client's own thread; use AsyncClient in a loop")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise ServerError("client_closed", "the client is closed") from error
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise ServerError("client_closed", "the client was closed meanwhile") from error
        except BaseException:
            future.cancel()
            raise


class SyncAnswerStream:
    """An answer that is read as it comes; see `AnswerStream`. Iterates over pieces of text."""

    __slots__ = ("_stream", "_wait")

    def __init__(self, wait: _Wait, stream: AnswerStream) -> None:
        self._wait = wait
        self._stream = stream

    @property
    def trace_id(self) -> str:
        """See `AnswerStream.trace_id`."""
        return self._stream.trace_id

    @property
    def answer(self) -> Answer:
        """See `AnswerStream.answer`."""
        return self._stream.answer

    @property
    def reasoning(self) -> str:
        """See `AnswerStream.reasoning`."""
        return self._stream.reasoning

    def whole(self) -> Answer:
        """See `AnswerStream.whole`."""
        return self._wait(self._stream.whole())

    def close(self) -> None:
        """Give up what has not come yet. The server is told."""
        self._wait(self._stream.aclose())

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text: str | None = self._wait(self._next())
        if text is None:
            raise StopIteration
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _next(self) -> str | None:
        return await anext(self._stream, None)
