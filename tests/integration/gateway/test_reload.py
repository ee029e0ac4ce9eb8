"""A reload is whole or not at all, and no request notices it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.gateway.reload_storm import BROKEN, LIMITS, configuration, outcomes, storm
from tests.integration.running import RunningServer, model
from tests.integration.speech import speak
from tests.integration.upstreams import Station, Upstream, after

RELOADS = 60


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that nobody else uses: it counts its reloads."""
    with RunningServer(tmp_path_factory.mktemp("reload")) as server:
        yield server


@pytest.fixture
def stations(upstream: Upstream) -> dict[str, Station]:
    """One that answers at once, one that takes a while: requests are in flight at every reload."""
    return {"a": upstream.station("a"), "b": upstream.station("b").always(after(0.01, speak))}


def test_reloads_under_load(own_server: RunningServer, stations: dict[str, Station]) -> None:
    tally = storm(own_server, stations, RELOADS)
    assert tally.wrong == []
    assert (tally.applied, tally.refused) == (RELOADS // 2, RELOADS // 2)
    assert set(tally.ways) == {"posted", "signalled", "watched"}
    assert min(tally.answers.values()) > 10, tally.answers
    assert set(tally.answers) == set(LIMITS)
    counted = outcomes(own_server)
    assert counted["applied"] == tally.applied + 1
    assert f"mcp_config_revision {tally.applied + 2}" in own_server.admin_get("/metrics")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda content: content[:20].decode("latin-1"))
def test_a_broken_configuration_is_refused_with_its_reasons(
    server: RunningServer, upstream: Upstream, broken: bytes
) -> None:
    station = upstream.station()
    before = server.apply(model("chat", station.url))
    answer = server.admin_post("/admin/v1/config", broken)
    assert answer.status_code in (400, 422), answer.text
    assert server.admin_get("/admin/v1/config")["revision"] == before
    assert server.chat().status_code == 200


def test_rollback(server: RunningServer, upstream: Upstream) -> None:
    stations = {"a": upstream.station(), "b": upstream.station()}
    for letter in ("a", "b"):
        answer = server.admin_post("/admin/v1/config", configuration(server, stations, letter))
        assert answer.status_code == 200
    assert server.chat().json()["model"] == "model-b"
    assert server.admin_post("/admin/v1/config/rollback").status_code == 200
    assert server.chat().json()["model"] == "model-a"
