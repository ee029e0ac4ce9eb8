"""The file of the cluster's secret: read as it is meant, refused when others can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_autoglm.cli.failure import CommandFailed
from open_autoglm.cli.secret_file import BYTES_MAX, read_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("0123456789abcdef\n")
    return path


def test_a_secret_is_read_without_its_line_end(file: Path) -> None:
    secret = read_secret(str(file))
    assert secret is not None
    assert secret.reveal() == "0123456789abcdef"
    assert read_secret(None) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o622])
def test_a_file_that_others_can_read_or_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(CommandFailed, match=rf"mode {mode:04o}\); run `chmod 600`"):
        read_secret(str(file))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\n", "is empty"), (b"\xff\xfe", "it is no text"), (b"x" * (BYTES_MAX + 1), "longer than 4096 bytes")],
)
def test_what_is_no_secret_is_refused(file: Path, data: bytes, message: str) -> None:
    file.write_bytes(data)
    with pytest.raises(CommandFailed, match=message):
        read_secret(str(file))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match="--secret-file /nowhere cannot be read: No such file"):
        read_secret("/nowhere")
