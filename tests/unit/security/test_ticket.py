"""Tickets: read as they were written, and refused when anything of them is another."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError
from open_autoglm.security.ticket import SEAL_BYTES, TICKET_CHARS_MAX, Ticket, TicketKey, open_ticket, seal_ticket

KEY, OTHER = TicketKey(b"k" * 32), TicketKey(b"o" * 32)
TICKET = Ticket(b"issuer-8", 7, "team-a", "chat", 1000, 61_000, 2, 5)
TICKETS = st.builds(
    Ticket,
    issuer=st.binary(min_size=8, max_size=8),
    number=st.integers(0, 2**64 - 1),
    key=st.text(max_size=40),
    model=st.text(max_size=40),
    requests=st.integers(1, 2**32 - 1),
    expires_ms=st.integers(0, 2**64 - 1),
    priority=st.integers(0, 255),
    concurrency=st.integers(0, 2**16 - 1),
)


def data_of(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def refused(text: str, *keys: TicketKey) -> bool:
    with pytest.raises(RequestError) as caught:
        open_ticket(text, keys or (KEY,))
    told = len(text) >= 20 and text[:20] in caught.value.message
    return caught.value.code == "invalid_signature" and not told


@given(TICKETS)
def test_a_ticket_is_read_as_it_was_written(ticket: Ticket) -> None:
    text = seal_ticket(ticket, KEY)
    assert len(text) <= TICKET_CHARS_MAX
    assert open_ticket(text, (OTHER, KEY)) == ticket


def test_the_seal_is_that_of_rfc_2104() -> None:
    data = data_of(seal_ticket(TICKET, KEY))
    assert data[-SEAL_BYTES:] == hmac.digest(b"k" * 32, data[:-SEAL_BYTES], "sha256")[:SEAL_BYTES]


def test_each_flipped_bit_is_refused() -> None:
    data = data_of(seal_ticket(TICKET, KEY))
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert refused(text_of(bytes(flipped)))


@given(st.integers(0, 1000), st.characters(codec="ascii"))
def test_each_other_character_is_refused(place: int, other: str) -> None:
    text = seal_ticket(TICKET, KEY)
    at = place % len(text)
    if text[at] != other:
        assert refused(text[:at] + other + text[at + 1 :])


def test_another_process_refuses_it() -> None:
    assert refused(seal_ticket(TICKET, KEY), OTHER)
    assert refused(seal_ticket(TICKET, KEY), OTHER, OTHER)


@given(st.text(max_size=200) | st.binary(max_size=200).map(text_of))
def test_nonsense_is_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("change", ["cut", "longer", "padded", "long"])
def test_other_lengths_are_refused(change: str) -> None:
    text = seal_ticket(TICKET, KEY)
    shown = {"cut": text[:-4], "longer": text + "AAAA", "padded": text + "==", "long": "A" * (TICKET_CHARS_MAX + 1)}
    assert refused(shown[change])


@pytest.mark.parametrize(
    "said",
    [
        b"\x02" + bytes(3) + b"\0\0\0\1" + bytes(24) + b"\0\0",  # another version
        b"\x01" + bytes(3) + b"\0\0\0\0" + bytes(24) + b"\0\0",  # no requests
        b"\x01" + bytes(3) + b"\0\0\0\1" + bytes(24) + b"\1\0",  # no model
        b"\x01" + bytes(3) + b"\0\0\0\1" + bytes(24) + b"\xff\0",  # a name beyond the end
        b"\x01" + bytes(3) + b"\0\0\0\1" + bytes(24) + b"\0\0\0",  # more behind it
        b"\x01" + bytes(3) + b"\0\0\0\1" + bytes(24) + b"\1\xff\0",  # no UTF-8
    ],
)
def test_what_was_sealed_and_makes_no_sense_is_refused(said: bytes) -> None:
    assert refused(text_of(said + KEY.seal(said)))


def test_names_that_are_too_long_are_not_written() -> None:
    with pytest.raises(RequestError) as caught:
        seal_ticket(Ticket(b"issuer-8", 1, "k" * 256, "m", 1, 1), KEY)
    assert caught.value.code == "invalid_request"
