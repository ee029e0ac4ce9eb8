"""Virtual models over time: reloads, restarts, several processes, and the fixture that has one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cooperation.members import Cast, say
from tests.integration.running import ADMIN_KEY, RunningServer, model, speaking_upstream
from tests.integration.upstreams import Upstream, wait_until

FIXTURE = Path(__file__).parents[2] / "data" / "fixtures" / "cooperation.json"
PSEUDO = {"strategy": "dynamic_voting", "early_exit": "none", "labels": "pseudo"}


@pytest.fixture
def crowd() -> Iterator[Upstream]:
    with speaking_upstream() as upstream:
        yield upstream


def weights(server: RunningServer) -> dict[str, float]:
    """What each member's vote weighs now."""
    text = server.ask({"model": "team", "stream": True, "messages": [{"role": "user", "content": "?"}]},
                      x_mcp_events="true").text  # fmt: skip
    [decided] = [block for block in text.split("\n\n") if block.startswith("event: mcp.decided")]
    votes = json.loads(decided.partition("data: ")[2])["votes"]
    return {vote["member"]: vote["weight"] for vote in votes}


def test_what_was_learned_survives_reloads_and_restarts(tmp_path: Path, crowd: Upstream) -> None:
    behaviours = [say("42")] * 6 + [say("41")]
    with RunningServer(tmp_path) as server:
        cast = Cast(server, crowd, *behaviours)
        cast.apply(team=PSEUDO)
        for _ in range(20):
            assert server.chat("team").status_code == 200
        learned = weights(server)
        assert learned["a"] > learned["g"], "it was always against all others"
        cast.apply(team=PSEUDO, hedging={"enabled": True})
        assert weights(server)["g"] < weights(server)["a"]
        config = server.encoded(
            {
                "models": [model(name, each.url) for name, each in zip(cast.names, cast.stations, strict=True)],
                "cooperation": {"team": {**PSEUDO, "members": cast.names}},
            }
        )
    (tmp_path / "config.json").write_bytes(config)
    assert (tmp_path / "data" / "cooperation.json").exists()
    with RunningServer(tmp_path, config_file=tmp_path / "config.json") as server:
        again = weights(server)
        assert again["a"] > again["g"]


def test_a_reload_while_runs_are_under_way_disturbs_none(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), say("42"), say("42"))
    cast[0].always(cast[0].held(say("42")))
    cast.apply(team={"early_exit": "none"})
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(server.chat("team")))
    asking.start()
    cast[0].wait_seen()
    cast.apply(team={"members": ["b", "c"]})
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"
    server.apply(model("b", cast[1].url))
    assert server.chat("team").status_code == 404
    cast[0].let_go()
    asking.join(10.0)
    assert answers[0].json()["choices"][0]["message"]["content"] == "42"


def test_several_workers_have_the_same_virtual_models(tmp_path: Path, crowd: Upstream) -> None:
    stations = {name: crowd.station(name).always(say("42")) for name in "ab"}
    config = {
        "server": {"workers": 2},
        "models": [model(name, station.url) for name, station in stations.items()],
        "cooperation": {"team": {"strategy": "dynamic_voting", "members": ["a", "b"]}},
    }
    with RunningServer(tmp_path, config) as server:
        for _ in range(20):
            server.http.close()
            server.http = type(server.http)(base_url=server.url, headers=server.http.headers, timeout=20.0)
            assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"
        wait_until(lambda: 'mcp_team_runs_total{worker="' in server.admin_get("/metrics"), "the leader tells of all")


def test_the_flat_form_starts_as_it_stands_and_serves_its_virtual_model(tmp_path: Path) -> None:
    words = ("--port", "0", "--admin-port", "0")
    environ = {"MCP__SERVER__DATA_DIR": str(tmp_path / "data"), "MCP__SERVER__ADMIN_KEY": ADMIN_KEY}
    with RunningServer(tmp_path, config_file=FIXTURE, words=words, environ=environ) as server:
        names = [listed["id"] for listed in server.http.get("/v1/models").json()["data"]]
        assert names == ["api.model-a.com", "api.model-b.org", "dynamic_voting"]
