"""The admin listener on real sockets: opening, limits of the wire, closing."""

import asyncio
import errno
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from open_autoglm.secret import Secret
from open_autoglm.server.admin import EndpointAction, JSONObject, RequestFilter, build_admin, serve_admin
from open_autoglm.server.admin_listener import HEAD_BYTES_MAX, AdminListener, open_listener
from open_autoglm.server.audit_desk import Said

KEY = "admin-key-of-this-test"
BEARER = {"authorization": f"Bearer {KEY}"}


class Control:
    """A server that takes its time when it applies a configuration."""

    def __init__(self) -> None:
        self.applying = asyncio.Event()
        self.go_on = asyncio.Event()

    def health(self) -> JSONObject:
        return {}

    def ready(self) -> tuple[bool, str]:
        return True, ""

    def metrics(self) -> bytes:
        return b"mcp_config_revision 1\n"

    def status(self) -> JSONObject:
        return {}

    def config_active(self) -> JSONObject:
        return {"revision": 1}

    def config_history(self) -> list[JSONObject]:
        return []

    def config_diff(self, text: str) -> JSONObject:
        return {}

    async def config_apply(self, text: str, by: str) -> JSONObject:
        self.applying.set()
        await self.go_on.wait()
        return {"revision": 2, "bytes": len(text)}

    def config_reload(self, by: str) -> JSONObject:
        return self.config_active()

    def config_rollback(self, by: str) -> JSONObject:
        return {"revision": 1}

    def models(self) -> list[JSONObject]:
        return []

    def nodes(self) -> list[JSONObject]:
        return []

    def node_note(self, name: str, text: str, version: str) -> JSONObject:
        return {"id": name, "note": text, "note_version": "v"}

    def keys(self) -> list[JSONObject]:
        return []

    def requests(self, limit: int, where: RequestFilter) -> list[JSONObject]:
        return []

    def explain(self, request_id: str) -> JSONObject | None:
        return None

    async def feedback(self, run: str, said: Said) -> JSONObject:
        return {}

    def endpoint_action(self, model: str, endpoint: str, action: EndpointAction) -> JSONObject:
        return {}


@pytest.fixture
async def control() -> Control:
    return Control()


@pytest.fixture
async def listener(control: Control) -> AsyncIterator[AdminListener]:
    listener = await open_listener(build_admin(control, key=Secret(KEY)), "127.0.0.1", 0, head_s=0.3)
    yield listener
    await listener.close(deadline_s=0.1)


def client(listener: AdminListener) -> httpx2.AsyncClient:
    host, port = listener.address
    return httpx2.AsyncClient(base_url=f"http://{host}:{port}", headers=BEARER, timeout=5.0)


async def closed_after(listener: AdminListener, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send pieces and return everything that came until the server closed the connection."""
    reader, writer = await asyncio.open_connection(*listener.address)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(5):
            return await reader.read()
    except (ConnectionResetError, BrokenPipeError):
        return b""
    finally:
        writer.close()


async def test_it_answers_and_takes_a_large_configuration(listener: AdminListener, control: Control) -> None:
    control.go_on.set()
    async with client(listener) as http:
        assert (await http.get("/metrics", headers={"authorization": ""})).text == "mcp_config_revision 1\n"
        assert (await http.get("/admin/v1/models")).json() == {"models": []}
        text = "# " + "x" * 1_000_000
        answer = await http.post("/admin/v1/config", content=text.encode())
        assert answer.json() == {"revision": 2, "bytes": len(text)}
        assert "server" not in answer.headers
        too_long = await http.post("/admin/v1/config", content=b"x" * 3_000_000)
        assert too_long.status_code == 413
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("pieces", [(), (b"GET /healthz HT",), (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n",)])
async def test_a_head_that_does_not_come_closes_the_connection(
    listener: AdminListener, pieces: tuple[bytes, ...]
) -> None:
    begun_s = time.monotonic()
    assert await closed_after(listener, *pieces) == b""
    assert time.monotonic() - begun_s >= 0.2


async def test_a_second_head_has_a_deadline_too(listener: AdminListener) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    answer = await closed_after(listener, whole, b"GET /hea")
    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_an_endless_head_is_refused(listener: AdminListener) -> None:
    line = b"x-padding: " + b"x" * 1000 + b"\r\n"
    pieces = [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", *[line] * (HEAD_BYTES_MAX // 1000 + 10)]
    answer = await closed_after(listener, *pieces, pause_s=0.001)
    assert b" 200 " not in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
    ids=["cl and te", "two lengths", "tls", "non-ascii path"],
)
async def test_malformed_requests_are_refused(listener: AdminListener, head: bytes) -> None:
    answer = await closed_after(listener, head)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


async def test_closing_lets_running_requests_finish_and_cuts_idle_connections(
    listener: AdminListener, control: Control
) -> None:
    idle_reader, idle_writer = await asyncio.open_connection(*listener.address)
    async with client(listener) as http:
        applying = asyncio.create_task(http.post("/admin/v1/config", content=b"a: 1"))
        await control.applying.wait()
        closing = asyncio.create_task(listener.close(deadline_s=5.0))
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*listener.address)
        control.go_on.set()
        assert (await applying).json()["revision"] == 2
        await closing
    async with asyncio.timeout(5):
        assert await idle_reader.read() == b""
    idle_writer.close()


async def test_closing_does_not_wait_beyond_its_deadline(listener: AdminListener, control: Control) -> None:
    async with client(listener) as http:
        applying = asyncio.create_task(http.post("/admin/v1/config", content=b"a: 1"))
        await control.applying.wait()
        async with asyncio.timeout(5):
            await listener.close(deadline_s=0.05)
        with pytest.raises(httpx2.TransportError):
            await applying


async def test_it_leaves_the_process_alone(control: Control) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    app = build_admin(control, key=Secret(KEY))
    listener = await serve_admin(app)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    with pytest.raises(OSError) as caught:
        await serve_admin(app, *listener.address)
    assert caught.value.errno == errno.EADDRINUSE
    await listener.close()


async def test_a_unix_socket_is_local(control: Control, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "admin.sock"))
    listener = await serve_admin(build_admin(control, key=Secret(KEY)), socks=[sock])
    assert listener.address == (str(tmp_path / "admin.sock"), 0)
    transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "admin.sock"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/admin/v1/models")).status_code == 401
    await listener.close()
