"""A client that is a bare socket: for what well-behaved clients do not do."""

from __future__ import annotations

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from tests.integration.running import KEY, RunningServer
from tests.integration.upstreams import RESET


class RawClient:
    """One connection to a server.

    Args:
        server: to connect to.
        receive_buffer: bytes that the system keeps for this socket; 0 for its own choice.
        source: address to come from.
    """

    def __init__(self, server: RunningServer, *, receive_buffer: int = 0, source: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((source, 0))
        self.socket.settimeout(20.0)
        address = urlsplit(server.url)
        self.socket.connect((address.hostname, address.port))
        self.received = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, body: dict[str, Any] | bytes, path: str = "/v1/chat/completions", **headers: str) -> None:
        """Send a request."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": "test", "authorization": f"Bearer {KEY}", "content-length": str(len(content))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content)

    def read_until(self, wanted: bytes) -> bytes:
        """Read until something has come."""
        while wanted not in self.received:
            data = self.socket.recv(65536)
            assert data, f"closed before {wanted!r}: {self.received[-500:]!r}"
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        """Read until the server closes."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def broken_stream(self) -> bytes:
        """Read a stream that breaks; check that by its framing nobody can take it for whole; return its body."""
        head, _, body = self.read_all().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head + body
        assert b"transfer-encoding: chunked" in head
        assert not body.endswith(b"0\r\n\r\n"), "a broken stream has no last chunk"
        whole = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            whole += rest[: int(size, 16)]
            body = rest[int(size, 16) + 2 :]
        return whole

    def broken_events(self) -> list[dict[str, Any]]:
        """The events of a stream that breaks. `[DONE]` is not among them."""
        body = self.broken_stream()
        assert b"[DONE]" not in body
        assert body.endswith(b"\n\n")
        return [json.loads(part.removeprefix(b"data: ")) for part in body.split(b"\n\n")[:-1]]

    def close(self) -> float:
        """Leave in order; return when."""
        now_s = time.monotonic()
        self.socket.close()
        return now_s

    def reset(self) -> float:
        """Leave with RST; return when."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return self.close()
