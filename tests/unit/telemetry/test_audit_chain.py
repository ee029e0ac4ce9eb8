"""The chain: what was written is accepted; anything else is not."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.telemetry.audit_chain import START, Chain, ChainBroken, Verifier, encode_data

TIME = "2026-01-31T23:59:59.123Z"
KEYS = st.sampled_from([b"", b"a key of the chain"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


def write(count: int, key: bytes = b"") -> list[bytes]:
    chain = Chain(key)
    return [chain.seal(TIME, f"run-{i}", "candidate", encode_data({"n": i, "名": "模型"})) for i in range(count)]


def check(lines: list[bytes], key: bytes = b"") -> int:
    verifier = Verifier(key)
    for line in lines:
        verifier.take(line)
    return verifier.sequence


def test_a_record_says_where_it_belongs() -> None:
    first, second = (json.loads(line) for line in write(2))
    assert list(first) == ["sequence", "previous", "time", "run", "kind", "data", "hash"]
    assert (first["sequence"], first["previous"], second["previous"]) == (1, START, first["hash"])


@pytest.mark.parametrize("key", [b"", b"secret"])
def test_a_stranger_can_check_it_by_the_description(key: bytes) -> None:
    previous = START
    for line in write(3, key):
        record = json.loads(line)
        body = line[: line.rindex(b',"hash":"')] + b"}"
        made = hmac.digest(key, body, "sha256").hex() if key else hashlib.sha256(body).hexdigest()
        assert (record["hash"], record["previous"]) == (made, previous)
        previous = record["hash"]


@given(st.lists(DATA, max_size=5), KEYS)
def test_what_was_written_is_accepted(data: list[dict[str, object]], key: bytes) -> None:
    chain, verifier = Chain(key), Verifier(key)
    for each in data:
        entry = verifier.take(chain.seal(TIME, "run", "event", encode_data(each)))
        assert encode_data(entry.value()) == encode_data(each)
    assert (verifier.sequence, verifier.head) == (chain.sequence, chain.head)


@given(st.data(), KEYS)
def test_any_changed_byte_is_seen(data: st.DataObject, key: bytes) -> None:
    whole = b"".join(write(4, key))
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    changed = whole[:place] + bytes([other]) + whole[place + 1 :]
    with pytest.raises(ChainBroken):
        check(changed.splitlines(keepends=True) if b"\n" in changed else [changed], key)


@given(st.integers(2, 6), st.data())
def test_a_removed_record_is_missed_unless_it_is_the_first_or_last(count: int, data: st.DataObject) -> None:
    lines = write(count + 1)
    place = data.draw(st.integers(1, count - 1))
    with pytest.raises(ChainBroken, match=f"{place + 1} missing before it") as found:
        check(lines[:place] + lines[place + 1 :])
    assert found.value.sequence == place + 1


@given(st.permutations(range(5)))
def test_another_order_is_seen(order: list[int]) -> None:
    lines = write(5)
    if order == sorted(order):
        assert check(lines) == 5
    else:
        with pytest.raises(ChainBroken):
            check([lines[i] for i in order])


def test_a_record_that_was_made_anew_does_not_hold_those_after_it() -> None:
    lines = write(3)
    forged = Chain(b"", 1, json.loads(lines[0])["hash"]).seal(TIME, "run-1", "candidate", encode_data({"n": 9}))
    with pytest.raises(ChainBroken, match="replaced") as found:
        check([lines[0], forged, lines[2]])
    assert found.value.sequence == 2


def test_nobody_without_the_key_can_make_a_record() -> None:
    assert check(write(3, b"secret"), b"secret") == 3
    for other in (b"", b"guess"):
        with pytest.raises(ChainBroken, match="hash does not fit"):
            check(write(3, other), b"secret")


def test_a_later_beginning_is_taken_but_a_false_first_is_not() -> None:
    assert check(write(4)[2:]) == 4
    with pytest.raises(ChainBroken, match="no beginning"):
        check([Chain(b"", 0, "1" * 64).seal(TIME, "", "opened", b"{}")])


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'"hash"\n', b"\xff" * 100 + b"\n", b"[" * 50_000 + b"\n"])
def test_what_is_no_record_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(ChainBroken):
        check([line])
