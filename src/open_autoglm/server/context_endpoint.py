"""`/context` on the admin listener: the context protocol over streamable HTTP, behind the admin key.

The guard of the listener has checked Host and Origin by then (DNS rebinding), and this door asks for the key before
anything is read. Invariant: the protocol's library is imported when the first client with the key comes, in a thread,
never before; what it opens is closed with the server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.server.admin_guard import Gate, error_response

if TYPE_CHECKING:
    from open_autoglm.server.context_face import ContextFace

_log = logging.getLogger(__name__)

PATH = "/context"


class ContextEndpoint:
    """Speaks the protocol.

    Args:
        face: what clients see.
    """

    def __init__(self, face: ContextFace) -> None:
        self._face = face
        self._opening = asyncio.Lock()
        self._app: ASGIApp | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def app(self) -> ASGIApp:
        """What answers requests.

        Raises:
            ServerError: `not_implemented`, the extra is not installed; `server_draining`.
        """
        if self._stop.is_set():
            raise ServerError("server_draining", "the server is stopping")
        async with self._opening:
            if self._app is None:
                try:
                    module = await asyncio.to_thread(importlib.import_module, "open_autoglm.server.context_server")
                except ImportError as error:
                    _log.warning("/context needs the extra `context`: pip install 'open-autoglm[context]'")
                    message = "the context protocol needs the extra `context`: pip install 'open-autoglm[context]'"
                    raise ServerError("not_implemented", message) from error
                manager = module.session_manager(self._face)
                ready = asyncio.Event()
                self._keeper = asyncio.create_task(self._keep(manager, ready))
                await ready.wait()
                self._app = manager.handle_request
            return self._app

    async def _keep(self, manager: Any, ready: asyncio.Event) -> None:
        """Its task groups must be opened and closed by one task."""
        async with manager.run():
            ready.set()
            await self._stop.wait()

    async def close(self) -> None:
        """End what runs."""
        self._stop.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=2.0)


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
            app = await self._endpoint.app()
        except AutoGLMError as error:
            response = error_response(error, scope["request_id"])
            if error.code == "method_not_allowed":
                response.headers["allow"] = "POST"
            await response(scope, receive, send)
            return
        await app(scope, receive, send)
