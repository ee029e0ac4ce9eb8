"""The map: optimistic locking, conflicts, time to live, bounds."""

import pytest

from open_autoglm.dissemination import DisseminationError, Entry, ReplicatedMap, Told, WriteConflict
from open_autoglm.dissemination.entry import read_all, write_all, write_told
from open_autoglm.dissemination.replicated_map import REMOVED_TTL_MS, SIBLINGS_MAX, WRITERS_MAX


def told(facts: ReplicatedMap, now_s: float = 0.0) -> list[Told]:
    return facts.everything(now_s)


def test_a_write_is_read_and_told() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    a.write("weight", b"80", {}, 0.0)
    assert b.merge(told(a), 0.0) == ["weight"]
    assert b.get("weight") == b"80"
    assert b.merge(told(a), 0.0) == [], "it is known already"
    assert b.read("weight").vector == {"a": 1}


def test_a_write_that_does_not_know_what_is_there_is_refused_with_it() -> None:
    a = ReplicatedMap("a")
    a.write("k", b"1", {}, 0.0)
    with pytest.raises(WriteConflict) as refused:
        a.write("k", b"2", {}, 0.0)
    assert a.get("k") == b"1"
    a.write("k", b"2", refused.value.reading.vector, 0.0)
    assert a.get("k") == b"2"


def test_writes_at_once_are_both_kept_and_the_next_writer_is_told_of_both() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    a.write("k", b"of a", {}, 0.0)
    b.write("k", b"of b", {}, 0.0)
    expected = a.read("k").vector
    a.merge(told(b), 0.0)
    b.merge(told(a), 0.0)
    assert a.get("k") == b.get("k") == b"of b", "of equal clocks the later name wins"
    with pytest.raises(WriteConflict) as refused:
        a.write("k", b"third", expected, 0.0)
    assert [entry.value for entry in refused.value.reading.entries] == [b"of b", b"of a"]
    (conflict,) = a.conflicts.open()
    assert (conflict.winner.value, conflict.loser.value) == (b"of b", b"of a")
    a.write("k", b"third", refused.value.reading.vector, 0.0)
    assert a.conflicts.open() == []
    assert a.conflicts.of("k")[0].settled_by == ("a", 2)
    b.merge(told(a), 0.0)
    assert [entry.value for entry in b.read("k").entries] == [b"third"]
    assert b.conflicts.open() == []


def test_a_later_write_wins_over_one_that_knew_less_whatever_its_name() -> None:
    a, z = ReplicatedMap("a"), ReplicatedMap("z")
    z.write("k", b"early", {}, 0.0)
    a.merge(told(z), 0.0)
    a.write("other", b"x", {}, 0.0)
    a.write("k", b"late", a.read("k").vector, 0.0)
    z.merge(told(a), 0.0)
    assert z.get("k") == b"late"
    assert len(z.conflicts) == 0


def test_an_entry_goes_when_its_time_is_over_and_is_told_with_what_is_left() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    a.write("k", b"v", {}, 10.0, ttl_ms=5000)
    (entry,) = told(a, 12.0)
    assert entry.ttl_ms == 2999, "what is left, less one for the hop"
    b.merge([entry], 100.0)
    assert b.next_deadline() == pytest.approx(102.999)
    assert b.expire(102.9) == []
    assert b.expire(103.0) == ["k"]
    assert (b.get("k"), len(b), b.next_deadline()) == (None, 0, float("inf"))
    assert told(a, 14.9995) == []


def test_what_has_no_time_left_is_refused() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    entry = a.write("k", b"v", {}, 0.0)
    assert b.merge([Told(entry, 0)], 0.0) == []
    assert (len(b), b.refused) == (0, 1)


def test_of_the_same_entry_the_shorter_time_counts() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    entry = a.write("k", b"v", {}, 0.0, ttl_ms=9000)
    b.merge([Told(entry, 5000)], 0.0)
    b.merge([Told(entry, 8000)], 0.0)
    assert b.next_deadline() == 5.0
    b.merge([Told(entry, 2000)], 0.0)
    assert b.next_deadline() == 2.0


def test_a_removal_is_remembered_for_an_hour() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    a.write("k", b"v", {}, 0.0)
    b.merge(told(a), 0.0)
    old = told(b)
    a.write("k", None, a.read("k").vector, 0.0)
    assert a.get("k") is None
    a.merge(old, 1.0)
    assert a.get("k") is None, "the older one does not come back"
    assert a.expire(REMOVED_TTL_MS / 1000) == ["k"]


def test_a_write_after_expiry_outranks_what_others_still_have() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    for value in (b"1", b"2", b"3"):
        b.write("k", value, b.read("k").vector, 0.0, ttl_ms=1000)
    a.merge(told(b), 0.0)
    a.expire(2.0)
    a.write("k", b"new", {}, 2.0)
    b.merge(told(a), 0.5)
    assert b.get("k") == b"new"


def test_a_member_that_started_anew_uses_no_number_twice() -> None:
    a, b = ReplicatedMap("a", 1000), ReplicatedMap("b")
    a.write("k", b"old", {}, 0.0)
    b.merge(told(a), 0.0)
    again = ReplicatedMap("a", 2000)
    first = again.write("k", b"new", {}, 0.0)
    assert first.counter == 2000
    assert b.merge(told(again), 0.0) == ["k"]
    forgetful = ReplicatedMap("a", 1)
    forgetful.merge(told(b), 0.0)
    assert forgetful.write("x", b"", {}, 0.0).counter == 2001


