"""Identifiers: request ids, trace ids and keys.

Request and trace ids need to be unique, not secret, and are made on the request path: a random prefix
per process and a counter. Anything that grants access comes from the operating system's generator.
"""

import itertools
import secrets

_CHECK_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class IdSource:
    """Makes request and trace ids that are unique across processes.

    Args:
        prefix: 16 lower-case hex digits; random when left out. Tests pass a fixed one.
    """

    __slots__ = ("_count", "_prefix")

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = prefix if prefix is not None else secrets.token_hex(8)
        self._count = itertools.count(1)

    def request_id(self) -> str:
        """Return a new request id, `req-` and 24 hex digits."""
        return f"req-{self._prefix}{next(self._count):08x}"

    def trace_id(self) -> str:
        """Return a new W3C trace id, 32 hex digits, never all zero."""
        return f"{self._prefix}{next(self._count):016x}"


def new_key() -> str:
    """Return a new API key: `mcp_`, 64 hex digits from 256 random bits, and two check characters."""
    body = secrets.token_hex(32)
    return f"mcp_{body}{key_check(body)}"


def key_check(body: str) -> str:
    """Return the two check characters of a key's body; they catch typing errors, they are not a secret."""
    total = 0
    for character in body:
        total = (total * 31 + ord(character)) % 1296
    return _CHECK_ALPHABET[total // 36] + _CHECK_ALPHABET[total % 36]
