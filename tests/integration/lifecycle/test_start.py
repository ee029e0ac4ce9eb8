"""Starting where something is in the way: a taken port, a folder that cannot be written, what a killed server left."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.running import ROOT, RunningServer, model
from tests.integration.upstreams import Upstream

from open_autoglm.config.schema import DrainSettings

UNIT = ROOT / "deploy" / "open-autoglm.service"
END_S = 20.0


def failing(folder: Path, server: dict[str, object], config: str = "") -> tuple[int, str]:
    """Start a server that cannot start; return its exit code and what it says."""
    path = folder / "config.json"
    running = RunningServer(folder, {"server": server})
    if config:
        path.write_text(config)
    ended = subprocess.run(
        [sys.executable, "-m", "mcp_server", "--config", str(running.path)],
        env={"PYTHONPATH": str(ROOT / "src")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def test_a_taken_port_is_told_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("port", "admin_port"):
            code, said = failing(tmp_path, {option: port})
            assert code == 1
            assert f"127.0.0.1:{port} is taken by " in said
            assert f"--{option.replace('_', '-')}" in said


def test_a_second_instance_is_told_who_is_there(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with RunningServer(tmp_path, {"models": [model("chat", upstream.station().url)]}) as server:
        code, said = failing(tmp_path / "second", {"port": int(server.url.rpartition(":")[2])})
        assert code == 1
        assert f"pid {server.process.pid}" in said
        assert server.chat().status_code == 200


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    code, said = failing(tmp_path, {"data_dir": "/proc/autoglm", "admin_key": None})
    assert code == 1
    assert "'/proc/autoglm/admin.key'" in said
    assert "server.data_dir" in said


def test_a_wrong_configuration_has_a_code_of_its_own(tmp_path: Path) -> None:
    code, said = failing(tmp_path, {}, "server: {port: eighty}\n")
    assert code == 78
    assert "line 1" in said


def test_what_a_killed_server_leaves_is_in_nobodys_way(upstream: Upstream, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = {"models": [model("chat", upstream.station().url)], "server": {"port": port, "admin_key": None}}
    keys = set()
    for _ in range(3):
        with RunningServer(tmp_path, config) as server:
            assert server.chat().status_code == 200
            keys.add((tmp_path / "data" / "admin.key").read_text())
            server.process.kill()
            server.process.wait(END_S)
    assert len(keys) == 1


class TestUnitFile:
    def settings(self) -> dict[str, str]:
        lines = UNIT.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def test_it_waits_longer_than_streams_may_last(self) -> None:
        settings = self.settings()
        assert int(settings["TimeoutStopSec"]) > DrainSettings().stream_s
        assert (settings["Type"], settings["NotifyAccess"]) == ("notify", "main")
        assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
        assert "78" in settings["RestartPreventExitStatus"].split()

    def test_it_gives_no_more_rights_than_needed(self) -> None:
        settings = self.settings()
        assert settings["NoNewPrivileges"] == "yes"
        assert settings["ProtectSystem"] == "strict"
        assert settings["StateDirectory"] == "open-autoglm"
        assert settings["CapabilityBoundingSet"] == ""
        assert settings["User"] != "root"

    def test_systemd_understands_it(self, tmp_path: Path) -> None:
        analyze = shutil.which("systemd-analyze")
        unit = tmp_path / UNIT.name
        # It insists on a program that is there.
        unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/open-autoglm/bin/autoglm", "/bin/true"))
        if analyze is None:
            assert set(self.settings()) >= {"ExecStart", "WantedBy", "User"}
            return
        verified = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
