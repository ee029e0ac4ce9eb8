"""Measures our server beside the other gateways and writes results, tables and plots: `python benchmarks/run.py`.

A whole run takes about twelve minutes and writes `results/latest.json`, `docs/benchmarks.md` and the plots. A partial
one (`--quick`, `--only`, `--scenario`) prints its lines and writes `results/raw/partial.json` only. Exit codes: 0
measured, 1 our own server failed or was wrong, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.rig import machine
from benchmarks.rig.scenarios import QUICK, SCENARIOS, Scenario, Settings
from benchmarks.rig.session import Session, prepare_process, upstreams
from benchmarks.rig.targets import DIRECT, OURS, ROOT, TARGETS, Target, executable, version

RESULTS = ROOT / "benchmarks" / "results"
SCHEMA = 1


def main(arguments: list[str]) -> int:
    """Runs the session that the arguments ask for."""
    options = _parse(arguments)
    settings = QUICK if options.quick else Settings()
    if options.rounds:
        settings = dataclasses.replace(settings, rounds=options.rounds)
    targets = [
        target
        for target in TARGETS
        if (target.name in options.only or target.name == DIRECT if options.only else target.default)
    ]
    scenarios = [scenario for scenario in SCENARIOS if not options.scenario or scenario.name in options.scenario]
    partial = bool(options.quick or options.only or options.scenario or options.rounds)
    prepare_process()
    result = measure(targets, scenarios, settings)
    path = options.out or (RESULTS / "raw" / "partial.json" if partial else RESULTS / "latest.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}, {result['elapsed_s']:.0f} s")
    if not partial:
        report.write(path)
    return int(any(run["wrong"] for run in result["runs"] if run["target"] == OURS))


def measure(targets: list[Target], scenarios: list[Scenario], settings: Settings) -> dict[str, Any]:
    """One session as the value of a result file."""
    began_s = time.monotonic()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        **machine.commit(),
        "settings": dataclasses.asdict(settings),
        "targets": {target.name: _described(target) for target in targets},
    }
    with tempfile.TemporaryDirectory(prefix="autoglm-bench-") as folder, upstreams(Path(folder)) as found:
        session = Session(settings, found, Path(folder), lambda line: print(line, flush=True))
        runs = session.measure(targets, scenarios)
    result["runs"] = [dataclasses.asdict(run) for run in runs]
    result["elapsed_s"] = time.monotonic() - began_s
    return result


def _described(target: Target) -> dict[str, Any]:
    found = not target.program or executable(target) is not None
    return {"version": version(target) if found else "", "features": target.features, "config": target.config}


def _parse(arguments: list[str]) -> argparse.Namespace:
    target_names = [target.name for target in TARGETS]
    scenario_names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round, about three minutes")
    parser.add_argument(
        "--only", type=_names(target_names), help=f"targets, comma-separated: {', '.join(target_names)}"
    )
    parser.add_argument(
        "--scenario", type=_names(scenario_names), help=f"scenarios, comma-separated: {', '.join(scenario_names)}"
    )
    parser.add_argument("--rounds", type=int, choices=range(1, 21), metavar="N", help="rounds, 1 to 20")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args(arguments)


def _names(known: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
