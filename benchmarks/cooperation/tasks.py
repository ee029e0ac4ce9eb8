"""Writes a task set of the table as tasks for `autoglm evaluate`, so that a server can be asked what was played.

    python -m benchmarks.cooperation.tasks "subtractions and new names" > FILE

The lines are those of the held-out sets, in the order of the table; two sets that share items share their lines, so
that a log of answers (`--log`) that one of them has made serves the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from benchmarks.cooperation.table import Answers
from benchmarks.cooperation.teams import SETS, TaskSet


def lines(tasks: TaskSet, answers: Answers) -> Iterator[str]:
    """One JSON object for each item."""
    for item in tasks.items(answers):
        yield json.dumps(answers.line(item), ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    by_name = {tasks.name: tasks for tasks in SETS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=by_name, help="its name, as published")
    for line in lines(by_name[parser.parse_args().set], Answers()):
        print(line)


if __name__ == "__main__":
    main()
