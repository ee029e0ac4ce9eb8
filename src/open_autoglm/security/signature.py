"""Signatures of handshakes: both sides show that they know a key, and none of them says it.

| from | says | proves |
|---|---|---|
| client | HELLO: the key's id, a nonce | |
| server | CHALLENGE: 32 random bytes | |
| client | PROOF: HMAC over HELLO and CHALLENGE | that it knows the key, now and on this connection |
| server | PROOF: HMAC over all that and WELCOME, which follows | that it knows the key, and wrote this WELCOME |

HMAC-SHA256 (RFC 2104) throughout. The key of the proofs is made of the API key one way: who holds it can sign, and does
not learn the API key. A proof is worth nothing on another connection, since both sides put something random into it;
so no clocks are compared, and nothing has to be remembered. Source: `docs/protocol.md`, "Signatures".
"""

from __future__ import annotations

import hmac
from typing import Final

NONCE_BYTES: Final = 16
"""Of a client, drawn anew for each connection."""
_ID_BYTES: Final = 16
_LENGTH_BYTES: Final = 4


class SigningKey:
    """Signs and checks handshakes with one key; implements `protocol.proof.Prover`.

    Args:
        secret: the API key, or what else both sides know.

    Attributes:
        id: 32 hexadecimal digits, by which the other side finds the key.
    """

    __slots__ = ("_key", "id")

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode("utf-8", "surrogateescape"), b"MCP 1.0 signature", "sha256")
        self.id: str = hmac.digest(self._key, b"MCP 1.0 key id", "sha256")[:_ID_BYTES].hex()

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"

    def client_proof(self, hello: bytes, challenge: bytes) -> bytes:
        """What a client sends as PROOF.

        Args:
            hello: the payload of HELLO, as it was sent.
            challenge: that of CHALLENGE.
        """
        return self._proof(b"MCP 1.0 client proof\0", hello, challenge)

    def server_proof(self, hello: bytes, challenge: bytes, proof: bytes, welcome: bytes) -> bytes:
        """What a server sends as PROOF, before WELCOME.

        Args:
            hello, challenge: as for the client's.
            proof: the payload of the client's PROOF.
            welcome: that of the WELCOME that follows.
        """
        return self._proof(b"MCP 1.0 server proof\0", hello, challenge + proof + welcome)

    def _proof(self, label: bytes, hello: bytes, rest: bytes) -> bytes:
        return hmac.digest(self._key, label + len(hello).to_bytes(_LENGTH_BYTES) + hello + rest, "sha256")
