"""CPU time and memory of a process tree, read from `/proc`.

Invariant: the CPU time of a tree never falls while the tree lives, because children that ended are counted through
the parent that waited for them. Resolution is one clock tick (10 ms on Linux) per process, so windows should hold
half a second of CPU or more. Source: proc(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """One process: its parent, and its CPU ticks including those of children that ended and were waited for."""

    pid: int
    parent_pid: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a tree in bytes: resident (shared pages once per process), proportional, and anonymous (its own)."""

    resident_bytes: int
    proportional_bytes: int
    anonymous_bytes: int


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """One core's ticks since boot: spent on anything (`busy`), and taken by the hypervisor (`stolen`)."""

    busy_ticks: int
    stolen_ticks: int


def parse_stat(text: str) -> ProcessTimes:
    """Reads one `/proc/PID/stat`. The name may hold spaces and brackets, so fields are counted from the last bracket.

    Raises:
        ValueError: the text is not a stat line.
    """
    opened, closed = text.find("("), text.rfind(")")
    fields = text[closed + 1 :].split()
    if opened < 0 or closed < opened or len(fields) < 15:
        raise ValueError(f"not a /proc/PID/stat line: {text[:60]!r}")
    return ProcessTimes(int(text[:opened]), int(fields[1]), sum(int(field) for field in fields[11:15]))


def tree(processes: dict[int, ProcessTimes], root_pid: int) -> list[ProcessTimes]:
    """The root and all its descendants among `processes`; empty when the root is not there."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent_pid, []).append(process.pid)
    found: list[ProcessTimes] = []
    waiting = [root_pid]
    while waiting:
        pid = waiting.pop()
        if pid in processes:
            found.append(processes[pid])
            waiting.extend(children.get(pid, ()))
    return found


def read_processes() -> dict[int, ProcessTimes]:
    """All processes of this machine; those that end while it reads are left out."""
    processes = {}
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            try:
                process = parse_stat((_PROC / entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            processes[process.pid] = process
    return processes


def cpu_seconds(root_pid: int) -> float:
    """CPU seconds, user and system, that the tree under `root_pid` has used since it began: all threads, all children.

    Raises:
        ProcessLookupError: there is no such process.
    """
    found = tree(read_processes(), root_pid)
    if not found:
        raise ProcessLookupError(f"process {root_pid} is gone; look into the target's log")
    return sum(process.ticks for process in found) / TICKS_PER_SECOND


def parse_rollup(text: str) -> Memory:
    """Reads one `/proc/PID/smaps_rollup`; its figures are in KiB."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB":
            sizes[name] = int(fields[0]) * 1024
    return Memory(sizes.get("Rss", 0), sizes.get("Pss", 0), sizes.get("Anonymous", 0))


def memory(root_pid: int) -> Memory:
    """The summed memory of the tree under `root_pid`."""
    parts = []
    for process in tree(read_processes(), root_pid):
        try:
            parts.append(parse_rollup((_PROC / str(process.pid) / "smaps_rollup").read_text()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Memory(
        sum(part.resident_bytes for part in parts),
        sum(part.proportional_bytes for part in parts),
        sum(part.anonymous_bytes for part in parts),
    )


def parse_core_times(text: str, core: int) -> CoreTimes:
    """Reads one core's line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, ...

    Raises:
        ValueError: there is no such core.
    """
    for line in text.splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            ticks = [int(field) for field in fields]
            return CoreTimes(ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6], ticks[7])
    raise ValueError(f"/proc/stat has no core {core}")


def core_times(core: int) -> CoreTimes:
    """The ticks of `core` since boot."""
    return parse_core_times((_PROC / "stat").read_text(), core)
