"""Where the time goes: profiles our server under one scenario with py-spy: `python benchmarks/spy.py [SCENARIO]`.

Prints the functions with the largest own share and writes the folded stacks to `results/raw/`. Sampling slows the
server a little, so the figures of such a run are not for the tables.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import folded, probe
from benchmarks.rig.payload import request_body
from benchmarks.rig.process import Child, free_ports
from benchmarks.rig.scenarios import GATEWAY_CORE, LOAD_CORE, SCENARIOS, Scenario, Settings, Subject
from benchmarks.rig.session import prepare_process, upstreams
from benchmarks.rig.targets import OURS, ROOT, TARGETS, Place, command

SPY = ROOT / ".venvs" / "py-spy" / "bin" / "py-spy"
RAW = ROOT / "benchmarks" / "results" / "raw"
WINDOW_S = 6
FUNCTIONS_SHOWN = 45
# Threads that wait for work are taken for busy ones when the sample falls on a switch of threads.
WAITING = ("Condition.wait ", "WorkerThread.run ", "Queue.get ")


def main(arguments: list[str]) -> int:
    """Profiles the scenario that the arguments name."""
    named = {scenario.name: scenario for scenario in SCENARIOS if not scenario.once}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenario", nargs="?", default="unary", choices=list(named))
    scenario = named[parser.parse_args(arguments).scenario]
    if not SPY.exists():
        print("py-spy is not installed; run benchmarks/setup.sh", file=sys.stderr)
        return 1
    prepare_process()
    RAW.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="autoglm-spy-") as folder:
        text = profile(scenario, Path(folder))
    print("   own  whole  function")
    print("\n".join(folded.parse(text, WAITING).lines(FUNCTIONS_SHOWN)))
    return 0


def profile(scenario: Scenario, folder: Path) -> str:
    """Runs the scenario on our server under py-spy; returns its folded stacks.

    Raises:
        RuntimeError: the server did not start.
    """
    target = next(target for target in TARGETS if target.name == OURS)
    port, admin_port = free_ports(2)
    settings = Settings(unary_s=WINDOW_S, single_s=WINDOW_S, long_s=WINDOW_S, stream_s=WINDOW_S)
    with upstreams(folder) as found:
        place = Place(port, admin_port, found.ports(scenario.upstream), folder)
        with Child(command(target, place), GATEWAY_CORE, folder / "output.log", env=target.env, folder=folder) as child:
            why = probe.wait_first_answer(
                port, request_body(), time.monotonic() + settings.start_s, lambda: child.exit_code() is None
            )
            if why:
                raise RuntimeError(f"the server did not start: {why}; {child.log_tail()}")
            stacks = folder / "stacks.txt"
            with Child(_spy(child.pid, stacks), LOAD_CORE, folder / "spy.log") as spy:
                figures = scenario.run(Subject(port, child.pid, folder, target.slow), settings)
                spy.wait(WINDOW_S)
    print(", ".join(f"{name} {value:.6g}" for name, value in figures.items()))
    (RAW / f"stacks-{scenario.name}.txt").write_text(stacks.read_text())
    return stacks.read_text()


def _spy(pid: int, output: Path) -> list[str]:
    rate = ["--rate", "250", "--duration", str(WINDOW_S)]
    return [str(SPY), "record", "--pid", str(pid), "--format", "raw", "--function", *rate, "--output", str(output)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
