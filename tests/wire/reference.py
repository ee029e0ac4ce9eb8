"""What h11 makes of a client's bytes: the reference that the server's shell is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import h11

from open_autoglm.transport.http_request import KEPT_HEADERS

Seen = tuple[bytes, bytes, dict[str, bytes], bytes]
"""Method, target, kept headers, body."""


def kept(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """The headers that the server keeps, by lower-case name, without blanks around them.

    Those that frame the body are left out: the body itself shows how they were read.
    """
    found: dict[str, bytes] = {}
    for name, value in headers:
        lower = name.lower().decode("latin-1")
        if lower in KEPT_HEADERS and lower not in ("content-length", "transfer-encoding"):
            found[lower] = found[lower] + b", " + value.strip(b" \t") if lower in found else value.strip(b" \t")
    return found


def read_by_h11(blocks: Iterable[bytes]) -> tuple[list[Seen], bool]:
    """Read requests, each answered at once; whether the bytes were refused at last."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    seen: list[Seen] = []
    request: h11.Request | None = None
    body = b""
    for block in blocks:
        try:
            connection.receive_data(block)
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    request, body = event, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert request is not None
                    seen.append((request.method, request.target, kept(request.headers.raw_items()), body))
                    if request.method == b"CONNECT":
                        return seen, False
                    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is h11.MUST_CLOSE:
                        return seen, False
                    connection.start_next_cycle()
                else:
                    break
        except h11.RemoteProtocolError:
            return seen, True
    return seen, False
