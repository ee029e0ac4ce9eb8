"""What the figures were measured on: machine, commit and versions, kept with every result."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.rig.targets import ROOT


def describe() -> dict[str, Any]:
    """Processor, cores, memory in bytes, kernel, system, Python and the load averages of this moment."""
    return {
        "processor": parse_field(Path("/proc/cpuinfo").read_text(), "model name"),
        "cores": os.cpu_count(),
        "memory_bytes": int(parse_field(Path("/proc/meminfo").read_text(), "MemTotal").split()[0] or 0) * 1024,
        "kernel": platform.release(),
        "system": _system_name(),
        "python": platform.python_version(),
        "load_averages": list(os.getloadavg()),
    }


def parse_field(text: str, name: str) -> str:
    """The value of the first `name: value` line of a `/proc` file, or `"0"`."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def commit() -> dict[str, Any]:
    """The checked-out commit, and whether the package's sources differ from it; empty outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "benchmarks/rig", "benchmarks/targets")
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "changed": False}
    return {"commit": head, "changed": bool(changed)}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
