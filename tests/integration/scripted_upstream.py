"""A model's server on a real socket that answers with prepared bytes, for tests of whole programs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

PIECE_BYTES = 5
"""Streams are sent in pieces of so many bytes, so that characters are cut."""


class ScriptedUpstream:
    """Speaks openai on a free port of loopback while its context is open.

    Args:
        token: what clients must send; None for nothing.
        models: names that it lists.

    Attributes:
        url: its address, up to `/v1`.
        stream: what a streamed chat completion answers, as server-sent events.
        pause_s: before each piece of a stream.
        asked: bodies of the requests so far.
    """

    def __init__(self, token: str | None = None, models: Sequence[str] = ("chat",)) -> None:
        self.token = token
        self.models = tuple(models)
        self.stream = sse("你好", "，世界", done=True)
        self.pause_s = 0.0
        self.asked: list[dict[str, Any]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 0

            def do_GET(self) -> None:
                if not self._let_in():
                    return
                self._send({"object": "list", "data": [{"id": name} for name in upstream.models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.asked.append(body)
                if not self._let_in():
                    return
                if body.get("stream"):
                    with contextlib.suppress(ConnectionError):
                        self._stream(upstream.stream)
                    return
                choice = {"index": 0, "message": {"role": "assistant", "content": "你好"}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
                self._send(
                    {"id": "1", "object": "chat.completion", "model": "chat", "choices": [choice], "usage": usage}
                )

            def _let_in(self) -> bool:
                if upstream.token is None or self.headers.get("authorization") == f"Bearer {upstream.token}":
                    return True
                self._send({"error": {"message": "no"}}, 401)
                return False

            def _send(self, value: object, status: int = 200) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, events: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for start in range(0, len(events), PIECE_BYTES):
                    piece = events[start : start + PIECE_BYTES]
                    time.sleep(upstream.pause_s)
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> ScriptedUpstream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def sse(*texts: str, done: bool, error: str = "") -> bytes:
    """Write a stream of chat completion chunks.

    Args:
        texts: of the pieces.
        done: whether it ends as whole.
        error: message of an error event at its end.
    """
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts
    ]
    if done:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    whole = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    lines = [json.dumps({**whole, **event}, ensure_ascii=False) for event in events]
    if error:
        lines.append(json.dumps({"error": {"message": error, "code": "stream_interrupted"}}))
    if done:
        lines.append("[DONE]")
    return "".join(f"data: {line}\n\n" for line in lines).encode()
