"""`autoglm context`: a server of the context protocol on standard input and output, for clients that start one.

Each message is sent to `/context` of the running server and the answer is written back; nothing is decided here, and
the protocol's library is not needed. Invariant: standard output holds messages of the protocol and nothing else; at
most `CALLS_MAX` calls run at once, the others wait, and so does the reader; Ctrl-C waits for none of them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any, BinaryIO, Final

from open_autoglm.cli.admin import Admin, add_admin_options, find_admin
from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.http_call import call, error_message
from open_autoglm.cli.terminal import Terminal

CALLS_MAX: Final = 8
LINE_BYTES_MAX: Final = 2 * 2**20
"""As much as the server takes."""
_ASK_S: Final = 620.0
"""Longest wait for a tool: asking a model may take ten minutes."""
_PATH: Final = "/context"
_ACCEPT: Final = {"accept": "application/json, text/event-stream"}
_VERSION_HEADER: Final = "mcp-protocol-version"
_PARSE_ERROR, _INVALID_REQUEST, _FAILED = -32700, -32600, -32000


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_admin_options(parser, json=False)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Serve until standard input ends."""
    Bridge(find_admin(arguments, terminal), sys.stdout.buffer).serve(sys.stdin.buffer)
    return DONE


class Bridge:
    """Carries messages between a client and the running server.

    Args:
        admin: its admin listener.
        out: where answers are written, a line each.
    """

    def __init__(self, admin: Admin, out: BinaryIO) -> None:
        self._admin = admin
        self._out = out
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(CALLS_MAX)
        self._headers = dict(_ACCEPT)
        self._open: dict[str, HTTPConnection] = {}
        self._cancelled: set[str] = set()
        self._stopped = False

    def serve(self, lines: BinaryIO) -> None:
        """Carry messages until there are no more, and their answers are written."""
        with ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="context") as pool:
            try:
                self._take_all(lines, pool)
            except BaseException:  # the pool waits for its threads, and they for answers that nobody reads now
                self._stop()
                raise

    def _take_all(self, lines: BinaryIO, pool: ThreadPoolExecutor) -> None:
        while line := lines.readline(LINE_BYTES_MAX + 1):
            if len(line) > LINE_BYTES_MAX:
                self._refuse(None, _INVALID_REQUEST, f"a message is longer than {LINE_BYTES_MAX} bytes")
                return
            message = self._message(line)
            if message is None:
                continue
            if message.get("method") == "notifications/cancelled":
                self._cancel(message)
            elif message.get("method") == "initialize":  # what comes after it is said in the version it settles
                self._carry(message)
            else:
                self._room.acquire()
                pool.submit(self._carry, message).add_done_callback(lambda _: self._room.release())

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._cancelled.update(self._open)
            left = list(self._open.values())
        for connection in left:
            _cut(connection)

    def _message(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._refuse(None, _PARSE_ERROR, "a line is no JSON")
            return None
        if not isinstance(message, dict):
            self._refuse(None, _INVALID_REQUEST, "a message is a JSON object")
            return None
        return message

    def _cancel(self, message: dict[str, Any]) -> None:
        """Cut the connection of a call that the client no longer waits for: the server then stops what it does."""
        parameters = message.get("params")
        number = parameters.get("requestId") if isinstance(parameters, dict) else None
        name = json.dumps(number) if number is not None else ""
        with self._lock:
            connection = self._open.get(name)
            if connection is not None:
                self._cancelled.add(name)
        if connection is not None:
            _cut(connection)

    def _carry(self, message: dict[str, Any]) -> None:
        name = json.dumps(message.get("id"))

        def keep(connection: HTTPConnection) -> None:
            with self._lock:
                self._open[name] = connection
            if self._stopped:
                _cut(connection)

        try:
            self._ask(message, keep)
        finally:
            with self._lock:
                self._open.pop(name, None)
                self._cancelled.discard(name)

    def _ask(self, message: dict[str, Any], keep: Callable[[HTTPConnection], None]) -> None:
        number = message.get("id")
        wait_s = _ASK_S if message.get("method") == "tools/call" else self._admin.timeout_s
        try:
            answer = call(
                self._admin.target, "POST", _PATH, message, timeout_s=wait_s, headers=self._headers, on_open=keep
            )
        except CommandFailed as error:
            if json.dumps(number) not in self._cancelled:
                self._refuse(number, _FAILED, error.message)
            return
        value = answer.json()
        if isinstance(value, dict) and "jsonrpc" in value:
            self._settle(message, value)
            self._write(value)
        elif number is not None:
            told = error_message(value) or f"the server answered {answer.status}"
            self._refuse(number, _FAILED, told)

    def _settle(self, message: dict[str, Any], answer: dict[str, Any]) -> None:
        result = answer.get("result")
        if message.get("method") == "initialize" and isinstance(result, dict):
            self._headers[_VERSION_HEADER] = str(result.get("protocolVersion", ""))

    def _refuse(self, number: Any, code: int, told: str) -> None:
        if number is not None or code != _FAILED:
            self._write({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": told}})

    def _write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()


def _cut(connection: HTTPConnection) -> None:
    """End a connection that another thread reads from."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # it may have been answered meanwhile
            connection.sock.shutdown(socket.SHUT_RDWR)
