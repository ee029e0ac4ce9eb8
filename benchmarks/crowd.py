"""Many connections to a server, held by one small process: raw sockets and epoll, told what to do on standard input.

`python -m benchmarks.crowd ADDRESS --count 12500 --first 1 --kind framed`: connects, says what it saw as JSON, waits
for a line `ping SECONDS PER_SECOND`, pings connections that are chosen at random, says what it saw, and waits for its
input to end. A server's own pings are answered meanwhile, as any client must.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import select
import socket
import struct
import sys
import time
from typing import Any, Final

KEY: Final = "key-of-the-crowd"
_HEADER: Final = struct.Struct(">IBBHII")
_HELLO, _WELCOME, _PING, _PONG = 1, 2, 3, 4
_PREFACE: Final = b"\0MCP\x01\0\0\0"
_PER_ADDRESS: Final = 5000
"""Connections from one source address: there are some 28,000 ports for each."""
_CONNECTING_MAX: Final = 64
_OPEN_S: Final = 300.0
_LAST_PONG_S: Final = 5.0
"""A ping that has no answer by then is lost."""
_REQUEST: Final = f"GET /healthz HTTP/1.1\r\nhost: crowd\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()


def hello() -> bytes:
    """What a framed client says first."""
    body = json.dumps({"versions": ["1.0"], "codecs": ["msgpack", "json"], "auth": {"key": KEY}}).encode()
    return _PREFACE + _HEADER.pack(len(body), _HELLO, 0, 0, 0, 0) + body


class Crowd:
    """See the module.

    Args:
        address: of the server.
        kind: `framed` or `http`.
        first: the third byte of the first source address, 127.0.FIRST.1.
    """

    def __init__(self, address: tuple[str, int], kind: str, first: int) -> None:
        self._address = address
        self._framed = kind == "framed"
        self._greeting = hello() if self._framed else _REQUEST
        self._first = first
        self._poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._connecting: set[int] = set()
        self._asked: dict[int, float] = {}
        self._kept: dict[int, bytes] = {}
        self.seconds: list[float] = []
        self.lost = self.closed = self.refused = self.server_pings = 0

    def open(self, count: int) -> None:
        """Connect and be let in.

        Raises:
            TimeoutError: not all were let in.
        """
        until_s = time.monotonic() + _OPEN_S
        made = 0
        while made < count or self._connecting or self._asked:
            while made < count and len(self._connecting) + len(self._asked) < _CONNECTING_MAX:
                self._connect(made)
                made += 1
            self._turn(0.1)
            if time.monotonic() > until_s:
                raise TimeoutError(f"{len(self._asked)} of {made} were not let in in {_OPEN_S:g} s")

    def ping(self, seconds: float, per_s: float) -> None:
        """Ping connections at random, evenly over time."""
        self.seconds.clear()
        began_s = time.monotonic()
        sent = 0
        numbers = list(self._socks)
        while (now_s := time.monotonic()) < began_s + seconds:
            while sent < (now_s - began_s) * per_s:
                self._ask(random.choice(numbers))
                sent += 1
            self._turn(max(0.0, min(0.05, began_s + (sent + 1) / per_s - now_s)))
        until_s = time.monotonic() + _LAST_PONG_S
        while self._asked and time.monotonic() < until_s:
            self._turn(0.05)
        self.lost += len(self._asked)

    def hold(self) -> None:
        """Answer the server until standard input has something to say."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while not self._turn(1.0):
            pass
        self._poll.unregister(sys.stdin.fileno())

    def told(self) -> dict[str, Any]:
        """Figures so far."""
        return {
            "open": len(self._socks),
            "refused": self.refused,
            "closed": self.closed,
            "lost": self.lost,
            "server_pings": self.server_pings,
            "seconds": self.seconds,
        }

    def _connect(self, number: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.{self._first + number // _PER_ADDRESS}.1", 0))
        sock.connect_ex(self._address)
        self._socks[sock.fileno()] = sock
        self._connecting.add(sock.fileno())
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _ask(self, number: int) -> None:
        sock = self._socks.get(number)
        if sock is None or number in self._asked:
            return
        self._asked[number] = time.monotonic()
        sock.send(_HEADER.pack(0, _PING, 0, 0, 0, 7) if self._framed else _REQUEST)

    def _turn(self, wait_s: float) -> bool:
        """Take what has come; returns whether standard input is one of it."""
        spoken = False
        for number, _ in self._poll.poll(wait_s, 512):
            if number == sys.stdin.fileno() and number not in self._socks:
                spoken = True
            elif number in self._connecting:
                self._connecting.discard(number)
                self._poll.modify(number, select.EPOLLIN)
                self._asked[number] = time.monotonic()
                if self._socks[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.refused += 1
                    self._drop(number)
                else:
                    self._socks[number].send(self._greeting)
            else:
                self._read(number)
        return spoken

    def _read(self, number: int) -> None:
        sock = self._socks[number]
        try:
            data = sock.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.closed += 1
            self._drop(number)
        elif self._framed:
            self._frames(number, self._kept.pop(number, b"") + data)
        elif b"\r\n\r\n" in data:
            self._answered(number)

    def _frames(self, number: int, data: bytes) -> None:
        while len(data) >= _HEADER.size:
            length, opcode, _, _, _, arg = _HEADER.unpack_from(data)
            end = _HEADER.size + length
            if len(data) < end:
                break
            if opcode == _PING:
                self.server_pings += 1
                self._socks[number].send(_HEADER.pack(0, _PONG, 0, 0, 0, arg))
            elif opcode in (_WELCOME, _PONG):
                self._answered(number)
            data = data[end:]
        if data:
            self._kept[number] = data

    def _answered(self, number: int) -> None:
        asked_s = self._asked.pop(number, None)
        if asked_s is not None:
            self.seconds.append(time.monotonic() - asked_s)

    def _drop(self, number: int) -> None:
        self.lost += self._asked.pop(number, None) is not None
        self._poll.unregister(number)
        self._socks.pop(number).close()


def main() -> None:
    """Do as the words and standard input say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--kind", choices=("framed", "http"), default="framed")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host, _, port = given.address.rpartition(":")
    crowd = Crowd((host, int(port)), given.kind, given.first)
    crowd.open(given.count)
    crowd.seconds.clear()
    print(json.dumps(crowd.told()), flush=True)
    while True:
        crowd.hold()
        words = sys.stdin.readline().split()
        if not words:
            return
        crowd.ping(float(words[1]), float(words[2]))
        print(json.dumps(crowd.told()), flush=True)


if __name__ == "__main__":
    main()
