"""A request head that was read before: the next request of a kept-alive client mostly has the same one.

Invariant: a message is taken only if every byte of its head is one of a head that `RequestReader` has accepted under
the same limits, the digits of its Content-Length apart, and if its body ends with the block that it came in. So all
that was checked of the first head holds for this one. Any other message is left to the reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from open_autoglm.transport.http_request import ServerRequest

if TYPE_CHECKING:
    from open_autoglm.transport.http_connection import HttpConnection
    from open_autoglm.transport.settings import WireLimits

_HEAD_BYTES_MAX: Final = 2048
"""Longer heads are not remembered, since each connection may hold one."""
_LENGTH_LINE: Final = b"\r\ncontent-length:"
_DIGITS_MAX: Final = 10
"""Of a length: more than any body may have, so that a head stays within its limits whatever its length is."""


class KnownHead:
    """The head of one message with a body, for the messages after it.

    Args:
        request: that the head belongs to; its method, target and headers stand for those of the next ones.
        limits: that it was held to.
        before, after: its bytes before and after the digits of its length; the blank line is part of it.

    Attributes:
        limits: as above; under others nothing is known.
    """

    __slots__ = ("_after", "_before", "_headers", "_method", "_target", "limits")

    def __init__(self, request: ServerRequest, limits: WireLimits, before: bytes, after: bytes) -> None:
        self.limits = limits
        self._before = before
        self._after = after
        self._method = request.method
        self._target = request.target
        self._headers = {name: value for name, value in request.headers.items() if name != "content-length"}

    @property
    def text(self) -> bytes:
        """The head without its length."""
        return self._before + self._after

    def read(self, connection: HttpConnection, data: bytes) -> ServerRequest | None:
        """Return the request that `data` is, or None when it is not one with this head, or not just one.

        Args:
            connection: where it came from.
            data: the first bytes of a message.
        """
        before = self._before
        if not data.startswith(before):
            return None
        begin = len(before)
        end = data.find(b"\r", begin, begin + _DIGITS_MAX + 1)
        digits = data[begin:end]
        after = self._after
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return None
        start = end + len(after)
        size = int(digits)
        if len(data) - start != size or size > self.limits.body_bytes:
            return None
        return ServerRequest(connection, self._method, self._target, self._headers, data[start:])


def remember_head(request: ServerRequest, data: bytes, limits: WireLimits) -> KnownHead | None:
    """Return the head of a message that is whole and alone in its block, or None when it is not worth knowing.

    Args:
        request: what the reader made of it.
        data: the block.
        limits: that it was held to.
    """
    head_bytes = len(data) - request.body_size
    if (
        not request.complete
        or not request.keep_alive
        or request.problem is not None
        or request.version != "1.1"
        or "content-length" not in request.headers
        or head_bytes > min(_HEAD_BYTES_MAX, limits.header_bytes - _DIGITS_MAX)
        or data.find(b"\r\n\r\n") != head_bytes - 4
    ):
        return None
    begin = data[:head_bytes].lower().find(_LENGTH_LINE) + len(_LENGTH_LINE)
    while data[begin : begin + 1] == b" ":
        begin += 1
    end = data.find(b"\r", begin)
    if not data[begin:end].isdigit() or int(data[begin:end]) != request.body_size:
        return None
    return KnownHead(request, limits, data[:begin], data[end:head_bytes])
