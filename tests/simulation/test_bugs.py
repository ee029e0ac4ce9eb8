"""Bugs that were planted on purpose, each kept as a patch: the simulation must catch every one, and by its promise.

A patch that no longer applies is refreshed as `bugs/README.md` says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from open_autoglm.testing.checker import PROMISES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATCHES = sorted((HERE / "bugs").glob("*.patch"))


def head_of(patch: Path) -> dict[str, str]:
    """The lines before the patch itself, as `Promise: right_text`."""
    head = patch.read_text(encoding="utf-8").partition("\n\n")[0]
    return dict(line.split(": ", 1) for line in head.splitlines())


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    head = head_of(patch)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    subprocess.run(
        ["git", "apply", "-C1", str(patch)],
        cwd=tmp_path,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        check=True,
    )
    scenario = ["--scenario", str(HERE / "scenarios" / head["Scenario"])] if "Scenario" in head else []
    ran = subprocess.run(
        [sys.executable, "-m", "open_autoglm.testing.simulation", "--seeds", head["Seeds"], "--first", *scenario],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "PYTHONHASHSEED": "0"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ran.returncode == 1, f"not caught: {head['Bug']}\n{ran.stdout}{ran.stderr}"
    assert f"  {head['Promise']} " in ran.stdout, f"caught by another promise than {head['Promise']}:\n{ran.stdout}"


def test_there_are_bugs_for_many_promises() -> None:
    promises = {head_of(patch)["Promise"] for patch in PATCHES}
    assert len(PATCHES) >= 10
    assert promises <= {*PROMISES, "expected"}
    assert len(promises) >= 10
