"""The audit's files: rotation, crashes, full disks, several writers; and their check."""

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.telemetry.audit_chain import encode_data
from open_autoglm.telemetry.audit_file import AuditFile, Pending, older_files
from open_autoglm.telemetry.audit_reader import find_run, newest_runs, verify

TIME = "2026-01-31T23:59:59.123Z"
KEY = b"key of the audit"


def opened(path: Path, key: bytes = b"", *, bytes_max: int = 2**20, keep: int = 3) -> AuditFile:
    return AuditFile(str(path), key, bytes_max=bytes_max, keep=keep, durable=False)


def pending(number: int, run: str = "run-1", kind: str = "candidate") -> Pending:
    return Pending(TIME, run, kind, encode_data({"n": number}))


def filled(path: Path, count: int, key: bytes = b"", **more: int) -> AuditFile:
    file = opened(path, key, **more)
    for number in range(count):
        file.append([pending(number)], TIME)
    return file


def kinds(path: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "audit.jsonl"


@pytest.mark.parametrize("key", [b"", KEY])
def test_a_chain_goes_on_where_it_was_left(path: Path, key: bytes) -> None:
    filled(path, 3, key).close()
    filled(path, 2, key).close()
    verdict = verify(path, key)
    assert (verdict.ok, verdict.first, verdict.last) == (True, 1, 6)
    assert kinds(path) == ["opened", *["candidate"] * 5]
    assert path.stat().st_mode & 0o777 == 0o600


def test_rotation_keeps_the_chain_and_says_what_it_drops(path: Path) -> None:
    file = filled(path, 40, bytes_max=800, keep=2)
    older = older_files(path)
    verdict = verify(path)
    assert len(older) == 2
    assert verdict.ok
    assert verdict.first > 1
    assert verdict.dropped == verdict.first - 1
    assert verdict.last == file.head[0] > 40
    older[0].unlink()
    assert "missing at the beginning" in verify(path).reason
    file.append([pending(1)], TIME)


def test_a_missing_file_in_the_middle_is_seen(path: Path) -> None:
    filled(path, 20, bytes_max=800, keep=50)
    older_files(path)[2].unlink()
    assert "missing before it" in verify(path).reason


def test_records_removed_at_the_end_are_seen_by_the_head(path: Path) -> None:
    filled(path, 5, KEY).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    verdict = verify(path, KEY)
    assert verdict.reason == "records 5 to 6 are missing at the end"
    assert verdict.sequence == 5
    filled(path, 1, KEY)
    assert "missing" in kinds(path)
    verdict = verify(path, KEY)
    assert (verdict.ok, verdict.reason, verdict.last) == (False, "", 6)
    (gap,) = verdict.gaps
    assert (gap.file, gap.line, gap.sequence) == ("audit.jsonl", 5, 5)
    assert gap.reason == "records 5 to 6, which had been written, were not there any more"
    assert verify(path, KEY, known=[(5, gap.hash)]).ok
    assert not verify(path, KEY, known=[(5, "0" * 64), (4, gap.hash)]).ok


def test_a_gap_is_over_when_its_files_went_in_their_time(path: Path) -> None:
    filled(path, 5).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    file = filled(path, 4, bytes_max=800, keep=2)
    assert [gap.sequence for gap in verify(path).gaps] == [5]
    for number in range(40):
        file.append([pending(number)], TIME)
    verdict = verify(path)
    assert verdict.ok
    assert verdict.dropped > 5
    assert not verify(path.with_name("audit.jsonl.none")).gaps


def test_a_gap_goes_with_the_files_that_the_chain_drops_though_they_are_there_still(path: Path) -> None:
    """A crash between what the chain says it drops and the deletion leaves the files for the next time."""
    filled(path, 5).close()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    file = filled(path, 4, bytes_max=800, keep=2)
    assert verify(path).gaps
    gone: dict[str, bytes] = {}
    number = 0
    while verify(path).dropped < 5:
        gone |= {each.name: each.read_bytes() for each in older_files(path)}
        file.append([pending(number)], TIME)
        number += 1
    for name in gone.keys() - {each.name for each in older_files(path)}:
        path.with_name(name).write_bytes(gone[name])
    assert verify(path).first == 1
    assert verify(path).ok


@pytest.mark.parametrize("kind", ["missing", "set_aside"])
def test_a_record_of_a_gap_that_makes_no_sense_is_no_pass(path: Path, kind: str) -> None:
    file = filled(path, 1)
    file.append([pending(1, "", kind)], TIME)
    assert verify(path).reason == f"is no record of what is {kind}"
    assert verify(path).sequence == 3


def test_a_head_that_was_turned_back_too_is_seen_by_what_was_noted(path: Path) -> None:
    file = filled(path, 3, KEY)
    before = {name: name.read_bytes() for name in path.parent.iterdir()}
    file.append([pending(9)], TIME)
    noted = file.head
    assert verify(path, KEY, noted).ok
    for name, content in before.items():
        name.write_bytes(content)
    assert verify(path, KEY).ok
    assert "noted is not there" in verify(path, KEY, noted).reason
    assert "not the one that was noted" in verify(path, KEY, (2, noted[1])).reason


def test_a_torn_end_is_seen_and_cut_off_by_the_next_who_writes(path: Path) -> None:
    filled(path, 2).close()
    with path.open("ab") as file:
        file.write(b'{"sequence":4,"previous":"')
    torn = verify(path)
    assert (torn.ok, torn.line, torn.last) == (False, 4, 3)
    assert "torn" in torn.reason
    filled(path, 1).close()
    verdict = verify(path)
    assert verdict.ok
    assert kinds(path)[3:] == ["recovered", "candidate"]
    assert "a torn last line was cut off" in verdict.notes[0]


def test_a_changed_last_record_is_not_built_upon(path: Path) -> None:
    filled(path, 3, KEY, bytes_max=10).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"n":2', b'"n":3'))
    filled(path, 1, KEY).close()
    assert kinds(path) == ["set_aside", "opened", "candidate"]
    verdict = verify(path, KEY)
    assert (verdict.ok, verdict.reason, verdict.last) == (False, "", 3)
    assert [(gap.sequence, gap.line) for gap in verdict.gaps] == [(1, 1)]
    assert "in audit.jsonl.broken-1" in verdict.gaps[0].reason
    assert "its hash does not fit it" in verdict.gaps[0].reason
    assert path.with_name("audit.jsonl.broken-1").read_bytes() == content.replace(b'"n":2', b'"n":3')


def test_two_writers_make_one_chain(path: Path) -> None:
    one, two = opened(path), opened(path)
    for number in range(10):
        (one if number % 3 else two).append([pending(number)], TIME)
    assert verify(path).last == 11
    assert kinds(path).count("opened") == 1


def test_one_of_two_writers_rotates(path: Path) -> None:
    one, two = opened(path, bytes_max=700, keep=9), opened(path, bytes_max=700, keep=9)
    for number in range(20):
        (one if number % 2 else two).append([pending(number)], TIME)
    assert verify(path).last == 21
    assert len(older_files(path)) > 2


def test_a_full_disk_leaves_whole_records_only(path: Path) -> None:
    """A limit of file sizes stands for the disk: it takes a part of a write, and refuses the rest."""
    file = filled(path, 2)
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        with pytest.raises(OSError, match="large") as refused:
            file.append([pending(2), pending(3)], TIME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert refused.value.errno == errno.EFBIG
    assert path.stat().st_size == size
    file.append([pending(2), pending(3)], TIME)
    assert verify(path).last == 5


def test_who_cannot_have_the_lock_says_so(path: Path) -> None:
    import fcntl

    filled(path, 1)
    with open(f"{path}.head", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another process"):
            opened(path).append([pending(1)], TIME)


@pytest.mark.parametrize("content", [b"{}", b'{"sequence":9,"hash":"00","mac":"00"}'])
def test_a_changed_head_is_seen(path: Path, content: bytes) -> None:
    filled(path, 1, KEY)
    Path(f"{path}.head").write_bytes(content)
    assert "head was changed" in verify(path, KEY).reason
    filled(path, 1, KEY)
    assert kinds(path) == ["opened", "candidate", "recovered", "candidate"]
    assert verify(path, KEY).ok
    os.unlink(f"{path}.head")
    assert "head is missing" in verify(path, KEY).reason


def test_a_head_that_was_taken_away_is_written_again(path: Path) -> None:
    file = filled(path, 1)
    os.unlink(f"{path}.head")
    file.append([pending(2)], TIME)
    assert verify(path).ok
    assert verify(path).last == 3


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a chain that was rotated, by name."""
    path = tmp_path_factory.mktemp("chain") / "audit.jsonl"
    filled(path, 12, KEY, bytes_max=700, keep=9).close()
    assert verify(path, KEY).ok
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


def checked(folder: Path, files: dict[str, bytes]) -> bool:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return verify(folder / "audit.jsonl", KEY).ok


@given(st.data())
def test_any_changed_byte_in_any_file_is_seen(
    chain: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(chain)))
    content = chain[name]
    place = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    changed = {**chain, name: content[:place] + bytes([other]) + content[place + 1 :]}
    assert not checked(tmp_path_factory.mktemp("changed"), changed)


@given(st.data())
def test_any_cut_in_any_file_is_seen(
    chain: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(chain)))
    kept = data.draw(st.integers(0, len(chain[name]) - 1))
    assert not checked(tmp_path_factory.mktemp("cut"), {**chain, name: chain[name][:kept]})


@given(st.binary(max_size=400), st.booleans())
def test_whatever_is_in_a_file_it_is_said_what_it_is(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, written_on: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / "audit.jsonl"
    path.write_bytes(content)
    assert verify(path).ok == (not content)
    assert find_run(path, "run-1") == []
    if written_on:  # what is there is put aside, or cut off when it is only a torn line
        filled(path, 1).close()
        verdict = verify(path)
        assert not verdict.reason
        assert bool(verdict.gaps) == ("set_aside" in kinds(path))
        assert "candidate" in kinds(path)


def test_a_run_is_found_in_all_files(path: Path) -> None:
    file = opened(path, bytes_max=700, keep=9)
    for number in range(20):
        file.append([pending(number, f"run-{number % 3}")], TIME)
    file.append([pending(20, "run-1", "end"), pending(21, "run-2", "end")], TIME)
    assert [told.kind for told in find_run(path, "run-1")] == ["candidate"] * 7 + ["end"]
    assert find_run(path, "run-") == []
    assert [told.run for told in newest_runs(path, 1)] == ["run-2"]
    assert [told.run for told in newest_runs(path, 10)] == ["run-2", "run-1"]


def test_nothing_is_nothing(path: Path) -> None:
    verdict = verify(path)
    assert (verdict.ok, verdict.last) == (True, 0)
    assert find_run(path, "run-1") == []


def test_a_file_that_begins_with_no_record_is_put_aside_when_it_is_full(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a record\n")
    file = filled(path, 1)
    assert kinds(path) == ["set_aside", "opened", "candidate"]
    assert not verify(path.with_name("audit.jsonl.broken-1")).ok
    file.close()
