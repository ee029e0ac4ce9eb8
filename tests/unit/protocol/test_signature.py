"""Handshakes with a signature: what the page says, and whatever somebody on the way may do to them."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.protocol.pair import Recording, frames, names

from open_autoglm.protocol import PREFACE, ClientConnection, ConnectionSettings, Hello, ServerConnection, encode_frame
from open_autoglm.protocol.handshake import Welcome, signed, write_hello, write_welcome
from open_autoglm.protocol.opcodes import CHALLENGE, HELLO, PROOF, WELCOME
from open_autoglm.security.signature import SigningKey

KEY = SigningKey("mcp_right-key")
OFFER = Hello(versions=["1.0"], codecs=["json"])
NONCE = "ab" * 16
NUMBER = bytes(range(32))
VECTORS = Path(__file__).parents[3] / "docs" / "protocol" / "vectors" / "signatures.json"


class Handshake:
    """Both ends, and each block between them, which a test may change."""

    def __init__(self, key: SigningKey = KEY, number: bytes = NUMBER, nonce: str = NONCE) -> None:
        self.asking, self.answering = Recording(), Recording()
        self.told: list[bool] = []
        self.server = ServerConnection(self.answering, lambda: None, ConnectionSettings(), 0.0)
        self.answering.on_hello = lambda hello: self.server.challenge(KEY, number, self._tell)  # type: ignore[attr-defined]
        hello = signed(OFFER, key.id, nonce)
        self.client = ClientConnection(hello, self.asking, lambda: None, ConnectionSettings(), 0.0, key)

    def _tell(self, right: bool) -> None:
        self.told.append(right)
        if right:
            self.server.accept("c-1")

    def up(self) -> bytes:
        return b"".join(self.client.take())

    def down(self) -> bytes:
        return b"".join(self.server.take())

    def run(self, block: int = -1, change: Any = None) -> None:
        """Carry the four blocks over, one of them changed."""
        for number in range(4):
            data = self.down() if number & 1 else self.up()
            if number == block:
                data = change(data)
            (self.client if number & 1 else self.server).receive(data, 0.0)


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text("utf-8")), ids=lambda vector: vector["name"])
def test_a_vector_by_the_words_of_the_page(vector: dict[str, Any]) -> None:
    def mac(key: bytes, *said: bytes) -> bytes:
        return hmac.new(key, b"".join(said), hashlib.sha256).digest()

    hello, challenge, proof, welcome = (
        bytes.fromhex(vector[f"{name}_hex"]) for name in ("hello", "challenge", "client_proof", "welcome")
    )
    key = mac(vector["key"].encode(), b"MCP 1.0 signature")
    covered = len(hello).to_bytes(4, "big") + hello + challenge
    assert mac(key, b"MCP 1.0 key id")[:16].hex() == vector["key_id"] == json.loads(hello)["auth"]["signature"]["key"]
    assert mac(key, b"MCP 1.0 client proof\0", covered) == proof
    assert mac(key, b"MCP 1.0 server proof\0", covered, proof, welcome).hex() == vector["server_proof_hex"]
    sent = {
        side: bytes.fromhex("".join(step["bytes_hex"] for step in vector["steps"] if step["from"] == side))
        for side in ("client", "server")
    }
    assert [(opcode, payload) for opcode, *_, payload in frames(sent["client"][8:])] == [(HELLO, hello), (PROOF, proof)]
    assert [(opcode, payload) for opcode, *_, payload in frames(sent["server"])] == [
        (CHALLENGE, challenge), (PROOF, bytes.fromhex(vector["server_proof_hex"])), (WELCOME, welcome)
    ]  # fmt: skip


def test_who_knows_the_key_is_let_in_and_never_says_it() -> None:
    handshake = Handshake()
    said = handshake.up()
    handshake.server.receive(said, 0.0)
    asked = handshake.down()
    handshake.client.receive(asked, 0.0)
    proof = handshake.up()
    handshake.server.receive(proof, 0.0)
    answer = handshake.down()
    handshake.client.receive(answer, 0.0)
    assert (names(asked), names(proof), names(answer)) == (["CHALLENGE"], ["PROOF"], ["PROOF", "WELCOME"])
    assert handshake.told == [True]
    assert handshake.client.opened
    assert b"right-key" not in said + asked + proof + answer


def test_a_server_lets_nobody_in_before_the_proof() -> None:
    handshake = Handshake()
    handshake.server.receive(handshake.up(), 0.0)
    handshake.down()
    handshake.server.accept("c-1")
    assert handshake.server.take() == []
    assert not handshake.server.opened


@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(1, 255))
def test_whatever_payload_is_changed_on_the_way_nobody_is_let_in(block: int, at: int, bits: int) -> None:
    handshake = Handshake()

    def change(data: bytes) -> bytes:
        starts = {0: [len(PREFACE) + 16], 1: [16], 2: [16], 3: [16, 16 + 32 + 16]}[block]
        payloads = [place for place in range(starts[0], len(data)) if not starts[0] + 32 <= place < starts[-1]]
        place = payloads[at % len(payloads)]
        return data[:place] + bytes((data[place] ^ bits,)) + data[place + 1 :]

    handshake.run(block, change)
    assert not handshake.client.opened


@given(st.binary(max_size=80))
def test_no_proof_but_the_right_one_counts(proof: bytes) -> None:
    handshake = Handshake()
    handshake.server.receive(handshake.up(), 0.0)
    handshake.down()
    handshake.server.receive(encode_frame(PROOF, 0, proof), 0.0)
    assert handshake.told == [False]
    assert not handshake.server.opened


def test_a_recorded_handshake_is_worth_nothing_on_another_connection() -> None:
    first = Handshake()
    hello = first.up()
    first.server.receive(hello, 0.0)
    first.client.receive(first.down(), 0.0)
    proof = first.up()
    again = Handshake(number=bytes(32))
    again.server.receive(hello + proof, 0.0)
    assert again.told == [False]


def test_a_recorded_server_is_worth_nothing_to_another_client() -> None:
    first = Handshake()
    first.server.receive(first.up(), 0.0)
    asked = first.down()
    first.client.receive(asked, 0.0)
    first.server.receive(first.up(), 0.0)
    answer = first.down()
    later = Handshake(nonce="cd" * 16)
    later.up()
    later.client.receive(asked + answer, 0.0)
    assert not later.client.opened
    assert later.asking.take()[-1][:2] == ("closed", "invalid_signature")


def test_a_client_with_another_key_is_not_let_in() -> None:
    handshake = Handshake(SigningKey("mcp_wrong-key"))
    handshake.run()
    assert handshake.told == [False]


def test_the_server_s_own_proof_is_none_of_a_client() -> None:
    handshake = Handshake()
    hello = handshake.up()
    handshake.server.receive(hello, 0.0)
    handshake.down()
    mirrored = KEY.server_proof(hello[len(PREFACE) + 16 :], NUMBER, b"", b"")
    handshake.server.receive(encode_frame(PROOF, 0, mirrored), 0.0)
    assert handshake.told == [False]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="json"))), "invalid_signature"),
        (encode_frame(PROOF, 0, bytes(32)), "invalid_request"),
        (encode_frame(CHALLENGE, 0, bytes(31)), "invalid_request"),
        (encode_frame(CHALLENGE, 0, bytes(32)) * 2, "invalid_request"),
        (encode_frame(CHALLENGE, 0, bytes(32)) + encode_frame(PROOF, 0, bytes(32)) * 2, "invalid_request"),
        (encode_frame(CHALLENGE, 0, bytes(32)) + encode_frame(PROOF, 0, bytes(5)), "invalid_request"),
        (
            encode_frame(CHALLENGE, 0, bytes(32))
            + encode_frame(PROOF, 0, bytes(32))
            + encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="json"))),
            "invalid_signature",
        ),
    ],
)
def test_a_client_that_signs_takes_nothing_less(said: bytes, code: str) -> None:
    handshake = Handshake()
    handshake.up()
    handshake.client.receive(said, 0.0)
    assert not handshake.client.opened
    assert handshake.asking.take()[-1][:2] == ("closed", code)


def test_who_did_not_ask_for_a_signature_is_not_challenged() -> None:
    client = ClientConnection(OFFER, role := Recording(), lambda: None, ConnectionSettings(), 0.0)
    client.receive(encode_frame(CHALLENGE, 0, bytes(32)), 0.0)
    assert role.take()[0][:2] == ("closed", "invalid_request")


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ({"key": "ab" * 16, "nonce": "ab" * 15}, "invalid_request"),
        ({"key": "AB" * 16, "nonce": "ab" * 16}, "invalid_request"),
        ({"key": "ab" * 8, "nonce": "ab" * 16}, "invalid_request"),
        ({"nonce": "ab" * 16}, "invalid_request"),
        ({"key": "ab" * 16, "nonce": "ab" * 16, "algorithm": "none"}, "not_implemented"),
    ],
)
def test_a_signature_that_cannot_be_checked_is_refused(signature: dict[str, str], code: str) -> None:
    server = ServerConnection(role := Recording(), lambda: None, ConnectionSettings(), 0.0)
    hello = {"versions": ["1.0"], "codecs": ["json"], "auth": {"signature": signature}}
    server.receive(PREFACE + encode_frame(HELLO, 0, json.dumps(hello).encode()), 0.0)
    assert role.take()[0][:2] == ("closed", code)


def test_a_second_proof_ends_the_connection() -> None:
    handshake = Handshake()
    handshake.answering.on_hello = lambda hello: handshake.server.challenge(KEY, NUMBER, handshake.told.append)  # type: ignore[attr-defined]
    handshake.server.receive(handshake.up(), 0.0)
    handshake.server.receive(encode_frame(PROOF, 0, bytes(32)) * 2, 0.0)
    assert handshake.told == [False]
    assert handshake.answering.take()[-1][:2] == ("closed", "invalid_request")


def test_a_key_shows_nothing_of_itself() -> None:
    assert "right" not in repr(KEY)
    assert KEY.id not in (KEY.client_proof(b"", b"").hex(), SigningKey("other").id)
    assert write_hello(signed(OFFER, KEY.id, NONCE)).count(b"right-key") == 0
