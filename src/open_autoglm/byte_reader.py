"""Reads numbers and texts one after the other from bytes that may hold anything.

Invariant: nothing is read beyond the end, and whatever is not as it should be is raised as the reader's `failure`.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Any, ClassVar


class ByteReader:
    """See the module; who reads something of its own adds methods, and names its error.

    Args:
        data: to read.

    Attributes:
        failure: what is raised, with what is wrong as its only argument.
        at: where the next reading begins.
    """

    __slots__ = ("_data", "at")

    failure: ClassVar[type[ValueError]] = ValueError

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def ended(self) -> bool:
        """Whether all was read."""
        return self.at == len(self._data)

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        end = self.at + count
        if end > len(self._data):
            raise self.failure(f"{len(self._data)} bytes end too early: {count} more were to come at {self.at}")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def byte(self) -> int:
        """Return a number from 0 to 255."""
        return self.take(1)[0]

    def unpack(self, layout: Layout) -> tuple[Any, ...]:
        """Return the numbers of a layout."""
        return layout.unpack(self.take(layout.size))

    def text(self, bytes_max: int) -> str:
        """Return a text that can be shown: its length in one byte, and so many bytes of UTF-8."""
        length = self.byte()
        if length > bytes_max:
            raise self.failure(f"a text has {length} bytes where {bytes_max} are the most")
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError as error:
            raise self.failure("a text is not UTF-8") from error
        if not text.isprintable():
            raise self.failure("a text holds characters that cannot be shown")
        return text


def write_text(text: str) -> bytes:
    """Return a text as `ByteReader.text` reads it.

    Raises:
        ValueError: it has more than 255 bytes.
    """
    data = text.encode()
    return bytes((len(data),)) + data
