"""Drills our server, LiteLLM and nginx with the same faults, and writes the scorecard into docs/reliability.md.

    PYTHONPATH=src python benchmarks/drill/run.py [TARGET ...] [--all] [--rounds N]

`make drill` installs what is missing first. A target that is not installed is reported and left out. nginx does not see
models, so it is drilled one fault after the other, while the others are drilled in turn: about seven minutes in all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.drill.page import write_scorecard  # noqa: E402 - the path comes first
from benchmarks.rig.targets import TARGETS, executable, version  # noqa: E402
from open_autoglm import __version__  # noqa: E402
from open_autoglm.secret import Secret  # noqa: E402
from open_autoglm.testing.cases import CASES, SIXTEEN, Case  # noqa: E402
from open_autoglm.testing.drill import ROUNDS, Drill, Result  # noqa: E402
from open_autoglm.testing.gateway_config import CONFIGURATIONS, Wanted  # noqa: E402
from open_autoglm.testing.hearing import Door  # noqa: E402
from open_autoglm.testing.own_server import free_port, own_server, program  # noqa: E402
from open_autoglm.testing.scorecard import as_json, score  # noqa: E402

RESULTS: Final = ROOT / "benchmarks" / "results" / "drill.json"
OURS: Final = "open-autoglm"
CONTINUE: Final = "open-autoglm, continue"
NAMES: Final = (OURS, CONTINUE, "litellm", "nginx")
_START_S: Final = 90.0
"""LiteLLM needs up to a minute on a small machine."""


def main() -> int:
    """Run the drills that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=(*NAMES, []), help="default: all")
    parser.add_argument("--all", action="store_true", help="more faults than the sixteen")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    cases = CASES if arguments.all else SIXTEEN
    wanted = arguments.targets or list(NAMES)
    told = asyncio.run(_run_all(wanted, cases, arguments.rounds))
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"targets": {}}
    kept["targets"] |= told
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    write_scorecard(kept)
    for name, each in told.items():
        print(f"{name} {each['version']}: {each['totals']}")
    return 0


async def _run_all(names: Sequence[str], cases: Sequence[Case], rounds: int) -> dict[str, Any]:
    """Run nginx beside the others: its drill is long and mostly waits."""
    told: dict[str, Any] = {}

    async def run(lane: Sequence[str]) -> None:
        for name in lane:
            result = await _drill(name, cases, rounds)
            if result is not None:
                told[name] = result

    await asyncio.gather(run([name for name in names if name != "nginx"]), run([n for n in names if n == "nginx"]))
    return {name: told[name] for name in names if name in told}


async def _drill(name: str, cases: Sequence[Case], rounds: int) -> dict[str, Any] | None:
    def show(case: Case, results: list[Result]) -> None:
        grades = sorted({result.verdict.grade for result in results})
        print(f"{name}: {case.number:>2} {case.name}: {', '.join(grades)}", flush=True)

    drill = Drill(Door("", 0), cases, "any" if name == "nginx" else None, rounds, show)
    await drill.host("127.0.0.1", 0)
    urls = {each: upstream.url for each, upstream in drill.upstreams.items()}
    start_s = time.monotonic()
    try:
        async with _gateway(name, cases, urls) as door:
            drill.door = door
            scores = score(await drill.run())
    except FileNotFoundError as error:
        print(f"{name}: left out: {error}", file=sys.stderr)
        return None
    finally:
        drill.close()
    about = {
        "version": _version(name),
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(time.monotonic() - start_s),
        "rounds": rounds,
        "python": platform.python_version(),
    }
    return about | as_json(scores)


@contextlib.asynccontextmanager
async def _gateway(name: str, cases: Sequence[Case], urls: dict[str, str]) -> AsyncIterator[Door]:
    """Start a target; raise FileNotFoundError when it is not installed."""
    if name in (OURS, CONTINUE):
        async with own_server(cases, urls, name == CONTINUE) as door:
            yield door
        return
    target = next(each for each in TARGETS if each.name == name)
    found = executable(target)
    if found is None:
        raise FileNotFoundError(f"{target.program} is not installed; run benchmarks/setup.sh")
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        port = free_port()
        key = Secret(f"sk-{secrets.token_hex(16)}")
        config = Path(folder) / f"{name}.conf"
        config.write_text(CONFIGURATIONS[name](Wanted(cases, urls, port)))
        if name == "nginx":
            argv = [found, "-e", "stderr", "-p", folder, "-c", str(config)]
        else:
            argv = [found, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environ = {**target.env, "MCP_API_KEY": key.reveal()}
        async with program(argv, environ, Path(folder) / "output", port, _START_S):
            yield Door("127.0.0.1", port, key=key)


def _version(name: str) -> str:
    if name in (OURS, CONTINUE):
        return __version__
    return version(next(each for each in TARGETS if each.name == name))


if __name__ == "__main__":
    sys.exit(main())
