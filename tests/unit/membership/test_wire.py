"""Messages and states as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from open_autoglm.membership import wire
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.member import STATES, Record, is_address, is_id, join_address, split_address

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}", fullmatch=True)
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
addresses = st.builds(join_address, st.sampled_from(["10.0.0.1", "::1", "node-7.site"]), st.integers(0, 65535))
records = st.builds(
    Record,
    id=ids,
    role=st.sampled_from(["server", "node"]),
    node_class=st.sampled_from(["", "cpu", "gpu", "tpu", "edge"]),
    start=st.integers(0, 2**64 - 1),
    incarnation=st.integers(0, 2**32 - 1),
    draining=st.booleans(),
    gossip=addresses,
    address=addresses | st.just(""),
    models=st.lists(st.tuples(names, st.text("abc019", max_size=12)), max_size=8).map(tuple),
)
verdicts = st.builds(
    wire.Verdict,
    st.sampled_from(["suspect", "dead", "left"]),
    ids,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    ids,
)
reports = st.builds(wire.Reported, ids, st.integers(0, 2**64 - 1), st.just(LoadReport(running=2, number=3)))
RECORD = Record(id="n", role="node", node_class="gpu", start=3, gossip="h:1", models=(("a", "1"), ("b", "")))


def written(news: wire.News) -> bytes:
    """News as bytes."""
    match news:
        case Record():
            return wire.write_record(news)
        case wire.Verdict():
            return wire.write_verdict(news)
        case wire.Reported():
            return wire.write_reported(news)


@given(
    st.lists(records | verdicts | reports, max_size=3), ids, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), ids
)
def test_a_message_is_read_as_it_was_written(
    news: list[wire.News], sender: str, start: int, nonce: int, target: str
) -> None:
    data = wire.write_message(wire.PING, (sender, start), nonce, target, map(written, news))
    if len(data) > wire.MESSAGE_BYTES_MAX:
        with pytest.raises(GossipError):
            wire.read_message(data)
        return
    assert wire.read_message(data) == wire.Message(wire.PING, sender, start, nonce, target, news)


@given(st.lists(st.tuples(st.sampled_from(STATES), records, st.none() | st.just(LoadReport(queue=1))), max_size=4))
def test_a_state_is_read_as_it_was_written(members: list[tuple[str, Record, LoadReport | None]]) -> None:
    entries = [wire.Entry(*member) for member in members]  # type: ignore[arg-type]
    assert wire.read_state(wire.write_state(entries), 4) == entries


def test_the_bytes_of_a_message() -> None:
    data = wire.write_message(wire.ACK, ("n", 1), 2, "m", [wire.write_verdict(wire.Verdict("dead", "x", 5, 6, "y"))])
    assert data.hex() == "02016e000000000000000100000002016d0300000000000000050000000601780179"


@given(records, st.integers(0, 400))
def test_what_is_cut_is_refused(record: Record, cut: int) -> None:
    data = wire.write_message(wire.GOSSIP, ("n", 1), 0, "", [wire.write_record(record)])
    head = len(wire.write_message(wire.GOSSIP, ("n", 1), 0, "", []))
    if head < cut < len(data):
        with pytest.raises(GossipError):
            wire.read_message(data[:cut])


HEAD = wire.write_message(wire.GOSSIP, ("n", 1), 0, "", [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too early"),
        (b"\x09" + HEAD[1:], "of kind 9"),
        (bytes(wire.MESSAGE_BYTES_MAX + 1), "are the most"),
        (wire.write_message(wire.PING, ("n", 1), 0, "", []), "lacks its target"),
        (wire.write_message(wire.GOSSIP, ("n", 1), 0, "t", []), "should have none"),
        (wire.write_message(wire.PING, ("n", 1), 0, "-", []), "no member's name"),
        (wire.write_message(wire.PING, ("", 1), 0, "t", []), "name is none"),
        (wire.write_message(wire.PING, ("\n", 1), 0, "t", []), "cannot be shown"),
        (HEAD + b"\x09", "news are of kind 9"),
        (HEAD + b"\x01\xff\xff", "a record has 65535 bytes"),
        (HEAD + b"\x01\x00\x01\x04", "flags 4"),
        (HEAD + b"\x02" + bytes(12) + b"\x02\xff\xfe\x01x", "not UTF-8"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GossipError, match=message):
        wire.read_message(data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gossip", "h", "address is none"),
        ("address", "h:99999", "address is none"),
        ("models", (("", "1"),), "too long"),
    ],
)
def test_records_that_make_no_sense_are_refused(field: str, value: object, message: str) -> None:
    record = structs.replace(RECORD, **{field: value})
    with pytest.raises(ValueError, match=message):
        wire.read_message(HEAD + wire.write_record(record))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(id="a b", role="node", gossip="h:1"), "is no member"),
        (Record(id="a", role="node", node_class="abacus", gossip="h:1"), "is no member"),
        (Record(id="a", role="node", gossip="h:1", models=tuple((str(n), "") for n in range(65))), "64 models at most"),
        (Record(id="a", role="node", gossip="h:1", models=(("x" * 129, ""),)), "too long"),
        (Record(id="a", role="node", gossip="h:1", models=tuple(("x" * 120, "1") for _ in range(10))), "are the most"),
    ],
)
def test_what_does_not_fit_a_datagram_is_not_said(record: Record, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wire.write_record(record)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too early"),
        (b"\x00\x05", "5 members; 4 are the most"),
        (b"\x00\x01\x09", "has the number 9"),
        (b"\x00\x01\x00\x02", "something else than a record"),
        (b"\x00\x01\x00" + wire.write_record(RECORD) + b"\x02", "2 stands where 0 or 1"),
        (b"\x00\x00\x00", "behind its end"),
    ],
)
def test_what_is_no_state_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GossipError, match=message):
        wire.read_state(data, 4)


def test_names_and_addresses() -> None:
    assert is_id("node-1.site:a@b")
    assert not any(map(is_id, ["", "-a", "a b", "a\n", "x" * 65, "ä"]))
    assert is_address("[::1]:80")
    assert not any(map(is_address, ["", "h", "h:", ":1", "h:1:2", "h:65536", "x" * 80 + ":1", "h:1\n"]))
    assert split_address("[fe80::1]:7") == ("fe80::1", 7)
    assert split_address(join_address("fe80::1", 7)) == ("fe80::1", 7)
    with pytest.raises(ValueError, match="write HOST:PORT"):
        split_address("h")
