"""Runs the same task graphs on our executor and on others: `python benchmarks/graph/run.py [--repeat N] [--publish]`.

Each system runs in an environment of its own (`benchmarks/setup.sh langgraph agent-framework dbos`), each measurement
in a process of its own, all systems in turn within each repetition; see `benchmarks/graph/work.py` for the work. With
`--publish` the figures go to `benchmarks/results/graph.json`, which `benchmarks/report.py` makes a section of.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.graph.section import graph_section
from benchmarks.graph.work import MODES, RUNS, STEPS
from benchmarks.rig.machine import commit, describe

ROOT: Final = Path(__file__).resolve().parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "graph.json"
TIMEOUT_S: Final = 300.0
SYSTEMS: Final = {
    "Open-AutoGLM": (Path(sys.executable), "ours.py"),
    "LangGraph": (ROOT / ".venvs/langgraph/bin/python", "on_langgraph.py"),
    "Microsoft Agent Framework": (ROOT / ".venvs/agent-framework/bin/python", "on_agent_framework.py"),
    "DBOS": (ROOT / ".venvs/dbos/bin/python", "on_dbos.py"),
}


def measure(python: Path, program: str, mode: str) -> dict[str, Any]:
    """One process; what it printed, as one object."""
    if not python.exists():
        return {"missing": f"no environment; run benchmarks/setup.sh {python.parent.parent.name}"}
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(ROOT / "benchmarks" / "graph" / program), mode, folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done in {TIMEOUT_S:g} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]}
    figures: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            figures |= json.loads(line)
    return figures


def main() -> None:
    """Measure, print, and keep the figures where that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--publish", action="store_true", help="keep the figures")
    options = parser.parse_args()
    before = describe()
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {name: {mode: [] for mode in MODES} for name in SYSTEMS}
    for repetition in range(options.repeat):
        for mode in MODES:
            for name, (python, program) in SYSTEMS.items():
                figures = measure(python, program, mode)
                measured[name][mode].append(figures)
                print(f"{repetition + 1}/{options.repeat} {mode:8} {name}: {figures}", file=sys.stderr, flush=True)
    result = {"machine": before, "commit": commit(), "runs": RUNS, "steps": STEPS, "measured": measured}
    print(graph_section(result))
    if any("failed" in figures for modes in measured.values() for each in modes.values() for figures in each):
        raise SystemExit("one of them failed; nothing is kept")
    if options.publish:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
