"""From a file to a configuration, and what is said when that fails."""

import hashlib
import os
from pathlib import Path

import pytest

from open_autoglm.config import load_config, parse_config
from open_autoglm.config.tree import TEXT_BYTES_MAX
from open_autoglm.errors import ConfigError

MODELS = "models: [{name: a, endpoint: http://a/v1}]\n"


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {})
    assert caught.value.source == str(path)
    assert str(path) in caught.value.message
    [problem] = caught.value.problems
    return str(problem)


def test_the_result_remembers_what_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MODELS, encoding="utf-8")
    loaded = load_config(str(path), {})
    assert (loaded.text, loaded.source) == (MODELS, str(path))
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_byte_order_mark_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"server": {"port": 1}}', encoding="utf-8-sig")
    assert load_config(str(path), {}).config.server.port == 1


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("server: {port: 1}", encoding="utf-8")
    (tmp_path / "a.yaml").symlink_to("real.yaml")
    assert load_config(str(tmp_path / "a.yaml"), {}).config.server.port == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file; check the path" in refused(tmp_path / "missing.yaml")
    assert "is a folder; name the file in it" in refused(tmp_path)
    assert "not a directory" in refused(Path("/dev/null/x.yaml"))
    assert "is not a regular file" in refused(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    assert "no such file" in refused(tmp_path / "dangling.yaml")


def test_a_file_that_nobody_may_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MODELS, encoding="utf-8")
    path.chmod(0)
    assert "chmod" in refused(path)


@pytest.mark.parametrize("content", [b"", b"  \n\n", b"# only words\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert "is empty; write at least `models:`" in refused(path)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"server:\n  port: 1\n  host: \xff\xfe\n")
    assert refused(path) == "line 3: is not UTF-8 text; save it as UTF-8"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * (TEXT_BYTES_MAX + 1))
    assert "larger than 1048576 bytes" in refused(path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    """A writer that was caught in the middle of its work."""
    path = tmp_path / "a.json"
    path.write_text('{"models": [{"name": "a", "endpoi', encoding="utf-8")
    assert "line 1: a text that is not closed" in refused(path)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('{"server": {"port": 1}}', "a.json"),
        ('{"server": {"port": 1}}', "a.yaml"),
        ('{"server": {"port": 1}}', "api"),
        ("{server: {port: 1}}", "api"),
        ("server: {port: 1}", "api"),
        ("\n server:\n   port: 1", "api"),
    ],
)
def test_notations_are_told_apart(text: str, source: str) -> None:
    assert parse_config(text, source=source, environ={}, trusted=True).config.server.port == 1


@pytest.mark.parametrize(("source", "message"), [("a.json", "not JSON"), ("a.yaml", "not YAML"), ("api", "not JSON")])
def test_a_wrong_text_is_refused_as_what_it_claims_to_be(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config('{"server": [}', source=source, environ={}, trusted=True)


def test_json_keeps_lines_and_refuses_repeated_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config('{\n "sync_mode": "raft",\n "sync_mode": 1\n}', source="a.json", environ={}, trusted=True)
    assert str(caught.value.problems[0]) == "line 3: sync_mode: is written twice, first on line 2; keep one"
