"""The virtual disk: what was synced survives, what was not is lost in every way that disks have."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.testing.disk import Disk


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.binary(max_size=20), st.booleans()), max_size=12))
def test_what_was_synced_survives_and_the_rest_is_a_beginning(seed: int, writes: list[tuple[bytes, bool]]) -> None:
    disk = Disk(seed)
    written = synced = b""
    for data, sync in writes:
        disk.write("log", data)
        written += data
        if sync:
            disk.sync("log")
            synced = written
    disk.crash()
    after = disk.read("log") if "log" in disk.names() else b""
    assert after.startswith(synced)
    assert written.startswith(after)


def test_crashes_lose_tear_and_keep() -> None:
    seen = set()
    for seed in range(60):
        disk = Disk(seed)
        disk.write("log", b"kept.")
        disk.sync("log")
        disk.write("log", b"perhaps")
        disk.crash()
        seen.add(disk.read("log"))
    assert {b"kept.", b"kept.perhaps"} < seen
    assert any(b"kept." < text < b"kept.perhaps" for text in seen)


def test_a_rename_lasts_once_the_folder_is_synced() -> None:
    outcomes = set()
    for seed in range(40):
        disk = Disk(seed)
        disk.write("config", b"old")
        disk.sync("config")
        disk.write("config.new", b"new")
        disk.sync("config.new")
        disk.rename("config.new", "config")
        if seed % 2:
            disk.sync_folder()
        disk.crash()
        assert disk.read("config") in (b"old", b"new")
        outcomes.add((seed % 2, disk.read("config")))
    assert outcomes == {(0, b"old"), (0, b"new"), (1, b"new")}


def test_a_full_disk_writes_what_fits() -> None:
    disk = Disk(capacity_bytes=4)
    with pytest.raises(OSError) as caught:
        disk.write("log", b"123456")
    assert caught.value.errno == errno.ENOSPC
    assert disk.read("log") == b"1234"
    disk.remove("log")
    disk.write("log", b"5678")


def test_a_failed_sync_is_not_made_good_by_the_next() -> None:
    disk = Disk(1)
    disk.write("log", b"one.")
    disk.sync("log")
    disk.write("log", b"two.")
    disk.broken = True
    with pytest.raises(OSError):
        disk.sync("log")
    disk.broken = False
    disk.sync("log")
    assert disk.read("log") == b"one.two."
    disk.crash()
    assert disk.read("log") == b"one."


def test_truncating_is_as_lasting_as_a_write() -> None:
    disk = Disk()
    disk.write("log", b"old")
    disk.sync("log")
    disk.truncate("log")
    disk.write("log", b"new")
    disk.sync("log")
    disk.crash()
    assert disk.read("log") == b"new"


def test_what_is_not_there_cannot_be_read() -> None:
    with pytest.raises(FileNotFoundError):
        Disk().read("nothing")
