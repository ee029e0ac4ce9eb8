"""Both event loops: what holds for one must hold for the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest
import trustme
import uvloop
from tests.wire.recording_application import RecordingApplication

from open_autoglm.transport.application import Application
from open_autoglm.transport.http_server import HttpServer
from open_autoglm.transport.settings import WireLimits

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

ROUND_S = 0.2
"""Of the patrol: ten times faster than a test's shortest timer."""


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Run every test of this folder on both."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Tls:
    """Both ends of TLS for `localhost`."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Certificates of an authority that exists for this run; `stranger` does not trust it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client, ssl.create_default_context())


@dataclass
class Running:
    """A server that listens."""

    server: HttpServer
    port: int


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers; they are stopped after the test, and nothing may have gone wrong unseen."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    servers: list[HttpServer] = []

    async def start(
        application: Application | None = None,
        limits: WireLimits | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Running:
        server = HttpServer(
            application or RecordingApplication(connections=10_000), limits or WireLimits(), loop, round_s=ROUND_S
        )
        _, port = await server.listen("127.0.0.1", 0, context)
        servers.append(server)
        return Running(server, port)

    yield start
    for server in servers:
        server.close_listeners()
        server.abort()
    for _ in range(100):
        if not any(server.connections for server in servers):
            break
        await asyncio.sleep(0.01)
    assert not any(server.connections for server in servers), "every connection is forgotten"
    assert not complaints
