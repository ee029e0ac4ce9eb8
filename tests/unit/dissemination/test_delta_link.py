"""The link: what it sends, when it sends again, when it tells everything."""

import pytest

from open_autoglm.dissemination import DeltaLink, DisseminationError, LinkSettings, ReplicatedMap

PLAIN = LinkSettings()


class Ends:
    """A map and a link at both ends; datagrams are carried by hand."""

    def __init__(self, settings: LinkSettings = PLAIN, *, synced: bool = False) -> None:
        self.a, self.b = ReplicatedMap("a", changes_max=8), ReplicatedMap("b", changes_max=8)
        self.to_b = DeltaLink(self.a, "b", 11, settings, synced=synced)
        self.to_a = DeltaLink(self.b, "a", 22, settings, synced=synced)

    def write(self, key: str, value: bytes = b"v", now_s: float = 0.0) -> None:
        self.a.write(key, value, self.a.read(key).vector, now_s)

    def settle(self, now_s: float) -> None:
        """Carry everything both ways until nobody has anything to say."""
        for _ in range(50):
            there, back = self.to_b.send(now_s), self.to_a.send(now_s + 0.03)
            for datagram in there:
                self.to_a.receive(datagram, now_s)
            for datagram in back:
                self.to_b.receive(datagram, now_s + 0.03)
            if not there and not back:
                return
        raise AssertionError("they do not come to an end")


def test_only_what_changed_is_sent_and_only_once() -> None:
    ends = Ends()
    for number in range(5):
        ends.write(f"k{number}")
    ends.settle(0.0)
    assert ends.b.keys() == ends.a.keys()
    ends.write("k3", b"new")
    assert ends.to_b.next_deadline() == 0.0
    (datagram,) = ends.to_b.send(1.0)
    assert (b"k3" in datagram, b"k2" in datagram) == (True, False)
    assert ends.to_b.send(1.0) == []
    assert ends.to_a.receive(datagram, 1.0) == ["k3"]
    assert not ends.to_b.idle
    assert ends.to_a.send(1.0) == [], "an acknowledgement waits for entries to travel with"
    assert ends.to_a.next_deadline() == pytest.approx(1.02)
    (ack,) = ends.to_a.send(1.02)
    ends.to_b.receive(ack, 1.02)
    assert ends.to_b.idle
    assert ends.to_b.next_deadline() == float("inf")


def test_an_acknowledgement_travels_with_entries() -> None:
    ends = Ends()
    ends.settle(0.0)
    ends.write("k")
    for datagram in ends.to_b.send(1.0):
        ends.to_a.receive(datagram, 1.0)
    ends.b.write("x", b"", {}, 1.0)
    for datagram in ends.to_a.send(1.0):
        ends.to_b.receive(datagram, 1.0)
    assert ends.to_b.idle
    assert ends.to_a.send(5.0) != [], "what was not acknowledged goes again, the acknowledgement with it"


def test_what_was_lost_goes_again_as_it_is_by_then_and_ever_more_slowly() -> None:
    ends = Ends()
    ends.write("k", b"old")
    assert len(ends.to_b.send(0.0)) == 1
    assert ends.to_b.next_deadline() == PLAIN.timeout_s
    assert ends.to_b.send(0.2) == []
    ends.write("j", b"other")
    ends.to_b.send(0.2)
    ends.write("k", b"new", 0.2)
    ends.to_b.send(0.21)
    assert ends.to_b.lost == 0
    (again,) = ends.to_b.send(0.26)
    assert (b"new" in again, b"old" in again, b"other" in again) == (True, False, False)
    assert ends.to_b.lost == 1
    patience = []
    for _ in range(6):
        patience.append(ends.to_b.timeout_s)
        ends.to_b.send(ends.to_b.next_deadline() + 0.001)
    assert patience == sorted(patience)
    assert (patience[0], patience[-1]) == (2 * PLAIN.timeout_s, PLAIN.timeout_max_s)


def test_whoever_wakes_up_at_the_deadline_itself_finds_something_to_do() -> None:
    for step in range(200):
        ends = Ends(synced=True)
        sent_s = step * 0.1 + 0.013
        ends.write("k", now_s=sent_s)
        ends.to_b.send(sent_s)
        assert len(ends.to_b.send(ends.to_b.next_deadline())) == 1
        assert ends.to_b.lost == 1


def test_three_later_ones_say_that_one_was_lost() -> None:
    ends = Ends(synced=True)
    lost = []
    for number in range(4):
        ends.write(f"k{number}")
        (datagram,) = ends.to_b.send(0.01 * number)
        if number == 0:
            lost.append(datagram)
        else:
            ends.to_a.receive(datagram, 0.01 * number)
    (ack,) = ends.to_a.send(0.06)
    ends.to_b.receive(ack, 0.06)
    assert ends.to_b.lost == 1
    (again,) = ends.to_b.send(0.06)
    assert b"k0" in again


def test_datagrams_that_come_twice_or_late_do_no_harm() -> None:
    ends = Ends(synced=True)
    datagrams = []
    for number in range(30):
        ends.write("k", str(number).encode())
        datagrams += ends.to_b.send(0.0)
    for datagram in [datagrams[-1], *datagrams, *reversed(datagrams)]:
        ends.to_a.receive(datagram, 0.0)
    assert ends.b.get("k") == ends.a.get("k")
    assert len(ends.b.conflicts) == 0


