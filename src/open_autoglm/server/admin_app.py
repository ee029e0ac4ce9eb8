"""Builds the admin application from the table of its routes.

Invariant: default deny. Each path has one door, which asks for what the route's access demands before anything else;
a path or method that is not in the table is answered only to those who have the key, as if it were a closed route.
Whatever goes wrong behind a door becomes an error in our own body shape; nothing of a stack is shown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.secret import Secret
from open_autoglm.server.admin import AdminControl
from open_autoglm.server.admin_call import AdminCall, AdminRoute
from open_autoglm.server.admin_guard import Access, Gate, Guard, error_response
from open_autoglm.server.admin_query import TEXT_CHARS_MAX, read_query
from open_autoglm.server.admin_routes import ROUTES
from open_autoglm.server.context_endpoint import PATH, ContextDoor, ContextEndpoint

_log = logging.getLogger(__name__)

_STRICTNESS: dict[Access, int] = {"public": 0, "loopback": 1, "key": 2}


class Door:
    """Everything that stands at one path, behind one gate. An ASGI application.

    Args:
        control: the server.
        gate: knows the key.
        routes: by method; none for all the paths that do not exist.
    """

    def __init__(self, control: AdminControl, gate: Gate, routes: dict[str, AdminRoute]) -> None:
        self._control = control
        self._gate = gate
        self.routes = routes
        found = [route.access for route in routes.values()]
        self._strictest: Access = max(found, key=_STRICTNESS.__getitem__) if found else "key"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except AutoGLMError as error:
            response = error_response(error, scope["request_id"])
            if error.code == "method_not_allowed":
                response.headers["allow"] = ", ".join(self.routes)
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("an admin request failed", extra={"request_id": scope["request_id"]})
            message = "the server failed at this request; its log says why"
            response = error_response(ServerError("internal_error", message), scope["request_id"])
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        route = self.routes.get(request.method)
        self._gate.check(request.scope, self._strictest if route is None else route.access)
        if not self.routes:
            raise RequestError("not_found", f"there is no {request.scope['path']!r} here; see /openapi.json")
        if route is None:
            raise RequestError("method_not_allowed", f"{request.method} is not for this path: {', '.join(self.routes)}")
        path = {name: unquote(value) for name, value in request.path_params.items()}
        if any(len(value) > TEXT_CHARS_MAX for value in path.values()):
            raise RequestError("not_found", f"no name here is longer than {TEXT_CHARS_MAX} characters")
        query = read_query(route.query, request.query_params.multi_items())
        return await route.handler(AdminCall(self._control, request, path, query))


def build(
    control: AdminControl, *, key: Secret, allowed_hosts: Collection[str] = (), context: ContextEndpoint | None = None
) -> Starlette:
    """Return the application; see `admin.build_admin`."""
    gate = Gate(key)
    by_path: dict[str, dict[str, AdminRoute]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route
    routes = [Route(path, Door(control, gate, found)) for path, found in by_path.items()]
    if context is not None:
        routes.append(Route(PATH, ContextDoor(gate, context)))
    routes.append(Route("/{rest:path}", Door(control, gate, {})))
    app = Starlette(routes=routes, middleware=[Middleware(Guard, allowed_hosts=allowed_hosts)])
    app.router.redirect_slashes = False
    return app
