"""What is typed becomes a command; what goes wrong becomes an exit code and a line."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.command import COMMANDS, PLANNED
from open_autoglm.cli.main import run, with_command

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--config", "a.yaml"], ["serve", "--config", "a.yaml"]),
        (["--port", "0"], ["serve", "--port", "0"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        (["status"], ["status"]),
        (["status", "--json"], ["status", "--json"]),
        ([], []),
    ],
)
def test_options_without_a_command_mean_serve(typed: list[str], meant: list[str]) -> None:
    assert with_command(typed) == meant


def test_nothing_typed_shows_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], piped()) == 2
    shown = capsys.readouterr().err
    assert all(f"    {command.name} " in shown for command in COMMANDS)


def test_help_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], piped()) == 0
    assert "phone agent" in capsys.readouterr().out


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"], piped()) == 0
    assert f"usage: autoglm {name}" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest() -> None:
    terminal = piped()
    assert run(["stauts"], terminal) == 2
    assert err(terminal) == "error: no command 'stauts'; did you mean 'status'?; `autoglm --help` lists them\n"


@pytest.mark.parametrize("name", PLANNED)
def test_commands_of_later_versions_say_so(name: str) -> None:
    terminal = piped()
    assert run([name, "--whatever", "x"], terminal) == 1
    assert err(terminal).count("\n") == 1
    assert "not available in this version" in err(terminal)


def test_who_looks_for_tasks_is_told_where_task_graphs_are() -> None:
    terminal = piped()
    run(["tasks"], terminal)
    assert "`autoglm runs`" in err(terminal)


def test_wrong_options_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--prot", "1"], piped()) == 2
    assert "--prot" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http", "８０８０"])
def test_ports_are_checked(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", f"--port={port}"], piped()) == 2
    assert "0 to 65535" in capsys.readouterr().err


def test_a_wrong_configuration_is_78_with_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("server: {prot: 1, port: high}\n")
    terminal = piped()
    assert run(["config", "check", str(file)], terminal) == 78
    lines = err(terminal).splitlines()
    assert lines[0] == f"error: {file}: 2 problems"
    assert len(lines) == 3
    assert "the nearest known key is `port`" in err(terminal)
    assert "Traceback" not in err(terminal)


@pytest.mark.parametrize("position", range(4))
def test_debug_adds_the_traceback_wherever_it_stands(position: int, capsys: pytest.CaptureFixture[str]) -> None:
    terminal, words = piped(), ["config", "check", "/nowhere.yaml"]
    assert run([*words[:position], "--debug", *words[position:]], terminal) == 78
    assert "Traceback" in capsys.readouterr().err
    assert err(terminal).startswith("error: /nowhere.yaml")


class InterruptedOutput(io.StringIO):
    """Somebody presses Ctrl-C."""

    def write(self, text: str) -> int:
        raise KeyboardInterrupt


def test_ctrl_c_is_130_without_a_traceback() -> None:
    terminal = piped()
    terminal.out = InterruptedOutput()
    assert run(["keys", "new"], terminal) == 130
    assert err(terminal) == "\n"


class ClosedPipe(io.StringIO):
    """The reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    terminal = piped()
    terminal.out = ClosedPipe()
    assert run(["config", "schema"], terminal) == 1
    assert err(terminal) == ""


def test_a_defect_asks_to_be_reported() -> None:
    terminal = piped()
    terminal.out = io.StringIO()
    terminal.out.close()  # writing raises ValueError, which no command expects
    assert run(["config", "schema"], terminal) == 1
    assert "--debug" in err(terminal)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from open_autoglm.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stderr.split())
    heavy = {"asyncio", "ssl", "http.client", "msgspec", "numpy", "yaml", "uvloop", "starlette", "open_autoglm.config"}
    assert "argparse" in loaded
    assert not heavy & loaded


def test_schema_is_json() -> None:
    import json

    terminal = piped()
    assert run(["config", "schema"], terminal) == 0
    assert json.loads(out(terminal))["type"] == "object"
