"""Cuts a thousand streams at random tokens while broken streams are continued, and compares every character.

    PYTHONPATH=src python benchmarks/drill/cuts.py [--streams 1000] [--seed 1]

Our server is started with the drill's configuration for `--continue`: two endpoints that can continue a given text, for
each of twenty models. One stream in four is cut: its first attempt ends after a random token, in one of three ways, by
closing, by a reset, or in order as if the answer were whole. Two settings are not the defaults: each success allows a
retry (`retries.budget_ratio: 1`), since more requests need one here than the default of one in ten, and no key has a
limit. Prints what the cut streams gave, and exits with 1 unless each gave the exact text and a finish reason.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import sys
from functools import partial
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.drill.page import write_cuts  # noqa: E402 - the path comes first
from open_autoglm.testing.cases import Case  # noqa: E402
from open_autoglm.testing.faults import cut, cut_by_reset, cut_cleanly  # noqa: E402
from open_autoglm.testing.hearing import Door, Heard, ask  # noqa: E402
from open_autoglm.testing.own_server import own_server  # noqa: E402
from open_autoglm.testing.reply import Asked, Behaviour  # noqa: E402
from open_autoglm.testing.speech import TOKENS, text_of  # noqa: E402
from open_autoglm.testing.upstream import ScriptedUpstream, answer  # noqa: E402

RESULTS: Final = ROOT / "benchmarks" / "results" / "cuts.json"
MODELS: Final = 20
"""Groups that the streams are spread over, so that the limits on retries of one group do not decide."""
ONE_IN: Final = 4
"""One stream in so many is cut. Were it all, the endpoints would be given a rest, as they should."""
AT_ONCE: Final = 16
_CASES: Final = tuple(Case(number, f"cut-{number}", "", "cut") for number in range(1, MODELS + 1))
_WAYS: Final = (cut, cut_by_reset, cut_cleanly)
_TIMEOUT_S: Final = 30.0


class CutOnce:
    """A script: the first attempt of each question that begins with `cut` is cut, all else is answered.

    Args:
        seed: of where and how.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.tries: collections.Counter[str] = collections.Counter()

    def __call__(self, asked: Asked) -> Behaviour:
        """Choose the behaviour."""
        self.tries[asked.question] += 1
        if not asked.question.startswith("cut") or self.tries[asked.question] > 1:
            return answer
        rng = random.Random(f"{self._seed} {asked.question}")
        return partial(rng.choice(_WAYS), at=rng.randrange(1, TOKENS))


async def measure(streams: int, seed: int) -> dict[str, int]:
    """Cut so many streams, a multiple of `MODELS`; count what became of them."""
    script = CutOnce(seed)
    upstreams = {
        name: ScriptedUpstream(script, name=name, pace_s=0.001) for name in ("primary", "secondary", "fallback")
    }
    for upstream in upstreams.values():
        await upstream.start()
    urls = {name: upstream.url for name, upstream in upstreams.items()}
    counted: collections.Counter[str] = collections.Counter()
    free = asyncio.Semaphore(AT_ONCE)

    async def one(door: Door, number: int) -> None:
        async with free:
            is_cut = number // MODELS % ONE_IN == 0
            question = f"{'cut' if is_cut else 'whole'} {number} of seed {seed}"
            heard = await ask(door, _CASES[number % MODELS].model, question, True, _TIMEOUT_S)
        kind = judge(question, heard)
        counted[kind if is_cut else f"beside them {kind}"] += 1
        if kind != "exact":
            print(f"{question}: {kind}: {heard.error or heard.text!r}", file=sys.stderr)

    try:
        async with own_server(_CASES, urls, going_on=True) as door:
            await asyncio.gather(*(one(door, number) for number in range(streams * ONE_IN)))
    finally:
        for upstream in upstreams.values():
            upstream.stop()
    return {"streams": streams, "seed": seed, **counted}


def judge(question: str, heard: Heard) -> str:
    """Say what a stream gave: exact, told (an error after a right beginning), or wrong."""
    wanted = text_of(question)
    if heard.whole and heard.text == wanted and heard.finish == "stop":
        return "exact"
    return "told" if heard.error and wanted.startswith(heard.text) else "wrong"


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000, help=f"a multiple of {MODELS}")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # The server inherits these.
    os.environ |= {"MCP__RETRIES__BUDGET_RATIO": "1", "MCP__LIMITS__REQUESTS_PER_SECOND": "0"}
    counted = asyncio.run(measure(arguments.streams, arguments.seed))
    RESULTS.write_text(json.dumps(counted, indent=1) + "\n")
    write_cuts(counted)
    print(json.dumps(counted))
    return 0 if counted.get("exact") == arguments.streams else 1


if __name__ == "__main__":
    sys.exit(main())
