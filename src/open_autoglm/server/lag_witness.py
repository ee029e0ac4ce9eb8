"""Answers the admin listener's `/healthz` while the event loop is stuck: a thread that says `lagging`.

A probe that gets no answer restarts a server that is only busy, and every request with it. The thread knows when the
loop should have run. While the loop is late, the thread accepts the admin listener's connections in its place, answers
those that ask for `/healthz`, and leaves all others to the loop, unread. Invariant: while the loop is in time the
thread only looks at a clock; a connection that it takes is answered or handed in, never lost. Code that holds the
interpreter's lock without a pause stops the thread too.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from open_autoglm import clock

LATE_S: Final = 0.25
"""From this lag on the loop counts as stuck."""
_LOOK_S: Final = 0.1
_WAITING_MAX: Final = 64
"""Connections that are held at a time; more wait in the kernel's queue."""
_PATIENCE_S: Final = 1.0
"""How long a connection may say nothing before the loop gets it."""
_ASKED: Final = (b"GET /healthz ", b"HEAD /healthz ")
_HEAD_BYTES: Final = 8192


class LagWitness:
    """See the module.

    Args:
        late_s: how late the loop is at a monotonic second.
        sockets: listening sockets; the thread has copies of its own.
        hand_in: takes a connection on the loop's own thread.
        loop: the one that may be stuck.
    """

    def __init__(
        self,
        late_s: Callable[[float], float],
        sockets: Sequence[socket.socket],
        hand_in: Callable[[socket.socket], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._late_s = late_s
        self._hand_in = hand_in
        self._loop = loop
        self._listening = [socket.fromfd(sock.fileno(), sock.family, sock.type) for sock in sockets]
        self._waiting: dict[socket.socket, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-witness", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop; from now on nothing of the listening sockets is held here. A second call does nothing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        for sock in self._listening:
            sock.close()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if self._is_late():
                with selectors.DefaultSelector() as selector:
                    self._stand_in(selector)

    def _is_late(self) -> bool:
        return self._late_s(clock.monotonic()) > LATE_S

    def _stand_in(self, selector: selectors.BaseSelector) -> None:
        """Accept and answer until the loop runs again."""
        for sock in self._listening:
            selector.register(sock, selectors.EVENT_READ)
        while self._is_late() and not self._ended.is_set():
            for key, _ in selector.select(_LOOK_S):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source in self._waiting:
                    if self._serve(source):
                        selector.unregister(source)
                elif len(self._waiting) < _WAITING_MAX:
                    self._accept(source, selector)
            now_s = clock.monotonic()
            for sock in [sock for sock, since_s in self._waiting.items() if now_s - since_s > _PATIENCE_S]:
                selector.unregister(sock)
                self._leave(sock)
        for sock in list(self._waiting):
            self._leave(sock)

    def _accept(self, listening: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            sock, _ = listening.accept()
        except OSError:
            return  # the loop was faster, or the client is gone
        sock.setblocking(False)
        self._waiting[sock] = clock.monotonic()
        selector.register(sock, selectors.EVENT_READ)

    def _serve(self, sock: socket.socket) -> bool:
        """Answer what asks for our health, hand in what asks for something else; False to wait for more."""
        try:
            head = sock.recv(_HEAD_BYTES, socket.MSG_PEEK)
        except OSError:
            head = b""
        if head.startswith(_ASKED) and b"\r\n\r\n" in head:
            del self._waiting[sock]
            self._answer(sock, head)
        elif head and (head.startswith(_ASKED) or any(asked.startswith(head) for asked in _ASKED)):
            # Not whole yet. What is peeked at stays readable, so a pause keeps this from spinning.
            self._ended.wait(_LOOK_S / 10)
            return False
        else:
            self._leave(sock)
        return True

    def _answer(self, sock: socket.socket, head: bytes) -> None:
        body = b'{"status":"lagging","lag_s":%.3f}' % self._late_s(clock.monotonic())
        answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        ) % len(body)
        with contextlib.suppress(OSError), sock:
            sock.recv(_HEAD_BYTES)
            sock.sendall(answer if head.startswith(b"HEAD") else answer + body)
            sock.shutdown(socket.SHUT_WR)

    def _leave(self, sock: socket.socket) -> None:
        del self._waiting[sock]
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._hand_in, sock)
