"""`autoglm context`: messages carried to a server and back, nonsense answered, one line each."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from open_autoglm.cli.admin import Admin
from open_autoglm.cli.commands.context import LINE_BYTES_MAX, Bridge
from open_autoglm.cli.http_call import Address, Target
from open_autoglm.secret import Secret

ASKED = threading.Event()
LEFT: list[bytes] = []
HEARD: list[tuple[dict[str, str], Any]] = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        HEARD.append(({name.lower(): value for name, value in self.headers.items()}, message))
        status, body = 200, b""
        match message.get("method"):
            case "initialize":
                body = json.dumps({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "2025-11-25"}}).encode()
            case "refused":
                status, body = 401, b'{"error": {"message": "the admin key is needed"}}'
            case "strange":
                status, body = 502, b"<html>"
            case "slow":
                ASKED.set()
                LEFT.append(self.rfile.read(1))  # nothing, as soon as the client has gone
                return
            case _ if "id" in message:
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"é": 1}}).encode()
            case _:
                status = 202
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    HEARD.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def carried(port: int, *lines: bytes) -> list[dict[str, Any]]:
    out = io.BytesIO()
    admin = Admin(Target(Address(False, "127.0.0.1", port), Secret("the-key")))
    Bridge(admin, out).serve(io.BytesIO(b"\n".join(lines) + b"\n"))
    return [json.loads(line) for line in out.getvalue().splitlines()]


def message(method: str, number: int | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, **({} if number is None else {"id": number})}).encode()


def test_messages_go_there_and_answers_come_back(port: int) -> None:
    answers = carried(port, message("initialize", 0), message("ready"), *(message("ping", n) for n in range(1, 40)))
    assert answers[0]["result"]["protocolVersion"] == "2025-11-25"
    assert sorted(answer["id"] for answer in answers) == list(range(40))
    assert all(answer["result"] == {"é": 1} for answer in answers[1:])
    heads = {heard["method"]: headers for headers, heard in HEARD}
    assert heads["ping"]["authorization"] == "Bearer the-key"
    assert heads["ping"]["mcp-protocol-version"] == "2025-11-25"
    assert "mcp-protocol-version" not in heads["initialize"]
    assert heads["ping"]["accept"] == "application/json, text/event-stream"


def test_failures_answer_their_request_and_notifications_none(port: int) -> None:
    answers = carried(port, message("refused", 1), message("refused"), message("strange", 2), message("strange"))
    told = {answer["id"]: answer["error"]["message"] for answer in answers}
    assert told == {1: "the admin key is needed", 2: "the server answered 502"}


def test_a_cancelled_call_is_cut_and_not_answered(port: int) -> None:
    cancel = b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}'

    class Client(io.BytesIO):
        """Cancels what it has asked once the server is at it."""

        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            assert b"cancelled" not in line or ASKED.wait(30)
            return line

    out = io.BytesIO()
    admin = Admin(Target(Address(False, "127.0.0.1", port), Secret("the-key")))
    Bridge(admin, out).serve(Client(b"\n".join((message("slow", 7), cancel, message("ping", 8), b""))))
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == [8]
    assert LEFT == [b""]


def test_ctrl_c_waits_for_no_answer(port: int) -> None:
    ASKED.clear()
    LEFT.clear()

    class Client(io.BytesIO):
        """Presses Ctrl-C once the server is at it."""

        def readline(self, size: int | None = -1, /) -> bytes:
            if line := super().readline(size):
                return line
            assert ASKED.wait(30)
            raise KeyboardInterrupt

    out = io.BytesIO()
    ended: list[type[BaseException]] = []

    def serve() -> None:
        try:
            Bridge(Admin(Target(Address(False, "127.0.0.1", port), Secret("the-key"))), out).serve(Client(asked))
        except KeyboardInterrupt as error:
            ended.append(type(error))

    asked = message("slow", 7) + b"\n"
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(30)
    assert ended == [KeyboardInterrupt]
    assert out.getvalue() == b""


def test_a_server_that_is_not_there_is_told() -> None:
    [answer] = carried(9, message("ping", 5))
    assert answer["id"] == 5
    assert "nothing listens" in answer["error"]["message"]


def test_nonsense_is_refused_and_what_is_too_long_ends_it(port: int) -> None:
    answers = carried(port, b"nonsense", b"[]", b"", b'"x"', b" " * (LINE_BYTES_MAX + 1), message("ping", 1))
    assert [answer["error"]["code"] for answer in answers] == [-32700, -32600, -32600, -32600]
    assert HEARD == []
