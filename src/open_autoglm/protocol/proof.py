"""A handshake with a signature: what each side has to keep of it until the other has shown that it knows the key.

| a server's is | until | then |
|---|---|---|
| asking | PROOF | proved, or refused by the role |
| proved | WELCOME | over |

| a client's is | until | then |
|---|---|---|
| waiting | CHALLENGE | asked, and PROOF goes |
| asked | the server's PROOF | shown |
| shown | WELCOME, whose bytes the PROOF is for | over |

Invariant: who asked for a signature takes no WELCOME without one, and a server that has asked sends none before the
proof was right. Source: `docs/protocol.md`, "Signatures".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final, Protocol

from open_autoglm.protocol.errors import ProtocolError

CHALLENGE_BYTES: Final = 32
PROOF_BYTES: Final = 32


class Prover(Protocol):
    """A key that handshakes are signed with; see `security.signature.SigningKey`.

    Attributes:
        id: by which the other side finds it.
    """

    id: str

    def client_proof(self, hello: bytes, challenge: bytes) -> bytes:
        """What a client sends as PROOF."""

    def server_proof(self, hello: bytes, challenge: bytes, proof: bytes, welcome: bytes) -> bytes:
        """What a server sends as PROOF."""


class ServerProof:
    """A server's side; see the module.

    Args:
        key: that the client says it has.
        hello: the payload of its HELLO.
        challenge: 32 random bytes.
        told: hears whether the client has the key, once.
    """

    __slots__ = ("_challenge", "_hello", "_key", "_proof", "_told", "proved")

    def __init__(self, key: Prover, hello: bytes, challenge: bytes, told: Callable[[bool], None]) -> None:
        if len(challenge) != CHALLENGE_BYTES:
            raise ValueError(f"a challenge of {len(challenge)} bytes; it has {CHALLENGE_BYTES}")
        self._key = key
        self._hello = hello
        self._challenge = challenge
        self._told = told
        self._proof = b""
        self.proved = False

    def take(self, proof: bytes) -> None:
        """The client's PROOF has come.

        Raises:
            ProtocolError: `invalid_request`: it is the second one.
        """
        if self._proof:
            raise ProtocolError("invalid_request", "PROOF came twice")
        self._proof = proof or b"\0"
        self.proved = hmac.compare_digest(proof, self._key.client_proof(self._hello, self._challenge))
        self._told(self.proved)

    def answer(self, welcome: bytes) -> bytes:
        """The payload of our PROOF."""
        return self._key.server_proof(self._hello, self._challenge, self._proof, welcome)


class ClientProof:
    """A client's side; see the module.

    Args:
        key: that both sides have.
        hello: the payload of our HELLO.
    """

    __slots__ = ("_challenge", "_hello", "_key", "_proof", "_shown")

    def __init__(self, key: Prover, hello: bytes) -> None:
        self._key = key
        self._hello = hello
        self._challenge = b""
        self._proof = b""
        self._shown = b""

    def answer(self, challenge: bytes) -> bytes:
        """CHALLENGE has come; returns the payload of our PROOF.

        Raises:
            ProtocolError: `invalid_request`: it is the second one, or none.
        """
        if self._challenge or len(challenge) != CHALLENGE_BYTES:
            raise ProtocolError("invalid_request", f"CHALLENGE came twice, or has not {CHALLENGE_BYTES} bytes")
        self._challenge = challenge
        self._proof = self._key.client_proof(self._hello, challenge)
        return self._proof

    def take(self, proof: bytes) -> None:
        """The server's PROOF has come; what it is worth turns out with WELCOME.

        Raises:
            ProtocolError: `invalid_request`: it is the second one, or nothing was asked of us yet.
        """
        if self._shown or not self._challenge or len(proof) != PROOF_BYTES:
            raise ProtocolError(
                "invalid_request", f"PROOF came twice, before CHALLENGE, or has not {PROOF_BYTES} bytes"
            )
        self._shown = proof

    def check(self, welcome: bytes) -> None:
        """WELCOME has come.

        Raises:
            ProtocolError: `invalid_signature`: who sent it has not shown that it knows the key.
        """
        expected = self._key.server_proof(self._hello, self._challenge, self._proof, welcome)
        if not self._shown or not hmac.compare_digest(self._shown, expected):
            raise ProtocolError("invalid_signature", "the server has not shown that it knows the key; it is not asked")
