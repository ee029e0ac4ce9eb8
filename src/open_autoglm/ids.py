"""Identifiers: request ids, trace ids and keys.

Request and trace ids need to be unique, not secret, and are made on the request path: a random prefix
per process and a counter. Anything that grants access comes from the operating system's generator.
"""

import secrets
from typing import Final

_CHECK_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


_BLOCK: Final = 4096
_LOW: Final = tuple([f"{low:03x}" for low in range(_BLOCK)])
"""The last three digits of an id: joining two texts costs a tenth of formatting a number."""


class IdSource:
    """Makes request and trace ids that are unique across processes. One thread only.

    Args:
        prefix: 16 lower-case hex digits; random when left out. Tests pass a fixed one.
    """

    __slots__ = ("_block", "_low", "_prefix", "_request", "_trace")

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = prefix if prefix is not None else secrets.token_hex(8)
        self._low = 0
        self._begin_block(0)

    def request_id(self) -> str:
        """Return a new request id, `req-` and 24 hex digits."""
        low = self._low = self._low + 1
        if low == _BLOCK:
            low = self._begin_block(self._block + 1)
        return self._request + _LOW[low]

    def trace_id(self) -> str:
        """Return a new W3C trace id, 32 hex digits, never all zero."""
        low = self._low = self._low + 1
        if low == _BLOCK:
            low = self._begin_block(self._block + 1)
        return self._trace + _LOW[low]

    def _begin_block(self, block: int) -> int:
        """Prepare what the next ids begin with; return the number of the first one in the block."""
        self._block = block
        self._low = 0
        self._request = f"req-{self._prefix}{block:05x}"
        self._trace = f"{self._prefix}{block:013x}"
        return 0


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
