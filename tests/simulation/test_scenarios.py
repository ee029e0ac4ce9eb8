"""The scenario files, each under a few seeds; and that a run is decided by its seed, in this process and in another."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from open_autoglm.testing.scenario import read_scenario, written
from open_autoglm.testing.simulation import explain, simulate

FOLDER = Path(__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.yaml"))
SEEDS = range(4)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file: Path) -> None:
    scenario = read_scenario(file.read_text(encoding="utf-8"))
    outcomes = [simulate(seed, scenario) for seed in SEEDS]
    failing = [explain(outcome, str(file.relative_to(ROOT))) for outcome in outcomes if outcome.broken]
    assert not failing, "\n".join(failing)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_file_survives_being_written(file: Path) -> None:
    scenario = read_scenario(file.read_text(encoding="utf-8"))
    assert read_scenario(written(scenario)) == scenario


@pytest.mark.parametrize("seed", [5, 17])
def test_the_seed_decides_the_run(seed: int) -> None:
    shown = "\n".join(simulate(seed).log)
    assert shown == "\n".join(simulate(seed).log)
    elsewhere = subprocess.run(
        [sys.executable, "-m", "open_autoglm.testing.simulation", "--seed", str(seed), "--show"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "7"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    lines = elsewhere.splitlines()[:-1]
    assert _digest("\n".join(lines)) == _digest(shown)


def _digest(text: str) -> str:
    """Short, so that a difference does not print two whole logs."""
    return hashlib.sha256(text.encode()).hexdigest()
