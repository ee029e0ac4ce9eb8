"""The admin listener is found where the table in `cli.admin` says."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest
from tests.unit.cli.terminals import piped

from open_autoglm.cli.admin import Admin, add_admin_options, find_admin
from open_autoglm.cli.failure import CommandFailed
from open_autoglm.errors import ConfigError


def typed(*words: str) -> Namespace:
    parser = ArgumentParser()
    add_admin_options(parser)
    return parser.parse_args(list(words))


def found(admin: Admin) -> tuple[str, str | None]:
    key = admin.target.key
    return str(admin.target.address), key.reveal() if key is not None else None


def configured(folder: Path, **server: object) -> str:
    path = folder / "config.yaml"
    lines = "".join(f"  {name}: {value}\n" for name, value in server.items())
    path.write_text(f"server:\n{lines}")
    path.chmod(0o600)
    return str(path)


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(find_admin(typed(), piped())) == ("http://127.0.0.1:8081", None)


def test_the_kept_key_of_the_data_folder_is_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "admin.key").write_text("kept\n")
    (data / "admin.key").chmod(0o600)
    config = configured(tmp_path, admin_port=9001, data_dir=data)
    assert found(find_admin(typed("--config", config), piped())) == ("http://127.0.0.1:9001", "kept")


def test_the_configured_key_goes_before_the_kept_one(tmp_path: Path) -> None:
    config = configured(tmp_path, admin_key="configured", data_dir=tmp_path)
    assert found(find_admin(typed("--config", config), piped()))[1] == "configured"


def test_the_environment_goes_before_the_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path, admin_key="configured", admin_port=9001)
    terminal = piped(MCP_ADMIN_URL="http://h:1", MCP_ADMIN_KEY="environment")
    assert found(find_admin(typed("--config", config), terminal)) == ("http://h:1", "environment")


def test_what_is_typed_goes_before_all(tmp_path: Path) -> None:
    key = tmp_path / "k"
    key.write_text("typed")
    key.chmod(0o600)
    terminal = piped(MCP_ADMIN_URL="http://h:1", MCP_ADMIN_KEY="environment")
    arguments = typed("--server", "http://other:2", "--admin-key", f"file:{key}")
    assert found(find_admin(arguments, terminal)) == ("http://other:2", "typed")
    arguments = typed("--server", "http://other:2", "--key-file", str(key))
    assert found(find_admin(arguments, terminal)) == ("http://other:2", "typed")
    with pytest.raises(SystemExit):
        typed("--key-file", str(key), "--admin-key", f"file:{key}")


@pytest.mark.parametrize(("bound", "called"), [("0.0.0.0", "127.0.0.1"), ('"::"', "[::1]"), ("10.0.0.7", "10.0.0.7")])
def test_an_address_for_every_network_is_called_on_loopback(tmp_path: Path, bound: str, called: str) -> None:
    config = configured(tmp_path, admin_host=bound)
    assert found(find_admin(typed("--config", config), piped()))[0] == f"http://{called}:8081"


def test_a_wrong_configuration_is_told_as_such(tmp_path: Path) -> None:
    config = configured(tmp_path, admin_port="high")
    with pytest.raises(ConfigError):
        find_admin(typed("--config", config), piped())


def test_a_key_as_an_argument_is_refused() -> None:
    with pytest.raises(CommandFailed, match="MCP_ADMIN_KEY"):
        find_admin(typed("--admin-key", "secret"), piped())
