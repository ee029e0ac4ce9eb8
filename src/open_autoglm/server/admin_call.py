"""One route of the admin listener, and one request to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from open_autoglm.errors import RequestError
from open_autoglm.server.admin import AdminControl
from open_autoglm.server.admin_guard import BODY_BYTES_MAX, Access, peer, too_large
from open_autoglm.server.admin_query import Parameter

BODY_S = 30.0
"""Longest time for a request's body, seconds."""


@dataclass(frozen=True, slots=True)
class AdminCall:
    """One request to a route.

    Attributes:
        control: the server.
        request: what came.
        path: the path's variables, decoded.
        query: the query's, checked against the route's parameters.
    """

    control: AdminControl
    request: Request
    path: dict[str, str]
    query: dict[str, Any]

    @property
    def by(self) -> str:
        """Who asks, for the history of the configuration."""
        return f"admin API from {peer(self.request.scope)}"

    async def body(self, wanted: str = "the configuration, in YAML or JSON") -> str:
        """Return the body as text.

        Args:
            wanted: what it should hold, for an error.

        Raises:
            RequestError: it is too long, too slow, empty, or not UTF-8.
        """
        data = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in self.request.stream():
                    data += chunk
                    if len(data) > BODY_BYTES_MAX:
                        raise too_large()
        except TimeoutError as error:
            raise RequestError("request_timeout", f"the body did not come within {BODY_S:g} s") from error
        try:
            decoded = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError("invalid_request", f"the body is not UTF-8, at byte {error.start}") from error
        if not decoded.strip():
            raise RequestError("invalid_request", f"the body is empty; send {wanted}")
        return decoded


Handler = Callable[[AdminCall], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """One route.

    Attributes:
        method: GET or POST.
        path: with variables in braces.
        access: who may use it.
        operation: its name in the description, unique.
        summary: one line for people.
        handler: what it does.
        schema: name of the answer's schema in `admin_openapi.SCHEMAS`; empty when the answer is not JSON.
        query: the parameters it understands.
        takes_config: whether the body is a configuration.
        takes_graph: whether the body is a task graph.
        statuses: what it may answer beside what all routes may.
    """

    method: str
    path: str
    access: Access
    operation: str
    summary: str
    handler: Handler
    schema: str = ""
    query: tuple[Parameter, ...] = ()
    takes_config: bool = False
    takes_graph: bool = False
    statuses: tuple[int, ...] = (200,)
