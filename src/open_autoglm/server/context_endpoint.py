"""`/context` on the admin listener: the context protocol over streamable HTTP, behind the admin key.

The guard of the listener has checked Host and Origin by then (DNS rebinding), and this door asks for the key before
anything is read. Invariants: the protocol's library is imported in a thread: when the server starts, where the
configuration offers something to clients of the protocol, else when the first client with the key comes; nobody waits
for it without an end; what it opens is closed with the server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.server.admin_guard import BODY_BYTES_MAX, Gate, error_response, too_large

if TYPE_CHECKING:
    from open_autoglm.server.context_face import ContextFace

_log = logging.getLogger(__name__)

PATH: Final = "/context"
_BODY_S: Final = 30.0
"""Longest time for a request's body, seconds; as for the admin API."""
_CLOSE_S: Final = 2.0
_OPEN_S: Final = 60.0
"""Longest wait for the library: to be imported, on a machine that has little to spare, and to start."""


class ContextEndpoint:
    """Speaks the protocol.

    Args:
        face: what clients see.
        load: makes what manages the sessions of the protocol; called in a thread. By the library when left out.
        open_s: longest wait for that, and for its start, each.
    """

    def __init__(
        self, face: ContextFace, *, load: Callable[[ContextFace], Any] | None = None, open_s: float = _OPEN_S
    ) -> None:
        self._face = face
        self._load = load or _session_manager
        self._open_s = open_s
        self._opening: asyncio.Task[ASGIApp] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def begin(self) -> None:
        """Start to open it, so that the first client need not wait."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_look)

    async def app(self) -> ASGIApp:
        """What answers requests.

        Raises:
            ServerError: `not_implemented`, the extra is not installed; `server_draining`; `internal_error`, it does not
                start.
        """
        if self._stop.is_set():
            raise ServerError("server_draining", "the server is stopping")
        self.begin()
        assert self._opening is not None
        try:
            async with asyncio.timeout(2 * self._open_s):
                return await asyncio.shield(self._opening)  # who goes away takes nothing along
        except TimeoutError as error:
            raise ServerError("internal_error", f"/context was not ready within {2 * self._open_s:g} s") from error

    async def _open(self) -> ASGIApp:
        try:
            manager = await asyncio.to_thread(self._load, self._face)
        except ImportError as error:
            _log.warning("/context needs the extra `context`: pip install 'open-autoglm[context]'")
            message = "the context protocol needs the extra `context`: pip install 'open-autoglm[context]'"
            raise ServerError("not_implemented", message) from error
        ready = asyncio.Event()
        waiting = asyncio.create_task(ready.wait())
        self._keeper = asyncio.create_task(self._keep(manager, ready))
        self._keeper.add_done_callback(_look)
        await asyncio.wait((waiting, self._keeper), timeout=self._open_s, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not ready.is_set():
            self._keeper.cancel()
            raise ServerError("internal_error", "/context does not start; the server's log says why")
        app: ASGIApp = manager.handle_request
        return app

    async def _keep(self, manager: Any, ready: asyncio.Event) -> None:
        """Its task groups must be opened and closed by one task."""
        async with manager.run():
            ready.set()
            await self._stop.wait()

    async def close(self) -> None:
        """End what runs."""
        self._stop.set()
        tasks = [task for task in (self._opening, self._keeper) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)
        for task in tasks:
            task.cancel()


def _session_manager(face: ContextFace) -> Any:
    return importlib.import_module("open_autoglm.server.context_server").session_manager(face)


def _look(task: asyncio.Task[Any]) -> None:
    """Tell what nobody may ever ask about."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ServerError):
        _log.error("/context failed", exc_info=error)


class ContextDoor:
    """The route; an ASGI application.

    Args:
        gate: knows the key.
        endpoint: speaks the protocol.
    """

    def __init__(self, gate: Gate, endpoint: ContextEndpoint) -> None:
        self._gate = gate
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._gate.check(scope, "key")
            if scope["method"] != "POST":  # no stream is offered to GET, and there is no session to DELETE
                raise RequestError("method_not_allowed", f"{scope['method']} is not for this path: POST")
            body = await _body(Request(scope, receive))
            app = await self._endpoint.app()
        except AutoGLMError as error:
            response = error_response(error, scope["request_id"])
            if error.code == "method_not_allowed":
                response.headers["allow"] = "POST"
            await response(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await _while_there(app, scope, body, receive, send)


async def _body(request: Request) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > BODY_BYTES_MAX:
                    raise too_large()
    except TimeoutError as error:
        raise RequestError("request_timeout", f"the body did not come within {_BODY_S:g} s") from error
    return bytes(data)


async def _while_there(app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Let an application answer a request whose body is here, for as long as the client is there."""
    gone = asyncio.Event()
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    answering = asyncio.ensure_future(app(scope, receive_again, send))
    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        answering.cancel()
        await asyncio.wait((answering, watching))
    if not answering.cancelled():
        answering.result()
