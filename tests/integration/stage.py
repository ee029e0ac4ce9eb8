"""Fixtures: an upstream and a server, each one process or thread for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.running import RunningServer, speaking_upstream
from tests.integration.upstreams import Upstream, wait_until


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """A scripted upstream; each test makes its own stations."""
    with speaking_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server; each test applies its own configuration. Whatever they did, it ends idle and without defect."""
    with RunningServer(tmp_path_factory.mktemp("server")) as server:
        yield server
        wait_until(lambda: server.admin_get("/admin/v1/status")["in_flight"] == 0, "nothing is left in flight")
        assert "Traceback" not in server.log()
