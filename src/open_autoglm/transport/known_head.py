"""Heads that were read before: the next message on a kept-alive connection mostly has the same one.

Invariant: a message is taken only if every byte of its head is one of a head that a parser has accepted under the same
limits, the digits of its Content-Length apart, and if its body ends with the block that it came in. So all that was
checked of the first head holds for this one. Any other message is left to the parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from open_autoglm.transport.http_answer import Headers
    from open_autoglm.transport.http_request import ServerRequest
    from open_autoglm.transport.settings import WireLimits

_HEAD_BYTES_MAX: Final = 2048
"""Longer heads are not remembered, since each connection may hold one."""
_LENGTH_LINE: Final = b"\r\ncontent-length:"
_DIGITS_MAX: Final = 10
"""Of a length: more than any body may have, so that a head stays within its limits whatever its length is."""
_UNLIMITED: Final = 1 << 62

Said = TypeVar("Said")


class KnownHead(Generic[Said]):
    """The head of one message with a body, for the messages after it.

    One class for requests and answers: the interpreter is quick with attributes only where objects are of one class.

    Args:
        before, after: its bytes before and after the digits of its length; the blank line is part of it.
        body_bytes: that a body may have.
        said: what the head says, the length left out.

    Attributes:
        said: as above; it stands for what the next heads say, and is not to be changed.
    """

    __slots__ = ("_after", "_after_bytes", "_before", "_begin", "_body_bytes", "_digits", "said")

    def __init__(self, before: bytes, after: bytes, body_bytes: int, said: Said) -> None:
        self.said = said
        self._before = before
        self._begin = len(before)
        self._after = after
        self._after_bytes = len(after)
        self._body_bytes = body_bytes
        self._digits = 1

    @property
    def text(self) -> bytes:
        """The head without its length."""
        return self._before + self._after

    def body_of(self, data: bytes) -> bytes | None:
        """Return the body of the message that `data` is, or None when it is not one with this head, or not just one.

        Args:
            data: the first bytes of a message.
        """
        begin = self._begin
        if data[:begin] != self._before:
            return None
        # The last length had so many digits; slices cost less than a search.
        end = begin + self._digits
        start = end + self._after_bytes
        if data[end:start] != self._after:
            end = data.find(b"\r", begin, begin + _DIGITS_MAX + 1)
            start = end + self._after_bytes
            if end < 0 or data[end:start] != self._after:
                return None
            self._digits = end - begin
        size = len(data) - start
        if data[begin:end] != b"%d" % size or size > self._body_bytes:
            return None
        return data[start:]


class RequestHead:
    """What the head of a request says.

    Attributes:
        limits: that it was held to; under others nothing is known.
        method, target, headers: as in `ServerRequest`.
    """

    __slots__ = ("headers", "limits", "method", "target")

    def __init__(self, request: ServerRequest, limits: WireLimits) -> None:
        self.limits = limits
        self.method = request.method
        self.target = request.target
        self.headers = {name: value for name, value in request.headers.items() if name != "content-length"}


def remember_head(request: ServerRequest, data: bytes, limits: WireLimits) -> KnownHead[RequestHead] | None:
    """Return the head of a message that is whole and alone in its block, or None when it is not worth knowing.

    Args:
        request: what the reader made of it.
        data: the block.
        limits: that it was held to.
    """
    if (
        not request.complete
        or not request.keep_alive
        or request.problem is not None
        or request.version != "1.1"
        or "content-length" not in request.headers
    ):
        return None
    parts = _cut_length_out(data, request.body_size, min(_HEAD_BYTES_MAX, limits.header_bytes - _DIGITS_MAX))
    return None if parts is None else KnownHead(*parts, limits.body_bytes, RequestHead(request, limits))


def remember_answer(headers: Headers, data: bytes, body_bytes: int) -> KnownHead[Headers] | None:
    """Return the head of an answer that is whole and alone in its block, or None when it is not worth knowing.

    Args:
        headers: as the parser saw them. The status was 200, and the server keeps the connection.
        data: the block.
        body_bytes: size of its body.
    """
    names = [name.lower() for name in headers.raw]
    parts = _cut_length_out(data, body_bytes, _HEAD_BYTES_MAX)
    if parts is None or names.count(b"content-length") != 1 or b"transfer-encoding" in names:
        return None
    return KnownHead(*parts, _UNLIMITED, headers.without(b"content-length"))


def _cut_length_out(data: bytes, body_bytes: int, head_bytes_max: int) -> tuple[bytes, bytes] | None:
    """Return what surrounds the digits of the only length of a head; None when the message is not just that."""
    head_bytes = len(data) - body_bytes
    if head_bytes > head_bytes_max or data.find(b"\r\n\r\n") != head_bytes - 4:
        return None
    lower = data[:head_bytes].lower()
    if lower.count(_LENGTH_LINE) != 1:
        return None
    begin = lower.find(_LENGTH_LINE) + len(_LENGTH_LINE)
    while data[begin : begin + 1] == b" ":
        begin += 1
    end = data.find(b"\r", begin)
    if not data[begin:end].isdigit() or int(data[begin:end]) != body_bytes:
        return None
    return data[:begin], data[end:head_bytes]
