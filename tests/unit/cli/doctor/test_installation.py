"""The compatibility table: against versions, and against what the package asks for."""

import re
import tomllib
from pathlib import Path

import pytest

from open_autoglm.cli.doctor.installation import (
    COMPATIBILITY,
    PYTHON_MIN,
    PYTHON_TESTED_MAX,
    Library,
    Version,
    check_installation,
    check_library,
    check_python,
    dotted,
    parsed,
)

ROOT = Path(__file__).parents[4]
LIBRARY = Library("thing", (1, 4), (2, 3))


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.0.1", (2, 0, 1)), ("2.0.1rc1", (2, 0, 1)), ("1!2", (1,)), ("", ()), ("x", ()), ("0.21.0.post1", (0, 21, 0))],
)
def test_versions_are_read(text: str, version: Version) -> None:
    assert parsed(text) == version


@pytest.mark.parametrize(
    ("version", "implementation", "state"),
    [
        ((3, 10, 9), "cpython", "fail"),
        ((3, 11, 0), "cpython", "ok"),
        ((*PYTHON_TESTED_MAX, 5), "cpython", "ok"),
        ((3, 99, 0), "cpython", "warn"),
        ((3, 11, 0), "pypy", "warn"),
    ],
)
def test_python(version: Version, implementation: str, state: str) -> None:
    finding = check_python(version, implementation)
    assert finding.state == state
    assert bool(finding.advice) == (state != "ok")


@pytest.mark.parametrize(
    ("installed", "state"),
    [(None, "fail"), ("1.3.9", "fail"), ("1.4", "ok"), ("2.3.8", "ok"), ("2.4.0", "warn"), ("3.0", "warn")],
)
def test_library(installed: str | None, state: str) -> None:
    finding = check_library(LIBRARY, lambda name: installed)
    assert finding.state == state
    assert bool(finding.advice) == (state != "ok")


def test_a_library_that_may_be_missing() -> None:
    finding = check_library(Library("fast", (1,), (1,), "it is slower"), lambda name: None)
    assert (finding.state, finding.advice) == ("warn", "pip install fast")
    assert "it is slower" in finding.message


def test_this_environment_is_well() -> None:
    assert [finding for finding in check_installation() if finding.state == "fail"] == []


def test_the_table_asks_for_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(project["dependencies"]), re.MULTILINE))
    assert {library.name: dotted(library.minimum) for library in COMPATIBILITY}.items() <= asked.items()
    assert project["requires-python"] == f">={dotted(PYTHON_MIN)}"
    classified = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    assert classified == {f"3.{minor}" for minor in range(PYTHON_MIN[1], PYTHON_TESTED_MAX[1] + 1)}


def test_the_table_knows_what_the_tests_run_with() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements" / "core.txt").read_text(), re.MULTILINE))
    for library in COMPATIBILITY:
        assert parsed(locked[library.name])[: len(library.tested)] == library.tested, library.name
