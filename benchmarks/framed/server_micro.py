"""Microseconds that our server itself costs on the framed path: `python -m benchmarks.framed.server_micro`.

No sockets: 64 requests are in flight over 8 connections to two nodes with two links each. Blocks come whole, and both
far ends cut theirs from a text made before, so that next to nothing but the server runs. CPU time of a request, the
least and the middle of many rounds; `--form` says in which form it must run. Under callgrind, the difference between
`--rounds 100` and `--rounds 300`, divided by 12,800, is instructions per request.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend
from open_autoglm.config import parse_config
from open_autoglm.native import current_form
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.frames import HEADER_BYTES, PREFACE, encode_frame
from open_autoglm.protocol.handshake import Credentials, Hello, Welcome, write_hello, write_welcome
from open_autoglm.protocol.opcodes import HELLO, INFER_REQUEST, INFER_RESPONSE, WELCOME
from open_autoglm.protocol.preambles import write_request, write_response
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.server.options import ServeOptions
from open_autoglm.server.server import Server
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.framed_shell import FramedShell

CONNECTIONS, IN_FLIGHT, NODES, LINKS = 8, 64, 2, 2
KEY = "key-of-the-load"
PROMPT = "Say in one sentence, and in words that a child would know, what it is that a gateway does for the models. "
_REQUEST = write_request("echo", trace_id=bytes(range(16))) + CODECS["msgpack"].encode(
    {"max_tokens": 64, "prompt": PROMPT * 2}
)
_ANSWER = write_response(5, 7, "stop", 1, "v1", "echo") + CODECS["msgpack"].encode({"text": PROMPT * 2})


class Turns(asyncio.SelectorEventLoop):
    """A loop that is told when to turn: what is to be called soon waits in `soon`, and timers never come."""

    def __init__(self) -> None:
        super().__init__()
        self.soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        self.soon.append((callback, args))

    def turn(self) -> None:
        """Call what waits."""
        soon, self.soon = self.soon, []
        for callback, args in soon:
            callback(*args)


class FarEnd(asyncio.Transport):
    """Takes what is written, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def write(self, data: Any) -> None:
        self.size += len(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False


class Peer:
    """One far end: frames of streams that follow each other are slices of one text.

    Args:
        shell: of our side.
        frame: of a stream.
        streams: how many there will be at most.
    """

    def __init__(self, shell: FramedShell, frame: Callable[[int], bytes], streams: int) -> None:
        self._receive = shell.data_received
        self._text = b"".join(frame(2 * number + 1) for number in range(streams))
        self._size = len(frame(1))
        self._at = 0
        self.far = FarEnd()
        shell.connection_made(self.far)

    def send(self, count: int) -> None:
        """The next frames, in one block."""
        start, self._at = self._at, self._at + count * self._size
        self._receive(self._text[start : self._at])


class Rig:
    """A server between clients and nodes that are not there.

    Args:
        folder: for its log.
        rounds: of `IN_FLIGHT` requests that will be asked for.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self.loop = Turns()
        config = {
            "auth": {"api_key": KEY},
            "limits": {"requests_per_second": 0},
            "logging": {"file": str(folder / "log")},
            "server": {"data_dir": str(folder)},
            "models": [{"name": "echo", "endpoint": f"mcp://127.0.0.1:{port}"} for port in range(1, NODES + 1)],
        }
        loaded = parse_config(json.dumps(config), source="built in", environ={}, trusted=True)
        self.server = Server(loaded, ServeOptions(None), self.loop, RequestLog(loaded.config.logging))
        requests = rounds * IN_FLIGHT
        endpoints = self.server.assembly.plans["echo"].endpoints()
        self.links = [link for endpoint in endpoints for link in self._links(endpoint.extra, requests)]
        self.clients = [self._client(requests // CONNECTIONS) for _ in range(CONNECTIONS)]
        self._upstream_bytes = HEADER_BYTES + len(_REQUEST)
        for peer in [*self.links, *self.clients]:
            peer.far.size = 0

    def round(self) -> None:
        """Each client asks, each node answers."""
        turn = self.loop.turn
        for client in self.clients:
            client.send(IN_FLIGHT // CONNECTIONS)
        turn()
        for link in self.links:
            size, link.far.size = link.far.size, 0
            link.send(size // self._upstream_bytes)
        turn()

    @property
    def answered(self) -> int:
        """Answers that have gone out."""
        return sum(client.far.size for client in self.clients) // (HEADER_BYTES + len(_ANSWER))

    def _client(self, streams: int) -> Peer:
        shell = FramedShell(self.server.assembly.flusher)
        shell.connection, shell.owner = self.server.framed.open(shell, "127.0.0.1", clock.monotonic())
        peer = Peer(shell, lambda stream: encode_frame(INFER_REQUEST, stream, _REQUEST), streams)
        hello = Hello(versions=["1.0"], codecs=["msgpack"], auth=Credentials(key=KEY))
        shell.data_received(PREFACE + encode_frame(HELLO, 0, write_hello(hello)))
        self.loop.turn()
        return peer

    def _links(self, backend: Any, streams: int) -> list[Peer]:
        assert isinstance(backend, NodeBackend)
        sessions = [self._session() for _ in range(LINKS)]
        peers = []
        for session in sessions:
            peers.append(Peer(session.shell, lambda stream: encode_frame(INFER_RESPONSE, stream, _ANSWER), streams))
            welcome = encode_frame(WELCOME, 0, write_welcome(Welcome(version="1.0", codec="msgpack")))
            session.shell.data_received(welcome)
        backend._open = {"msgpack": sessions}
        return peers

    def _session(self) -> FramedSession:
        return FramedSession(
            Hello(versions=["1.0"], codecs=["msgpack"]),
            self.server.assembly.flusher,
            ConnectionSettings(),
            clock.monotonic(),
            other=lambda *frame: None,
            over=lambda session: None,
            welcomed=self.loop.create_future(),
        )


def main() -> int:
    """Measure and print; 0 when every request was answered."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=2000)
    words.add_argument("--form", choices=("plain", "compiled"), help="fail unless this is what runs")
    given = words.parse_args()
    form = current_form().name
    if given.form not in (None, form):
        print(f"what runs is {form}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), given.rounds)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        taken_s = []
        for number in range(given.rounds):
            began_s = time.process_time()
            rig.round()
            taken_s.append(time.process_time() - began_s)
            if number % 128 == 127:
                rig.server.framed.collect()
    wanted = given.rounds * IN_FLIGHT
    figures = [round(seconds / IN_FLIGHT * 1e6, 2) for seconds in (min(taken_s), median(taken_s))]
    print(
        json.dumps({"form": form, "server_us": figures[0], "middle_us": figures[1], "answered": rig.answered == wanted})
    )
    return 0 if rig.answered == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
