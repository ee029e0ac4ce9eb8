"""Limits of framed connections are those of the configuration, also of one that came while the server runs."""

from __future__ import annotations

from pathlib import Path

from tests.integration.framed.asker import Asker
from tests.integration.framed.test_framed import port_of, serving
from tests.integration.running import KEY

from open_autoglm.protocol.handshake import Welcome


async def told(port: int) -> Welcome:
    async with Asker(port, KEY) as asker:
        welcome = asker.session.connection.welcome
        assert welcome is not None
        return welcome


async def test_welcome_says_what_is_configured(tmp_path: Path) -> None:
    frames = {"frame_bytes": "128KiB", "streams": 3, "window": "64KiB", "heartbeat": "2s"}
    config = {"limits": {"requests_per_second": 0, "body_bytes": "1MiB", "frames": frames}}
    async with serving(tmp_path, config) as server:
        welcome = await told(port_of(server))
        assert (welcome.frame_bytes_max, welcome.message_bytes_max) == (128 * 1024, 1 << 20)
        assert (welcome.requests_max, welcome.window, welcome.heartbeat_ms) == (3, 64 * 1024, 2000)
        async with Asker(port_of(server), KEY) as before:
            server.apply(limits={"frames": {"streams": 9}})
            assert (await told(port_of(server))).requests_max == 9
            assert before.session.connection.welcome is not None
            assert before.session.connection.welcome.requests_max == 3, "what a connection was told holds for it"
