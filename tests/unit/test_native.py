"""The compiled form: what a start says of it, and what its build refuses."""

import hashlib
import json
from pathlib import Path

import pytest
from native.build import MANIFEST, PACKAGE, BuildError, check_sources, clean, digest, sources

from open_autoglm.cli.doctor.installation import check_form
from open_autoglm.native import Form, current_form, form_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "one.py").write_text("a = 1\n")
    (tmp_path / "two.py").write_text("b = 2\n")
    hashes = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("one.py", "two.py")}
    (tmp_path / MANIFEST).write_text(json.dumps({"sources": hashes}))
    return tmp_path


def test_sources_alone_are_plain(tmp_path: Path) -> None:
    assert form_of(tmp_path, compiled=False) == Form("plain")


def test_what_was_compiled_from_these_sources_is_well(package: Path) -> None:
    assert form_of(package, compiled=True) == Form("compiled")


def test_a_source_that_changed_is_named(package: Path) -> None:
    (package / "two.py").write_text("b = 3\n")
    form = form_of(package, compiled=True)
    assert form.name == "compiled"
    assert form.problem.startswith("two.py changed after")
    assert "make native" in form.problem


def test_others_that_changed_are_counted(package: Path) -> None:
    for name in ("one.py", "two.py"):
        (package / name).write_text("c = 3\n")
    assert "one.py and 1 more changed" in form_of(package, compiled=True).problem


def test_what_another_python_compiled_is_told(package: Path) -> None:
    form = form_of(package, compiled=False)
    assert form.name == "plain"
    assert "not for this Python" in form.problem


def test_compiled_modules_of_unknown_sources_are_told(package: Path) -> None:
    (package / MANIFEST).unlink()
    assert f"without {MANIFEST}" in form_of(package, compiled=True).problem


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sources": 1}', '{"sources": {"gone.py": ""}}'])
def test_a_manifest_that_cannot_be_read_is_told(package: Path, text: str) -> None:
    (package / MANIFEST).write_text(text)
    assert "cannot be read" in form_of(package, compiled=True).problem


def test_the_doctor_tells_what_to_do() -> None:
    assert check_form(Form("plain")).state == "ok"
    finding = check_form(Form("compiled", "ids.py changed: run `make native` again"))
    assert (finding.state, finding.message, finding.advice) == ("warn", "ids.py changed", "run `make native` again")


def test_this_run_has_no_problem() -> None:
    assert current_form().problem == ""


def test_every_compiled_module_has_a_source_that_may_be_compiled() -> None:
    files = sources()
    assert len(set(files)) == len(files) > 30
    check_sources(ROOT / "src", files)


@pytest.mark.parametrize(
    "text",
    [
        "class A(Struct, frozen=True):\n    a: int\n",
        "@dataclass(slots=True)\nclass A:\n    a: int\n",
        "def f():\n    class A(B, metaclass=C):\n        pass\n",
    ],
)
def test_a_class_with_arguments_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.py").write_text(text)
    with pytest.raises(BuildError, match=r"one\.py:\d: A has arguments"):
        check_sources(tmp_path, ["one.py"])


def test_a_call_with_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("def f(**options):\n    g(**options)\n")
    with pytest.raises(BuildError, match=r"one\.py:2: a call with \*\*"):
        check_sources(tmp_path, ["one.py"])


def test_cleaning_leaves_the_sources(tmp_path: Path) -> None:
    folder = tmp_path / PACKAGE / "part"
    folder.mkdir(parents=True)
    for path in (folder / "one.py", folder / "one.x.so", tmp_path / f"{PACKAGE}__mypyc.x.so", tmp_path / "other.so"):
        path.touch()
    (tmp_path / PACKAGE / MANIFEST).touch()
    clean(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["one.py", "other.so"]


def test_the_manifest_and_the_start_hash_alike(package: Path) -> None:
    known = json.loads((package / MANIFEST).read_text())["sources"]
    assert {name: digest(package / name) for name in known} == known
