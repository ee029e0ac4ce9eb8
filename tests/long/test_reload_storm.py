"""1,000 reloads under load, half of them broken files: a minute, with `make test-servers` or `pytest -s tests/long`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.gateway.reload_storm import storm
from tests.integration.running import RunningServer, speaking_upstream
from tests.integration.speech import speak
from tests.integration.upstreams import after

RELOADS = 1000


@pytest.mark.servers
@pytest.mark.timeout(1800)
def test_a_thousand_reloads(tmp_path: Path) -> None:
    with speaking_upstream() as upstream, RunningServer(tmp_path) as server:
        stations = {"a": upstream.station("a"), "b": upstream.station("b").always(after(0.01, speak))}
        before = server.resident_bytes()
        tally = storm(server, stations, RELOADS)
        grown = server.resident_bytes() - before
        print(f"\n{tally.applied} applied, {tally.refused} refused, {dict(tally.ways)}, answers {dict(tally.answers)},")
        print(f"wrong {len(tally.wrong)}, grown by {grown / 2**20:.1f} MiB")
        assert tally.wrong == []
        assert (tally.applied, tally.refused) == (RELOADS // 2, RELOADS // 2)
        assert min(tally.answers.values()) > 1000