def test_the_timeout_follows_the_round_trip() -> None:
    ends = Ends(synced=True)
    for number in range(20):
        now_s = float(number)
        ends.write(f"k{number}", now_s=now_s)
        for datagram in ends.to_b.send(now_s):
            ends.to_a.receive(datagram, now_s + 0.1)
        (ack,) = ends.to_a.send(now_s + 0.125)
        ends.to_b.receive(ack, now_s + 0.2)
    assert 0.17 < ends.to_b.timeout_s < 0.25, "without what the other side waited"


def test_everything_is_told_when_more_changed_than_is_remembered() -> None:
    ends = Ends(synced=True)
    for number in range(20):
        ends.write(f"k{number}")
    ends.settle(0.0)
    assert len(ends.b) == 20


def test_a_member_that_started_anew_is_told_everything() -> None:
    ends = Ends()
    ends.write("k")
    ends.settle(0.0)
    ends.b = ReplicatedMap("b")
    ends.to_a = DeltaLink(ends.b, "a", 33, PLAIN)
    ends.b.write("hello", b"", {}, 1.0)
    ends.settle(1.0)
    assert sorted(ends.b.keys()) == sorted(ends.a.keys()) == ["hello", "k"]


def test_datagrams_of_a_process_that_is_no_more_are_not_looked_at() -> None:
    ends = Ends()
    ends.write("k")
    (old,) = ends.to_b.send(0.0)
    other = ReplicatedMap("a", 50)
    newer = DeltaLink(other, "b", 12, PLAIN)
    other.write("x", b"", {}, 0.0)
    for datagram in newer.send(0.0):
        ends.to_a.receive(datagram, 0.0)
    assert ends.to_a.receive(old, 0.0) == []


def test_what_others_told_is_passed_on_only_by_a_relay_and_not_back() -> None:
    for relay in (False, True):
        settings = LinkSettings(relay=relay)
        source, facts = ReplicatedMap("s"), ReplicatedMap("m")
        source.write("k", b"v", {}, 0.0)
        back = DeltaLink(facts, "s", 1, settings)
        on = DeltaLink(facts, "t", 1, settings)
        facts.merge(source.everything(0.0), 0.0, "s")
        assert back.send(0.0) == []
        assert len(on.send(0.0)) == relay


def test_the_window_bounds_what_is_under_way() -> None:
    ends = Ends(LinkSettings(window=3), synced=True)
    for number in range(8):
        ends.write(f"k{number}", b"x" * 1000)
    sent = ends.to_b.send(0.0)
    assert len(sent) == 3
    assert all(len(datagram) <= 1280 for datagram in sent)
    ends.settle(1.0)
    for now_s in range(2, 40):
        ends.settle(float(now_s))
    assert len(ends.b) == 8


def test_one_lost_of_a_group_comes_back_from_the_parity() -> None:
    ends = Ends(LinkSettings(parity=4), synced=True)
    for number in range(4):
        ends.write(f"k{number}", bytes([number]) * (1000 + number))
    *entries, parity = ends.to_b.send(0.0)
    assert len(entries) == 4
    assert all(len(datagram) <= 1280 for datagram in (*entries, parity))
    for datagram in (entries[0], entries[3], entries[1]):
        ends.to_a.receive(datagram, 0.0)
    assert ends.to_a.receive(parity, 0.0) == ["k2"]
    assert ends.b.get("k2") == ends.a.get("k2")
    assert ends.to_a.recovered == 1
    (ack,) = ends.to_a.send(0.05)
    ends.to_b.receive(ack, 0.05)
    assert ends.to_b.idle, "what came back is acknowledged"


def test_two_lost_of_a_group_do_not_come_back() -> None:
    ends = Ends(LinkSettings(parity=4), synced=True)
    for number in range(4):
        ends.write(f"k{number}", b"v" * 1000)
    *entries, parity = ends.to_b.send(0.0)
    ends.to_a.receive(entries[0], 0.0)
    ends.to_a.receive(entries[1], 0.0)
    assert ends.to_a.receive(parity, 0.0) == []
    assert ends.to_a.recovered == 0


def test_an_entry_that_no_datagram_has_room_for_is_counted_and_left_out() -> None:
    ends = Ends(LinkSettings(datagram_bytes=500), synced=True)
    ends.write("big", b"x" * 1000)
    ends.write("small")
    (datagram,) = ends.to_b.send(0.0)
    assert b"small" in datagram
    assert ends.to_b.oversize == 1


@pytest.mark.parametrize("change", [b"", b"\x09", b"\x01" + bytes(42), b"\x02" + bytes(42)])
def test_what_is_no_datagram_is_refused(change: bytes) -> None:
    ends = Ends()
    with pytest.raises(DisseminationError):
        ends.to_a.receive(change, 0.0)


def test_a_datagram_with_a_spoilt_entry_changes_nothing() -> None:
    ends = Ends()
    ends.write("k")
    (datagram,) = ends.to_b.send(0.0)
    with pytest.raises(DisseminationError):
        ends.to_a.receive(datagram[:-1], 0.0)
    assert ends.to_a.next_deadline() == float("inf")
    assert len(ends.b) == 0
