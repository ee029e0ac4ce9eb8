"""What a rollout changes for the requests of its server: those of its model alone leave the short cut."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

from open_autoglm.config import parse_config
from open_autoglm.gateway.framed import FramedGateway
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.server.assembly import Assembly
from open_autoglm.server.rollout_nodes import ServerNodes

CONFIG = """
models:
  - {name: steered, endpoint: "mcp://127.0.0.1:9"}
  - {name: other, endpoint: "mcp://127.0.0.1:9"}
"""


class OneSnapshot:
    """As much of a gateway as has a snapshot."""

    def __init__(self, snapshot: Any) -> None:
        self.snapshot = snapshot
        self.adopted = 0

    def adopt(self, snapshot: Any) -> None:
        self.snapshot = snapshot
        self.adopted += 1


async def test_only_the_steered_model_loses_its_lane_and_gets_it_back() -> None:
    loop = asyncio.get_running_loop()
    assembly = Assembly(loop, random.Random(1), b"pepper", _nothing, loop.time)
    config = parse_config(CONFIG, source="x.yaml", environ={}, trusted=True).config
    gateway: Any = OneSnapshot(assembly.build(config, 1, 0).snapshot)
    nothing: Any = None
    framed = FramedGateway(gateway, nothing, nothing, loop, settings=ConnectionSettings(), keep_share=0.0)
    server: Any = SimpleNamespace(gateway=gateway, discovery=None)
    nodes = ServerNodes(server)

    def lanes() -> list[bool]:
        principal = gateway.snapshot.anonymous
        framed.lanes_of(principal)
        return [framed.lane(principal, name) is not None for name in (b"steered", b"other")]

    assert lanes() == [True, True]
    for _ in range(2):
        nodes.keep_together(frozenset({"steered"}))
        assert lanes() == [False, True]
    assert gateway.adopted == 1, "what stays is not made anew"
    nodes.keep_together(frozenset())
    assert lanes() == [True, True]
    assert nodes.facts() is None
    assembly.close()


def _nothing(entry: object) -> Any:
    raise AssertionError("there is none")
