"""Our server under the whole fault suite, in virtual time: what the scorecard of docs/reliability.md promises."""

from __future__ import annotations

import random

import pytest

from open_autoglm.config import parse_config
from open_autoglm.server.options import ServeOptions
from open_autoglm.server.server import Server
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.testing.cases import CASES, Case
from open_autoglm.testing.drill import Drill
from open_autoglm.testing.gateway_config import Wanted, open_autoglm
from open_autoglm.testing.hearing import Door
from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.network import Link, Network
from open_autoglm.testing.scorecard import Score, score

DRILLED = tuple(case for case in CASES if not case.heavy)
"""Many bytes are not made quick by virtual time; `make drill` has those faults too."""
PORT = 8080


def drilled(going_on: bool, *cases: Case) -> list[Score]:
    loop = VirtualLoop(seed=1)
    loop.network = network = Network(loop, Link(cuts=0.0))

    async def main() -> list[Score]:
        # Everybody is on the loopback of one host.
        with network.at("drill"):
            drill = Drill(Door("127.0.0.1", PORT), cases)
            await drill.host("127.0.0.1", 9100)
            urls = {name: upstream.url for name, upstream in drill.upstreams.items()}
            text = open_autoglm(Wanted(cases, urls, PORT, going_on))
            environ = {"MCP__SERVER__ADMIN_KEY": "admin-key-of-this-test"}
            loaded = parse_config(text, source="test", environ=environ, trusted=True, insecure=False)
            log = RequestLog(loaded.config.logging)
            server = Server(loaded, ServeOptions(None), loop, log, rng=random.Random(1))
            await server.start()
            scores = score(await drill.run())
            await server.stop()
            drill.close()
        return scores

    return loop.run(main())


@pytest.mark.parametrize("going_on", [False, True])
def test_every_fault_is_mended_or_told(going_on: bool) -> None:
    scores = drilled(going_on, *DRILLED)
    assert len(scores) == 2 * len(DRILLED)
    told = {case.number for case in DRILLED if case.streams_told and not going_on}
    grades = {(each.number, each.stream): each.grade for each in scores}
    expected = {
        (case.number, stream): "told" if stream and case.number in told else "rescued"
        for case in DRILLED
        for stream in (False, True)
    }
    assert grades == expected, [each.why for each in scores if each.grade != expected[each.number, each.stream]]