def test_members_that_are_gone_leave_the_vectors_of_new_writes() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    b.write("k", b"1", {}, 0.0)
    a.merge(told(b), 0.0)
    a.write("k", b"2", a.read("k").vector, 0.0)
    a.set_gone("b")
    assert a.write("k", b"3", a.read("k").vector, 0.0).vector == {"a": 2}
    a.set_present("b")
    old = Entry("k", "b", 1, 1, {"b": 1}, b"1")
    a.merge([Told(old, None)], 0.0)
    assert a.get("k") == b"3", "at worst both are kept; the newer one still wins"
    assert len(a.conflicts.open()) == 1


def test_the_vector_of_a_write_keeps_whom_it_replaces_whoever_is_gone() -> None:
    a, b = ReplicatedMap("a"), ReplicatedMap("b")
    b.write("k", b"1", {}, 0.0)
    a.merge(told(b), 0.0)
    a.set_gone("b")
    assert a.write("k", b"2", a.read("k").vector, 0.0).vector == {"a": 1, "b": 1}


def test_vectors_stay_bounded_with_many_writers() -> None:
    facts = ReplicatedMap("w0")
    for number in range(3 * WRITERS_MAX):
        name = f"w{number}"
        writer = ReplicatedMap(name)
        writer.merge(told(facts), 0.0)
        entry = writer.write("k", b"v", writer.read("k").vector, 0.0)
        assert len(entry.vector) <= WRITERS_MAX
        facts.merge(told(writer), 0.0)
        assert len(facts.read("k").entries) == 1


def test_entries_of_a_key_are_bounded_and_the_winner_is_among_them() -> None:
    facts = ReplicatedMap("me")
    for number in range(2 * SIBLINGS_MAX):
        writer = ReplicatedMap(f"w{number:02}")
        writer.write("k", b"v", {}, 0.0)
        facts.merge(told(writer), 0.0)
    entries = facts.read("k").entries
    assert len(entries) == SIBLINGS_MAX
    assert entries[0].writer == f"w{2 * SIBLINGS_MAX - 1:02}"


def test_keys_are_bounded() -> None:
    a, b = ReplicatedMap("a", keys_max=2), ReplicatedMap("b")
    a.write("1", b"", {}, 0.0)
    a.write("2", b"", {}, 0.0)
    with pytest.raises(ValueError, match="2 keys already"):
        a.write("3", b"", {}, 0.0)
    for number in range(5):
        b.write(f"b{number}", b"", {}, 0.0)
    a.merge(told(b), 0.0)
    assert (len(a), a.refused) == (4, 3)


@pytest.mark.parametrize(
    ("key", "value", "ttl_ms"), [("", b"", None), ("k" * 129, b"", None), ("k", b"x" * 1025, None), ("k", b"", 0)]
)
def test_what_is_out_of_range_is_not_written(key: str, value: bytes, ttl_ms: int | None) -> None:
    facts = ReplicatedMap("a")
    with pytest.raises(ValueError, match=r"a key has|a value has|a time to live has"):
        facts.write(key, value, {}, 0.0, ttl_ms=ttl_ms)
    assert len(facts) == 0


def test_changes_are_remembered_so_far_and_then_everything_is_told() -> None:
    facts = ReplicatedMap("a", changes_max=2)
    facts.write("1", b"", {}, 0.0)
    facts.write("2", b"", {}, 0.0)
    assert list(facts.changes_since(0) or {}) == ["2", "1"]
    facts.write("3", b"", {}, 0.0)
    assert facts.changes_since(0) is None
    assert list(facts.changes_since(1) or {}) == ["3", "2"]
    assert facts.changes_since(3) == {}


def test_the_log_of_conflicts_is_bounded_and_counts_what_fell_out() -> None:
    facts = ReplicatedMap("m")
    other = ReplicatedMap("z")
    for number in range(300):
        facts.write(str(number), b"m", {}, 0.0)
        other.write(str(number), b"z", {}, 0.0)
    facts.merge(told(other), 0.0)
    assert (len(facts.conflicts), facts.conflicts.dropped) == (256, 44)
    facts.merge(told(other), 0.0)
    assert facts.conflicts.dropped == 44


def test_entries_come_back_from_bytes() -> None:
    a = ReplicatedMap("a")
    a.write("k", b"v" * 1024, {}, 0.0)
    a.write("gone", None, {}, 0.0)
    a.write("short", b"", {}, 0.0, ttl_ms=77)
    assert read_all(write_all(told(a)), 3) == told(a)
    with pytest.raises(DisseminationError, match="are the most"):
        read_all(write_all(told(a)), 2)


def bad_entries() -> list[bytes]:
    good = write_told(Told(Entry("k", "a", 1, 1, {"a": 1, "b": 2}, b"v"), 5))
    return [
        good[:-1],
        b"\x04" + good[1:],
        good[:5] + bytes(8) + good[13:],
        write_told(Told(Entry("\n", "a", 1, 1, {"a": 1}, b"v"), 5)),
        write_told(Told(Entry("", "a", 1, 1, {"a": 1}, b"v"), 5)),
        write_told(Told(Entry("k", "a", 1, 1, {"a": 1, **{f"m{n}": 1 for n in range(64)}}, b"v"), 5)),
        write_told(Told(Entry("k", "a", 1, 1, {"a": 1}, b"v" * 1025), 5)),
        good.replace(b"\x01b", b"\x01a"),
        good.replace(b"\x01b", b"\x01\xff"),
    ]


@pytest.mark.parametrize("data", bad_entries())
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    with pytest.raises(DisseminationError):
        read_all(b"\0\0\0\x01" + data, 10)
