"""Seals and the guard against replays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.seal import (
    DATAGRAM_BYTES_MAX,
    ReplayGuard,
    derive_key,
    is_sealed,
    open_datagram,
    seal_datagram,
    seal_of,
)
from open_autoglm.membership.wire import MESSAGE_BYTES_MAX

KEY = derive_key(b"a secret of the tests", "gossip")


def test_keys_of_one_secret_differ_by_use_and_salt() -> None:
    keys = {
        derive_key(b"s", "gossip"),
        derive_key(b"s", "push-pull"),
        derive_key(b"s", "gossip", b"1"),
        derive_key(b"t", "gossip"),
    }
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_a_key_is_that_of_rfc_5869() -> None:
    # Made with the `cryptography` package: HKDF(SHA256, 32, salt=b"salt", info=b"open-autoglm x").derive(b"secret").
    assert (
        derive_key(b"secret", "x", b"salt").hex() == "0eb33b851437287d78df3903e2811513fd04132411722cff47c6ad231720e3e5"
    )


@given(st.binary(min_size=1, max_size=MESSAGE_BYTES_MAX), st.integers(0, 2**64 - 1))
def test_a_datagram_is_opened_as_it_was_sealed(message: bytes, sequence: int) -> None:
    data = seal_datagram(KEY, sequence, message)
    assert len(data) <= DATAGRAM_BYTES_MAX
    assert open_datagram(KEY, data) == (sequence, message)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 2**30), st.integers(0, 7))
def test_one_changed_bit_is_found(message: bytes, at: int, bit: int) -> None:
    data = bytearray(seal_datagram(KEY, 7, message))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(GossipError, match="seal is wrong"):
        open_datagram(KEY, bytes(data))


@pytest.mark.parametrize("data", [b"", bytes(25), bytes(DATAGRAM_BYTES_MAX + 1)])
def test_what_cannot_be_a_datagram_is_not_even_checked(data: bytes) -> None:
    with pytest.raises(GossipError, match="no datagram has"):
        open_datagram(KEY, data)


def test_another_secret_opens_nothing() -> None:
    with pytest.raises(GossipError, match="seal is wrong"):
        open_datagram(derive_key(b"another", "gossip"), seal_datagram(KEY, 1, b"x"))
    assert not is_sealed(KEY, b"data", seal_of(KEY, b"date"))


def test_a_version_that_is_not_known_is_refused_by_name() -> None:
    rest = bytes(8) + b"x"
    with pytest.raises(GossipError, match="version 2"):
        open_datagram(KEY, b"\x02" + seal_of(KEY, b"\x02" + rest) + rest)


def test_each_datagram_is_taken_once_in_any_order() -> None:
    guard = ReplayGuard(10)
    assert [guard.is_new("a", 1, n) for n in (5, 3, 9, 4, 9, 3, 5, 10)] == [
        True,
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]


def test_what_is_older_than_the_window_is_not_taken() -> None:
    guard = ReplayGuard(10)
    assert guard.is_new("a", 1, 5000)
    assert guard.is_new("a", 1, 5000 - 1023)
    assert not guard.is_new("a", 1, 5000 - 1024)
    assert guard.is_new("a", 1, 10**12)
    assert not guard.is_new("a", 1, 5000)


def test_a_former_life_is_over() -> None:
    guard = ReplayGuard(10)
    assert guard.is_new("a", 1, 100)
    assert guard.is_new("a", 2, 1)
    assert not guard.is_new("a", 1, 101)
    assert guard.is_new("b", 1, 101)


def test_the_guard_keeps_no_more_windows_than_it_may() -> None:
    guard = ReplayGuard(2)
    assert all(guard.is_new(name, 1, 1) for name in "abc")
    assert not guard.is_new("c", 1, 1)
    assert not guard.is_new("b", 1, 1)
    assert guard.is_new("a", 1, 1), "the oldest window went"
