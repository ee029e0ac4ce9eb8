"""A link to a node that is cut is told to whoever watches the node; one that was closed here is not."""

from __future__ import annotations

import asyncio
import random

from tests.integration.framed.scripted_node import ScriptedNode

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend
from open_autoglm.transport.framed_shell import Flusher


async def test_a_link_that_is_cut_is_told_and_one_that_is_closed_is_not() -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedNode(loop) as node:
        backend = NodeBackend(
            "127.0.0.1",
            node.port,
            token=None,
            flusher=Flusher(loop),
            loop=loop,
            rng=random.Random(1),
            connect_timeout_s=5.0,
        )
        lost = asyncio.Event()
        backend.on_lost = lost.set
        backend.sweep(clock.monotonic())
        assert await backend.reachable(5.0)
        assert not lost.is_set()
        for peer in list(node.peers):
            peer.shell.abort()
        async with asyncio.timeout(5.0):
            await lost.wait()
        assert await backend.reachable(5.0), "it comes back by itself"
        lost.clear()
        backend.close()
        async with asyncio.timeout(5.0):
            while node.peers:  # noqa: ASYNC110 - sockets are waited for
                await asyncio.sleep(0.01)
        assert not lost.is_set()
