"""Plain blocking sockets: the first answer of a fresh process, one checked answer, and connections held open.

Everything here is for one connection at a time; load comes from `wrk` and `stream_load`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from benchmarks.rig.payload import KEY, PATH

CONNECT_RETRY_S: Final = 0.003
ANSWER_TIMEOUT_S: Final = 20.0
ANSWER_BYTES_MAX: Final = 1 << 20


def post_bytes(body: bytes, port: int) -> bytes:
    """The whole request, head and body."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def parse_answer(data: bytes) -> tuple[int, bytes] | None:
    """Status and body once `data` holds a whole answer, else `None`. Understands Content-Length and chunked framing.

    Raises:
        ValueError: the bytes are no HTTP answer, or its framing is broken.
    """
    head, split, rest = data.partition(b"\r\n\r\n")
    if not split:
        return None
    status_line, *lines = head.split(b"\r\n")
    status = int(status_line.split()[1])
    headers = {
        name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)
    }
    if headers.get(b"transfer-encoding") == b"chunked":
        body = _dechunked(rest)
        return None if body is None else (status, body)
    length = int(headers.get(b"content-length", b"0"))
    return (status, rest[:length]) if len(rest) >= length else None


def _dechunked(data: bytes) -> bytes | None:
    parts: list[bytes] = []
    while True:
        line, split, data = data.partition(b"\r\n")
        if not split:
            return None
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return b"".join(parts) if data.endswith(b"\r\n") else None
        if len(data) < size + 2:
            return None
        parts.append(data[:size])
        data = data[size + 2 :]


def exchange(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Sends a request on an open connection and reads its answer: status and body.

    Raises:
        OSError: the connection broke or stayed silent for `ANSWER_TIMEOUT_S` seconds.
        ValueError: what came back is no HTTP answer, or longer than 1 MiB.
    """
    connection.sendall(request)
    data = b""
    while len(data) < ANSWER_BYTES_MAX:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {len(data)} bytes of the answer")
        data += part
        answer = parse_answer(data)
        if answer is not None:
            return answer
    raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")


def connect(port: int) -> socket.socket:
    """A connection to 127.0.0.1:`port` with a deadline on every wait."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(port: int, body: bytes) -> tuple[int, bytes]:
    """One POST on a connection of its own: status and body."""
    with connect(port) as connection:
        return exchange(connection, post_bytes(body, port))


def wait_first_answer(port: int, body: bytes, deadline_s: float, alive: Callable[[], bool]) -> str:
    """Asks until a 200 comes. Returns an empty string, or why none came before `deadline_s` (monotonic seconds)."""
    last = "nothing listened"
    while time.monotonic() < deadline_s:
        if not alive():
            return "the process ended"
        try:
            status, answer = ask(port, body)
        except (OSError, ValueError) as error:
            last = repr(error)
        else:
            if status == 200:
                return ""
            last = f"status {status}: {answer[:120]!r}"
        time.sleep(CONNECT_RETRY_S)
    return last


def hold(port: int, count: int, request: bytes | None) -> list[socket.socket]:
    """Opens `count` connections and leaves them open; with `request`, each has had one answer of status 200.

    Raises:
        OSError: the target refuses or closes connections.
        ValueError: an answer is not a 200.
    """
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = connect(port)
            held.append(connection)
            if request is not None:
                status, _ = exchange(connection, request)
                if status != 200:
                    raise ValueError(f"connection {len(held)} was answered with status {status}")
    except BaseException:
        release(held)
        raise
    return held


def still_open(held: list[socket.socket]) -> int:
    """How many of the held connections the other side has not closed."""
    alive = 0
    for connection in held:
        connection.setblocking(False)
        try:
            alive += connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            alive += 1
        except OSError:
            pass
    return alive


def release(held: list[socket.socket]) -> None:
    """Closes held connections."""
    for connection in held:
        connection.close()
