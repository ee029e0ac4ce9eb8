"""The demo's configuration and its port."""

import socket
from pathlib import Path

from open_autoglm.cli.commands.demo import configuration, default_first, free_port_or, program
from open_autoglm.config import parse_config
from open_autoglm.ids import new_key
from open_autoglm.secret import Secret


def test_the_configuration_is_one(tmp_path: Path) -> None:
    key = Secret(new_key())
    text = configuration(["glm-nano", "glm-calc-s"], key, str(tmp_path))
    loaded = parse_config(text, source="built in", environ={}, trusted=True)
    config = loaded.config
    assert loaded.warnings == []
    assert [(model.name, model.endpoint, model.dialect) for model in config.models] == [
        ("glm-nano", "embedded:glm-nano", "embedded"),
        ("glm-calc-s", "embedded:glm-calc-s", "embedded"),
    ]
    assert config.auth.enabled
    assert [entry.key for entry in config.auth.keys] == [key]
    assert config.server.host == "127.0.0.1"
    assert Path(config.server.data_dir) == tmp_path
    assert config.logging.file is not None


def test_the_default_model_comes_first() -> None:
    assert default_first(["b", "glm-nano", "a"], "glm-nano") == ["glm-nano", "a", "b"]


def test_a_taken_port_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert free_port_or(port, 0) == 0
    assert free_port_or(port, 0) == port


def test_the_program_can_be_typed() -> None:
    assert program() == "autoglm" or program().endswith("-m mcp_server")
