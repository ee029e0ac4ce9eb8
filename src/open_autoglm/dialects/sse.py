"""An incremental reader of server-sent events that takes any legal stream in any split.

Rules: WHATWG HTML, section 9.2.6 (event stream interpretation): lines end with CR, LF or both; one byte order mark at
the beginning is dropped; `data` lines are joined by LF; comments, ids, retry times and unknown fields are passed over.
One thing is added: a stream that ends cleanly within its last event still gives that event, since many servers leave
out the last blank line; whoever reads its data finds out whether it is whole.

Invariant: what it keeps is at most one line and one event, each of at most `LINE_BYTES_MAX`.
"""

from __future__ import annotations

from typing import Final

LINE_BYTES_MAX: Final = 2**20

_BOM: Final = b"\xef\xbb\xbf"

ServerEvent = tuple[bytes, bytes]
"""Name (empty for `message`) and data of an event."""


class EventReader:
    """Cuts a stream of bytes into events.

    Args:
        begun: the stream's beginning has been read elsewhere, so no byte order mark can come.

    Attributes:
        failure: why the stream cannot be read on, or empty. Afterwards nothing more comes out.
    """

    __slots__ = ("_after_cr", "_data", "_data_bytes", "_first", "_line", "_name", "failure")

    def __init__(self, *, begun: bool = False) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""
        self._first = not begun
        self._after_cr = False
        self.failure = ""

    @property
    def idle(self) -> bool:
        """Whether nothing is kept: the next byte begins a line outside any event."""
        return not (self._line or self._data or self._name or self._after_cr or self.failure)

    def feed(self, payload: bytes) -> list[ServerEvent]:
        """The events that `payload` completes."""
        if self.failure or not payload:
            return []
        if self._after_cr and payload[0] == 0x0A:
            payload = payload[1:]
        self._after_cr = payload[-1:] == b"\r"
        if b"\r" in payload:
            payload = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[ServerEvent] = []
        begin = 0
        while True:
            end = payload.find(b"\n", begin)
            if end < 0:
                break
            self._line += payload[begin:end]
            begin = end + 1
            line = bytes(self._line)
            self._line.clear()
            if not self._take(line, events):
                return events
        self._line += payload[begin:]
        if len(self._line) > LINE_BYTES_MAX:
            self._fail()
        return events

    def end(self) -> list[ServerEvent]:
        """The event that the end of the stream completes, if there is one."""
        events: list[ServerEvent] = []
        if not self.failure:
            line = bytes(self._line)
            self._line.clear()
            if not line or self._take(line, events):
                self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerEvent]) -> bool:
        """Take one whole line; False when reading must stop."""
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append((self._name, b"\n".join(self._data)))
                self._data.clear()
                self._data_bytes = 0
            self._name = b""
            return True
        if len(line) > LINE_BYTES_MAX:
            return self._fail()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > LINE_BYTES_MAX:
                return self._fail()
            self._data.append(value)
        elif name == b"event":
            self._name = value
        return True

    def _fail(self) -> bool:
        self.failure = f"a line or event of more than {LINE_BYTES_MAX} bytes"
        self._line.clear()
        self._data.clear()
        return False
