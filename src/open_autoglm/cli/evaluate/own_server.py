"""A server of its own for an evaluation: the models that ship, three teams of them, free ports, a key for this run.

Invariant: process and folder are gone when the context ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from open_autoglm.cli.commands.demo import configuration
from open_autoglm.cli.http_call import Address, Target
from open_autoglm.engines.embedded import catalog
from open_autoglm.ids import new_key
from open_autoglm.secret import Secret
from open_autoglm.testing.own_server import free_port, program

_SUMS: Final = ["glm-calc-c", "glm-calc-d", "glm-calc-m"]
TEAMS: Final[dict[str, dict[str, Any]]] = {
    "majority": {"strategy": "dynamic_voting", "weighting": "equal", "members": _SUMS},
    "vote-by-confidence": {
        "strategy": "dynamic_voting",
        "confidence_weighting": True,
        "logprobs": True,
        "members": [*_SUMS, "glm-nano"],
    },
    "cascade": {
        "strategy": "cascade",
        "logprobs": True,
        "cascade_samples": 1,
        "cascade_steps": [["glm-nano"], _SUMS],
        "members": ["glm-nano", *_SUMS],
        "threshold": 0.95,
    },
}
"""Virtual models of the server, as the configuration has them."""


@contextmanager
def own_server() -> Iterator[Target]:
    """Start it; hand out where it takes requests.

    Raises:
        ServerError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="autoglm-evaluate-", ignore_cleanup_errors=True) as name:
        folder, key, port = Path(name), Secret(new_key()), free_port()
        config = folder / "config.json"
        fields = json.loads(configuration(list(catalog.names()), key, name))
        config.write_text(json.dumps({**fields, "cooperation": TEAMS}), encoding="utf-8")
        config.chmod(0o600)
        argv = [sys.executable, "-m", "mcp_server", "serve", "--config", str(config), "--port", str(port)]
        environ = {"PYTHONPATH": str(Path(__file__).parents[3]), "MCP__DRAIN__ACCEPT": "1ms"}
        server = program([*argv, "--admin-port", str(free_port())], environ, folder / "output", port)
        with asyncio.Runner() as runner:
            runner.run(server.__aenter__())
            try:
                yield Target(Address(False, "127.0.0.1", port), key)
            finally:
                runner.run(server.__aexit__(None, None, None))
