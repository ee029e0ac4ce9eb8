"""An upstream's answer: who takes it, what its headers say, and how it can be lost."""

from __future__ import annotations

from typing import Literal, Protocol

Loss = Literal["stale", "connect", "reset", "malformed"]
"""Why an exchange of bytes failed: a kept connection was closed before a byte of the answer; none could be opened;
closed or cut later; not HTTP."""


class Headers:
    """The headers of an answer, as sent; asked for by name. Trailers are added to them as they come.

    Attributes:
        content_type: as `get` returns it, where these headers stand for those of many answers; else empty.
    """

    __slots__ = ("content_type", "raw")

    def __init__(self) -> None:
        self.content_type = ""
        self.raw: dict[bytes, bytes] = {}

    def without(self, lower: bytes) -> Headers:
        """Return these headers but for one, which is given in lower case, to be kept."""
        others = Headers()
        others.raw = {name: value for name, value in self.raw.items() if name.lower() != lower}
        others.content_type = others.get(b"content-type", b"Content-Type")
        return others

    def get(self, lower: bytes, title: bytes) -> str:
        """Return a header's value, empty when there is none.

        Args:
            lower, title: its name in the two usual spellings; any other is found too, more slowly.
        """
        raw = self.raw
        value = raw.get(title)
        if value is None:
            value = raw.get(lower)
            if value is None:
                value = next((found for name, found in raw.items() if name.lower() == lower), b"")
        return value.decode("latin-1").strip(" \t")


class AnswerSink(Protocol):
    """Who takes an answer. None of these may raise or block."""

    def on_sent(self, reused: bool) -> None:
        """The request was written, on a connection that had (not) served before."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The head has come."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, without its framing."""

    def on_end(self) -> None:
        """The body is whole."""

    def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
        """Head and body have come in one block: told at once, instead of `on_head`, `on_data` and `on_end`."""

    def on_lost(self, loss: Loss, detail: str) -> None:
        """There will be no (more) answer."""
