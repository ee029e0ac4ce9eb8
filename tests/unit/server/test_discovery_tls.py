"""Nodes of a cluster whose links are secured: who is asked is who has the name."""

from __future__ import annotations

from pathlib import Path

import trustme
from tests.unit.server.test_discovery import CONFIG, Bench, node

from open_autoglm.backends.node import NodeBackend
from open_autoglm.cluster.settings import ClusterTls
from open_autoglm.config import parse_config
from open_autoglm.membership.wire import Verdict


async def test_each_node_is_asked_within_tls_and_by_its_own_name(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    config = parse_config(CONFIG, source="x.yaml", environ={}, trusted=True).config
    bench = Bench(config, tls=ClusterTls(str(tmp_path / "ca.pem")))

    def names() -> dict[str, str]:
        parts = [part for part in bench.assembly.parts.values() if part.endpoint.model == "new"]
        return {part.endpoint.url: part.backend.tls_name for part in parts if isinstance(part.backend, NodeBackend)}

    await bench.discovery.start(replaces=False)
    try:
        bench.hear(node("a", "new"), node("b", "new", host="10.0.0.2"))
        await bench.settle()
        assert names() == {"mcps://10.0.0.1:2": "a", "mcps://10.0.0.2:2": "b"}
        bench.hear(Verdict("dead", "a", 1, 0, "me"), node("c", "new"))
        await bench.settle()
        assert names() == {"mcps://10.0.0.1:2": "c", "mcps://10.0.0.2:2": "b"}, "another one came to its address"
    finally:
        bench.discovery.close()
        bench.assembly.close()
