"""The page on the test kit: its program runs, its scenario is read, and it names every promise with what is checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from open_autoglm.testing.checker import PROMISES
from open_autoglm.testing.scenario import read_scenario

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/testing-kit.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_program_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", block("python")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert ran.stdout.endswith("[DONE] after 60.0 s\n")


def test_the_scenario_is_one_of_ours() -> None:
    kept = (ROOT / "tests/simulation/scenarios/freeze.yaml").read_text(encoding="utf-8")
    assert read_scenario(block("text")) == read_scenario(kept)


def test_every_promise_is_named() -> None:
    assert re.findall(r"^\| `(\w+)` \| \w.* \|$", PAGE.partition("## Promises")[2], re.MULTILINE) == list(PROMISES)
