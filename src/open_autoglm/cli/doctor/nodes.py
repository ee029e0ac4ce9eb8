"""Does a node let us in? A handshake tells, and costs no answer."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

from open_autoglm.backends.node import NodeBackend
from open_autoglm.cli.doctor.finding import Finding, fail, ok
from open_autoglm.config.schema import ModelEntry
from open_autoglm.transport.framed_shell import Flusher
from open_autoglm.transport.settings import TlsClientFiles
from open_autoglm.transport.tls import upstream_context


def shake_hands(entry: ModelEntry, topic: str, probe_s: float) -> Finding:
    """Open a link to a node with our token, and close it.

    Args:
        entry: of a node.
        topic: of the finding.
        probe_s: longest wait; half of it is for the node.

    Raises:
        ssl.SSLError: a TLS file of ours cannot be used.
        OSError: one of them cannot be read.
    """
    outcome, reason = asyncio.run(_shaken(entry, probe_s))
    if not outcome:
        return ok(topic, "takes our token" if entry.token is not None else "lets us in")
    if outcome == "misconfigured":
        return fail(topic, reason, f"set `token` of the model {entry.name!r} to the node's secret")
    return fail(topic, reason, "check that it runs, and the port in the model's endpoint")


async def _shaken(entry: ModelEntry, probe_s: float) -> tuple[str, str]:
    """What came of it: empty when the node has let us in, else as `NodeBackend.absence`."""
    loop = asyncio.get_running_loop()
    unix_path = entry.endpoint.removeprefix("unix:") if entry.endpoint.startswith("unix:") else None
    parts = urlsplit(entry.endpoint)
    files = TlsClientFiles(entry.ca, entry.client_cert, entry.client_key)
    backend = NodeBackend(
        parts.hostname or "localhost",
        parts.port or 0,
        token=entry.token,
        flusher=Flusher(loop),
        loop=loop,
        rng=random.Random(),
        connect_timeout_s=probe_s,
        unix_path=unix_path,
        tls=upstream_context(files) if parts.scheme == "mcps" else None,
        tls_name=entry.tls_name or "",
    )
    try:
        there = await backend.reachable(probe_s / 2)
        return ("", "") if there else backend.absence()
    finally:
        backend.close()
