"""The drill itself in virtual time, with nothing between clients and upstreams: what a gateway would have to mend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from open_autoglm.errors import UpstreamError
from open_autoglm.testing.cases import CASES, Case
from open_autoglm.testing.drill import Drill, Result
from open_autoglm.testing.hearing import Door
from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.network import Network
from open_autoglm.testing.scorecard import Score, score

NAMED = {case.name: case for case in CASES}


def drilled(
    *cases: Case, rounds: int = 1, on_result: Callable[[Case, list[Result]], None] | None = None
) -> list[Score]:
    loop = VirtualLoop(seed=1)
    loop.network = Network(loop)

    async def main() -> list[Score]:
        assert loop.network is not None
        with loop.network.at("drill"):
            drill = Drill(Door("", 0), cases, "any", rounds, on_result, outage_s=20.0)
            await drill.host("127.0.0.1", 9100)
            drill.door = Door("127.0.0.1", 9100)
            try:
                return score(await drill.run())
            finally:
                drill.close()

    return loop.run(main())


@pytest.mark.parametrize(
    ("name", "unary", "stream"),
    [
        ("rate-limited-once", "told", "told"),
        ("reset", "told", "told"),
        ("silent", "wrong", "wrong"),
        ("slow-first-token", "wrong", "wrong"),
        ("cut", "told", "told"),
        ("stall", "wrong", "wrong"),
        ("malformed-event", "wrong", "wrong"),
        ("no-done", "rescued", "rescued"),
        ("context-length", "told", "told"),
        ("content-filter", "rescued", "rescued"),
        ("fallback", "told", "told"),
        ("html-200", "wrong", "wrong"),
        ("error-200", "told", "told"),
        ("error-in-stream", "told", "told"),
        ("cut-cleanly", "told", "wrong"),
        ("cut-by-reset", "told", "told"),
        ("empty-stream", "wrong", "wrong"),
        ("head-only", "wrong", "wrong"),
        ("wrong-length", "told", "told"),
        ("wrong-types", "wrong", "wrong"),
        ("nul", "wrong", "wrong"),
        ("comment-flood", "rescued", "rescued"),
        ("odd-events", "rescued", "rescued"),
    ],
)
def test_each_fault_unmended(name: str, unary: str, stream: str) -> None:
    scores = drilled(NAMED[name])
    assert [each.grade for each in scores] == [unary, stream], [each.why for each in scores]


def test_an_endpoint_that_is_away_under_traffic_that_nobody_mends() -> None:
    unary, stream = drilled(NAMED["down"])
    assert (unary.grade, stream.grade) == ("wrong", "wrong")
    assert "tries while it is away" in unary.why
    # 4 requests a second for 20 s, each a connection; those before and after were answered.
    assert unary.most_tries == 80


def test_a_gateway_that_answers_nothing_is_told_as_such() -> None:
    loop = VirtualLoop(seed=1)
    loop.network = Network(loop)

    async def main() -> None:
        assert loop.network is not None
        with loop.network.at("drill"):
            drill = Drill(Door("127.0.0.1", 1), [NAMED["cut"]])
            with pytest.raises(UpstreamError, match="'drill-08' even before any fault"):
                await drill.run()

    loop.run(main())


def test_every_case_is_told_when_it_is_over() -> None:
    seen: list[str] = []
    drilled(
        NAMED["cut"],
        NAMED["reset"],
        rounds=2,
        on_result=lambda case, results: seen.append(f"{case.name} {len(results)}"),
    )
    assert seen == ["cut 4", "reset 4"]
