"""Keys come from files of their owner and from the environment, never from the arguments."""

from pathlib import Path

import pytest
from tests.unit.cli.terminals import piped

from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed
from open_autoglm.cli.keys import key_from, key_path, read_key


def key_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "a.key"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file_goes_before_the_environment(tmp_path: Path) -> None:
    path = key_file(tmp_path, "from-file\n")
    terminal = piped(MCP_API_KEY=" from-environment ")
    assert key_from(terminal, "MCP_API_KEY", path).reveal() == "from-file"  # type: ignore[union-attr]
    assert key_from(terminal, "MCP_API_KEY", None).reveal() == "from-environment"  # type: ignore[union-attr]
    assert key_from(piped(), "MCP_API_KEY", None) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(CommandFailed, match="chmod 600"):
        read_key(key_file(tmp_path, "k", mode))


@pytest.mark.parametrize("text", ["", "\n", "two words\nlines", "schlüssel"])
def test_a_file_without_a_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        read_key(key_file(tmp_path, text))
    assert not text.strip() or text.strip() not in failed.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"none\.key"):
        read_key(str(tmp_path / "none.key"))


def test_an_environment_variable_that_is_no_key_is_refused() -> None:
    with pytest.raises(CommandFailed, match="MCP_API_KEY"):
        key_from(piped(MCP_API_KEY="a\x00b"), "MCP_API_KEY", None)


def test_a_key_typed_as_an_argument_is_refused_without_repeating_it() -> None:
    with pytest.raises(CommandFailed) as failed:
        key_path("mcp_secret")
    assert failed.value.exit_code == WRONG_USAGE
    assert "mcp_secret" not in failed.value.message
    assert key_path("file:a.key") == "a.key"
