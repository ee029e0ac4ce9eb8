"""The doctor's report."""

import json
import socket
from pathlib import Path

from tests.unit.cli.terminals import out, piped

from open_autoglm.cli.commands.doctor import print_findings
from open_autoglm.cli.doctor.finding import fail, ok, warn
from open_autoglm.cli.main import run


def test_each_finding_says_what_to_do() -> None:
    terminal = piped()
    print_findings([ok("a", "fine"), warn("b", "so so", "look"), fail("c", "broken", "mend it")], terminal)
    assert out(terminal).splitlines() == [
        "ok    a: fine",
        "warn  b: so so",
        "      -> look",
        "fail  c: broken",
        "      -> mend it",
        "",
        "1 ok, 1 to look at, 1 to mend",
    ]


def test_a_wrong_configuration_is_a_failure_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("modles: []\n")
    terminal = piped()
    assert run(["doctor", "--config", str(path), "--json"], terminal) == 1
    told = json.loads(out(terminal))
    assert not told["ok"]
    [wrong] = [each for each in told["findings"] if each["state"] == "fail"]
    assert "line 1" in wrong["message"]
    assert "`models`" in wrong["message"]


def test_an_endpoint_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"server: {{port: 0, admin_port: 0, data_dir: {tmp_path / 'data'}}}\n"
        "models: [{name: chat, endpoint: 'http://127.0.0.1:1/v1'}, {name: own, endpoint: 'embedded:glm-nano'}]\n"
    )
    terminal = piped()
    assert run(["doctor", "--config", str(path), "--json"], terminal) == 1
    findings = json.loads(out(terminal))["findings"]
    states = {each["topic"]: (each["state"], each["message"]) for each in findings if each["topic"].startswith("model")}
    assert states["model chat at http://127.0.0.1:1/v1"] == ("fail", "nothing listens there")
    assert states["model own"][0] == "ok"
    assert not (tmp_path / "data").exists()


def test_a_cluster_brings_models_and_has_a_port(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"127.0.0.1:{listener.getsockname()[1]}"
        path.touch(mode=0o600)
        path.write_text(
            f"server: {{port: 0, admin_port: 0, grpc_port: 0, data_dir: {tmp_path / 'data'}}}\n"
            f"cluster: {{secret: sixteen-characters, bind: '{bind}'}}\n"
        )
        terminal = piped()
        run(["doctor", "--config", str(path), "--json"], terminal)
    findings = {each["topic"]: each for each in json.loads(out(terminal))["findings"]}
    assert findings["configuration"]["state"] == "ok"
    assert "cluster's nodes" in findings["configuration"]["message"]
    assert findings["server.grpc_port"]["state"] == "ok"
    assert findings[f"port {bind.rpartition(':')[2]}"]["state"] != "ok"
