"""Commands to a node: NODE_COMMAND on a link that is open anyway, answered once."""

from __future__ import annotations

import asyncio
from typing import Any

from open_autoglm.backends.node import NodeBackend
from open_autoglm.errors import AutoGLMError, RequestError, UpstreamError
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.opcodes import NODE_COMMAND
from open_autoglm.protocol.wire_error import read_error

_CODEC = "msgpack"


class CommandAnswer:
    """Hears of one command's stream; see `transport.framed_session.StreamHandler`."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        self.told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        try:
            self._end(CODECS[_CODEC].decode(payload))
        except AutoGLMError as error:
            self._end(UpstreamError("upstream_error", f"the node's answer cannot be read: {error.message}"))

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        told = read_error(CODECS[_CODEC], status, flags, retry_after_ms, payload)
        self._end(RequestError("conflict", f"the node refused: {told.message}"))

    def on_lost(self, detail: str) -> None:
        self._end(UpstreamError("upstream_error", detail))

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """A command is answered whole."""

    def _end(self, result: dict[str, Any] | AutoGLMError) -> None:
        if self.told.done():
            return
        if isinstance(result, AutoGLMError):
            self.told.set_exception(result)
        else:
            self.told.set_result(result)


async def command(backend: NodeBackend, fields: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Have a node do something, and wait for what it says.

    Args:
        backend: the node.
        fields: `command` and what belongs to it.
        timeout_s: longest wait.

    Raises:
        RequestError: `conflict`, the node refused.
        UpstreamError: `upstream_error`, it cannot be reached, or does not answer.
    """
    session = backend.session(_CODEC)
    answer = CommandAnswer()
    stream = 0 if session is None else session.connection.open(NODE_COMMAND, CODECS[_CODEC].encode(fields))
    if session is None or not stream:
        raise UpstreamError("upstream_error", backend.absence()[1])
    session.handlers[stream] = answer
    try:
        async with asyncio.timeout(timeout_s):
            return await answer.told
    except TimeoutError as error:
        session.cancel(stream)
        raise UpstreamError("upstream_error", f"the node did not answer within {timeout_s:g} s") from error
