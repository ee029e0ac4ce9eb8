"""The log file heals itself, and what it lost is counted in lines."""

import os
import resource
from pathlib import Path

from open_autoglm.telemetry.line_file import LineFile


def test_lines_are_appended_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    file = LineFile(str(path))
    assert file.write(b"one\n") == 0
    assert file.write(b"two\nthree\n") == 0
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert file.write(b"four\n") == 0, "a closed file opens again"
    assert path.read_bytes().endswith(b"four\n")


def test_a_rotated_or_deleted_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = LineFile(str(path))
    file.write(b"old\n")
    path.rename(tmp_path / "app.log.1")
    assert file.write(b"new\n") == 0
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "app.log.1").read_bytes() == b"old\n"
    path.unlink()
    assert file.write(b"newer\n") == 0
    assert path.read_bytes() == b"newer\n"


def test_a_lost_folder_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    file = LineFile(str(folder / "app.log"))
    file.write(b"one\n")
    (folder / "app.log").unlink()
    folder.rmdir()
    folder.write_text("a file is in the way")
    assert file.write(b"two\nthree\n") == 2
    folder.unlink()
    assert file.write(b"four\n") == 0
    assert (folder / "app.log").read_bytes() == b"four\n"


def test_a_full_disk_costs_lines_until_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.symlink_to("/dev/full")
    file = LineFile(str(path))
    assert file.write(b"one\ntwo\n") == 2
    path.unlink()
    assert file.write(b"three\n") == 0
    assert path.read_bytes() == b"three\n"


def test_a_torn_line_is_closed_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = LineFile(str(path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # a write beyond takes a part of it, then fails
    try:
        lost = file.write(b"first\nsecond\nthird\n")
        lost_again = file.write(b"fourth\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"first\nseco"
    assert lost == 2
    assert lost_again == 1
    assert file.write(b"fifth\n") == 0
    assert path.read_bytes() == b"first\nseco\nfifth\n"


def test_standard_error_is_written_and_never_closed(capfd: object) -> None:
    file = LineFile(None)
    assert file.write(b"to the terminal\n") == 0
    file.close()
    assert os.fstat(2)
    assert file.write(b"and again\n") == 0
    assert capfd.readouterr().err == "to the terminal\nand again\n"  # type: ignore[attr-defined]
