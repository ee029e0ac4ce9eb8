"""Runs the measurements of this folder, keeps their results, and writes them into docs/reliability.md.

Usage: `python -m benchmarks.reliability.run [NAME …]`; without names all of them, about two and a half hours, most of
it waiting: `hour` and `soak` run as long as they say. With `--page` nothing is measured and the page is written from
the results that are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.reliability.page import RESULTS, write_page
from benchmarks.rig.machine import commit, describe

COMMANDS: dict[str, tuple[str, ...]] = {
    "outages": ("outages", "--long"),
    "overload": ("overload",),
    "hostile": ("hostile",),
    "lifecycle": ("lifecycle",),
    "hour": ("hour",),
    "soak": ("soak",),
}
"""What is run for each name, as words after `python -m benchmarks.reliability.`."""
_LIMIT_S = 2 * 3600


def run(name: str) -> None:
    """Run one measurement and keep what it prints.

    Raises:
        CalledProcessError: it failed.
    """
    module, *words = COMMANDS[name]
    argv = [sys.executable, "-m", f"benchmarks.reliability.{module}", *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=_LIMIT_S, text=True)
    keep(name, json.loads(done.stdout))


def keep(name: str, result: Any) -> None:
    """Keep a result with the machine and the commit that it belongs to."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {"command": " ".join(("python -m", "benchmarks.reliability." + " ".join(COMMANDS[name])))}
    kept |= {"machine": describe(), **commit(), "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what is asked for; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--take", nargs=2, metavar=("NAME", "FILE"), help="keep a result that was printed into a file")
    chosen = parser.parse_args()
    if chosen.take:
        name, file = chosen.take
        with open(file, encoding="utf-8") as printed:
            keep(name, json.load(printed))
    elif not chosen.page:
        for name in chosen.names or COMMANDS:
            run(name)
    write_page()


if __name__ == "__main__":
    main()
