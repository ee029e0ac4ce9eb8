"""How busy this machine is: processors and memory, as Linux tells it; where it does not, nothing is known.

Within a control group with a limit of memory, that limit counts.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class MachineLoad(NamedTuple):
    """Shares from 0.0 to 1.0, and bytes."""

    cpu: float
    memory_free: float
    memory_free_bytes: int


class Machine:
    """Reads the figures; processors in use are those since the reading before.

    Args:
        root: where the files of `/` are found.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat = root / "proc/stat"
        self._meminfo = root / "proc/meminfo"
        self._group = root / "sys/fs/cgroup"
        self._busy = self._total = 0
        self._cpu = 0.0

    def read(self) -> MachineLoad:
        """Return what is known now."""
        with suppress(OSError, ValueError, LookupError):
            self._read_cpu()
        total, free = 0, 0
        with suppress(OSError, ValueError, LookupError):
            total, free = self._memory()
        return MachineLoad(self._cpu, free / total if total else 1.0, free)

    def _read_cpu(self) -> None:
        # user nice system idle iowait irq softirq steal …, in ticks since the start of the system.
        ticks = [int(each) for each in self._stat.read_text().splitlines()[0].split()[1:9]]
        total = sum(ticks)
        busy = total - ticks[3] - ticks[4]
        if total > self._total:
            self._cpu = min(max((busy - self._busy) / (total - self._total), 0.0), 1.0)
        self._busy, self._total = busy, total

    def _memory(self) -> tuple[int, int]:
        lines = dict(line.split(":", 1) for line in self._meminfo.read_text().splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        with suppress(OSError, ValueError):
            most = int((self._group / "memory.max").read_text())
            used = int((self._group / "memory.current").read_text())
            if most < total:
                total, free = most, min(free, max(most - used, 0))
        return total, free
