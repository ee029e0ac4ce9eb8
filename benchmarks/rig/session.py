"""One benchmark session: upstreams up, every target started, asked and stopped, round after round.

Invariant: at any moment at most one gateway runs, alone on its core; upstreams, load and this process share the other
core. Within a round all targets take their turn, so a slow drift of the machine meets all of them.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.rig import probe
from benchmarks.rig.payload import request_body
from benchmarks.rig.process import Child, free_ports
from benchmarks.rig.scenarios import GATEWAY_CORE, LOAD_CORE, Figures, Scenario, Settings, Subject, WrongAnswer
from benchmarks.rig.targets import DIRECT, ROOT, Place, Target, command, write_config

UPSTREAM_START_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario on one target in one round: its figures, or why there are none."""

    round: int
    target: str
    scenario: str
    figures: Figures
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The two ports of each kind of upstream."""

    unary: tuple[int, int]
    stream: tuple[int, int]

    def ports(self, kind: str) -> tuple[int, int]:
        """The ports of `kind`, `"unary"` or `"stream"`."""
        return self.unary if kind == "unary" else self.stream


def prepare_process() -> None:
    """Puts this process on the load core and raises its limit of open files as far as it may."""
    os.sched_setaffinity(0, {LOAD_CORE})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def upstreams(folder: Path) -> Iterator[Upstreams]:
    """Both upstreams, running on the load core.

    Raises:
        RuntimeError: one of them did not start.
    """
    ports = free_ports(4)
    found = Upstreams((ports[0], ports[1]), (ports[2], ports[3]))
    config = write_config("upstream-nginx.conf", Place(0, 0, found.unary, folder))
    nginx = ["/usr/sbin/nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]
    streaming = [sys.executable, "-m", "benchmarks.rig.stream_upstream", *map(str, found.stream)]
    with (
        Child(nginx, LOAD_CORE, folder / "upstream-nginx.log") as unary,
        Child(streaming, LOAD_CORE, folder / "upstream-stream.log", folder=ROOT) as stream,
    ):
        for child, port in ((unary, found.unary[0]), (stream, found.stream[0])):
            if why := _first_answer(child, port, UPSTREAM_START_S):
                raise RuntimeError(f"an upstream did not start: {why}; {child.log_tail()}")
        yield found


def _first_answer(child: Child, port: int, wait_s: float) -> str:
    return probe.wait_first_answer(port, request_body(), time.monotonic() + wait_s, lambda: child.exit_code() is None)


class Session:
    """Runs scenarios on targets and collects the runs; `tell` is called with a line about each."""

    def __init__(self, settings: Settings, found: Upstreams, folder: Path, tell: Callable[[str], None]) -> None:
        self.settings = settings
        self.found = found
        self.folder = folder
        self.tell = tell
        self.runs: list[Run] = []
        self.boots = 0

    def measure(self, targets: list[Target], scenarios: list[Scenario]) -> list[Run]:
        """All rounds. The target without a gateway goes first in each; the others change places from round to round."""
        for number in range(self.settings.rounds):
            first = [target for target in targets if target.name == DIRECT]
            others = [target for target in targets if target.name != DIRECT]
            turn = number % max(1, len(others))
            for target in first + others[turn:] + others[:turn]:
                self._take_turn(number, target, scenarios)
        return self.runs

    def _take_turn(self, number: int, target: Target, scenarios: list[Scenario]) -> None:
        due = [scenario for scenario in scenarios if not scenario.once or number == 0]
        for kind in ("unary", "stream"):
            together = [scenario for scenario in due if scenario.upstream == kind and not scenario.once]
            if together and not self._boot(number, target, kind, together):
                return
        for scenario in due:
            if (
                scenario.once
                and target.name != DIRECT
                and not self._boot(number, target, scenario.upstream, [scenario])
            ):
                return

    def _boot(self, number: int, target: Target, kind: str, scenarios: list[Scenario]) -> bool:
        """Starts the target afresh, runs the scenarios on it, stops it; false when it did not start."""
        self.boots += 1
        folder = self.folder / f"{self.boots:03d}-{target.name}"
        folder.mkdir()
        ports = self.found.ports(kind)
        if target.name == DIRECT:
            self._run_all(number, target, scenarios, Subject(ports[0], None, folder, target.slow))
            return True
        port, admin_port = free_ports(2)
        try:
            argv = command(target, Place(port, admin_port, ports, folder))
        except FileNotFoundError as error:
            self._keep(Run(number, target.name, "start", {}, str(error)))
            return False
        began_s = time.monotonic()
        with Child(argv, GATEWAY_CORE, folder / "output.log", env=target.env, folder=folder) as child:
            why = _first_answer(child, port, self.settings.start_s)
            if why:
                tail = child.log_tail().replace(str(ROOT), ".")
                self._keep(Run(number, target.name, "start", {}, f"did not start: {why}; {tail}"))
                return False
            self._keep(Run(number, target.name, "start", {"first_answer_s": time.monotonic() - began_s}))
            self._run_all(number, target, scenarios, Subject(port, child.pid, folder, target.slow))
        return True

    def _run_all(self, number: int, target: Target, scenarios: list[Scenario], subject: Subject) -> None:
        for scenario in scenarios:
            try:
                run = Run(number, target.name, scenario.name, scenario.run(subject, self.settings))
            except (WrongAnswer, OSError, ValueError) as error:
                run = Run(number, target.name, scenario.name, {}, str(error) or repr(error))
            self._keep(run)

    def _keep(self, run: Run) -> None:
        self.runs.append(run)
        self.tell(line_of(run))


_SHOWN: Final = {
    "first_answer_s": ("first answer", 1e3, "ms"),
    "cpu_per_request_s": ("CPU", 1e6, "us/request"),
    "cpu_per_chunk_s": ("CPU", 1e6, "us/chunk"),
    "requests_per_second": ("", 1, "requests/s"),
    "p50_s": ("p50", 1e3, "ms"),
    "p99_s": ("p99", 1e3, "ms"),
    "first_p50_s": ("first chunk", 1e3, "ms"),
    "bytes_per_connection": ("", 1, "bytes/connection"),
    "resident_bytes": ("", 1e-6, "MB"),
}


def line_of(run: Run) -> str:
    """One line about a run, for the terminal."""
    head = f"round {run.round + 1}  {run.target:<14} {run.scenario:<12}"
    if run.wrong:
        return f"{head} WRONG: {run.wrong}"
    parts = [
        f"{label} {run.figures[name] * scale:,.1f} {unit}".strip()
        for name, (label, scale, unit) in _SHOWN.items()
        if name in run.figures
    ]
    return f"{head} {'  '.join(parts)}"
