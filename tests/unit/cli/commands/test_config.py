"""Checking and comparing files, without a server."""

import json
from pathlib import Path

import pytest
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text("models: [{name: chat, endpoint: 'http://127.0.0.1:9/v1', weight: 1}]\nauth: {api_key: hush}\n")
    path.chmod(0o600)
    return path


def test_a_right_file(file: Path) -> None:
    terminal = piped()
    assert run(["config", "check", str(file)], terminal) == 0
    assert out(terminal) == f"{file}: ok, 1 endpoint\n"


def test_a_right_file_in_json(file: Path) -> None:
    terminal = piped()
    assert run(["config", "check", "--json", str(file)], terminal) == 0
    assert json.loads(out(terminal)) == {"file": str(file), "ok": True, "problems": [], "warnings": []}


def test_a_wrong_file_in_json_is_78_too(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text("models:\n  - {name: chat}\n")
    terminal = piped()
    assert run(["config", "check", "--json", str(path)], terminal) == 78
    told = json.loads(out(terminal))
    assert not told["ok"]
    assert [(p["path"], p["line"]) for p in told["problems"]] == [("models[0].endpoint", 2)]
    assert err(terminal) == ""


def test_a_public_address_without_authentication(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("server: {host: 0.0.0.0}\n")
    assert run(["config", "check", str(path)], piped()) == 78
    assert run(["config", "check", "--insecure", str(path)], piped()) == 0


def test_diff_shows_what_changes_and_no_secret(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.yaml"
    other.write_text(file.read_text().replace("weight: 1", "weight: 3").replace("hush", "quiet"))
    terminal = piped()
    assert run(["config", "diff", str(file), str(other)], terminal) == 0
    shown = out(terminal)
    assert "models[chat].weight" in shown
    assert "***" in shown
    assert "hush" not in shown
    assert "quiet" not in shown


def test_diff_of_the_same(file: Path) -> None:
    terminal = piped()
    assert run(["config", "diff", str(file), str(file)], terminal) == 0
    assert out(terminal) == "no difference\n"


def test_an_action_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"], piped()) == 2
    assert "ACTION" in capsys.readouterr().err
