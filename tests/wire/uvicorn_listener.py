"""uvicorn on a free port, with an application that answers with a digest of what was asked."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.server import ServerState

ORIGIN = b"http://host.test:8080"
"""Of absolute targets."""


def digest(method: bytes, path: bytes, query: bytes, body: bytes) -> bytes:
    """The answer to a request."""
    return hashlib.sha256(b"\0".join((method, path, query, body))).hexdigest().encode()


async def digesting(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    # uvicorn on h11 hands over an absolute target whole, on httptools its path.
    path = scope["raw_path"].removeprefix(ORIGIN)
    answer = digest(scope["method"].encode(), path, scope["query_string"], body)
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@dataclass
class Listening:
    """A listener, and what is known of it."""

    port: int
    listener: asyncio.AbstractServer
    state: ServerState

    def close(self) -> None:
        """Close the listener and whatever is still open."""
        self.listener.close()
        for connection in list(self.state.connections):
            connection.transport.close()


async def listening_uvicorn(kind: str) -> Listening:
    """Start uvicorn's protocol for HTTP on httptools or on h11."""
    config = uvicorn.Config(digesting, http=kind, ws="none", lifespan="off", log_level="critical")  # type: ignore[arg-type]
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    return Listening(listener.sockets[0].getsockname()[1], listener, state)
