"""The unary load: wrk with one thread and a fixed number of keep-alive connections, every request the same POST.

wrk asks again as soon as it has its answer (a closed loop), so its latencies are those of a full gateway, not of a
given rate.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.rig.payload import KEY, PATH

_SCRIPT: Final = Path(__file__).with_name("post.lua")
ANSWER_TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What one wrk run saw. Latencies in seconds; `fault` is empty when every answer was a 2xx and no socket failed."""

    requests: int
    duration_s: float
    p50_s: float
    p99_s: float
    fault: str


def parse_output(text: str) -> Load:
    """Reads the JSON line that `post.lua` prints at the end of wrk's output.

    Raises:
        ValueError: there is no such line.
    """
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError(f"wrk printed no summary: {text.strip()[-200:]!r}")
    seen = json.loads(lines[-1])
    kinds = ("status", "connect", "read", "write", "timeout")
    faults = [f"{seen[kind]} {kind} errors" for kind in kinds if seen[kind]]
    if not seen["requests"]:
        faults.append("no answer at all")
    return Load(
        requests=seen["requests"],
        duration_s=seen["duration_us"] / 1e6,
        p50_s=seen["p50_us"] / 1e6,
        p99_s=seen["p99_us"] / 1e6,
        fault=", ".join(faults),
    )


def run(port: int, body_file: Path, *, connections: int, duration_s: float, core: int) -> Load:
    """Runs wrk against 127.0.0.1:`port` from `core`.

    Raises:
        ValueError: wrk did not run to its end.
    """
    # wrk takes whole seconds only.
    seconds = max(1, round(duration_s))
    argv = [
        "taskset",
        "-c",
        str(core),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        f"--timeout={ANSWER_TIMEOUT_S}s",
    ]
    argv += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}{PATH}", "--", str(body_file), KEY, PATH]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + ANSWER_TIMEOUT_S + 10, check=False)
    return parse_output(done.stdout or done.stderr)
