"""A server of models that does what a script says: OpenAI's chat and text completions, and a plain `/generate`.

It runs on `loop.create_server`, `loop.call_later` and transports alone, so that it also serves on a loop whose time
and network are simulated. Times are those of the loop.

| a connection is | until |
|---|---|
| idle | a whole request has come |
| answering | its behaviour has ended, the peer has left, or the behaviour closes it |

Invariants: each request is recorded once, in `asked`; a behaviour runs no further than the peer reads, and not at all
once the peer has left. At most `ASKED_MAX` requests are remembered, at most `BODY_BYTES_MAX` of a body are taken.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import httptools

from open_autoglm.testing.reply import FOREVER, Asked, Behaviour, Manner, Reply, Steps

ASKED_MAX: Final = 200_000
BODY_BYTES_MAX: Final = 64 * 2**20
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""Linger for zero seconds: closing sends RST."""

Script = Callable[[Asked], Behaviour]
"""Chooses the behaviour for a request."""


def answer(reply: Reply) -> Steps:
    """The whole, right answer."""
    if not reply.asked.stream:
        yield reply.pace_s
        reply.whole()
        return
    reply.begin()
    yield from reply.say()
    reply.end()


class ScriptedUpstream:
    """See the module.

    Args:
        script: chooses the behaviour for each request; the whole answer for all when left out.
        name: for records.
        models: names that `GET /models` lists.
        pace_s: seconds between two tokens, and before a unary answer.
        prompt_tokens: that it counts for every prompt; a judge tells upstreams apart by it.
        model: that it says it is; the one that was asked for when empty.

    Attributes:
        asked: the requests so far, oldest first.
        connections: accepted so far.
        turned_away: connections that were reset while it was down.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        name: str = "upstream",
        models: Sequence[str] = ("chat",),
        pace_s: float = 0.002,
        prompt_tokens: int = 10,
        model: str = "",
    ) -> None:
        self.script: Script = script or (lambda asked: answer)
        self.name = name
        self.models = tuple(models)
        self.manner = Manner(pace_s, prompt_tokens, model)
        self.asked: deque[Asked] = deque(maxlen=ASKED_MAX)
        self.connections = 0
        self.turned_away = 0
        self.host = ""
        self.port = 0
        self._down = False
        self._open: set[_Connection] = set()
        self._server: Any = None

    @property
    def url(self) -> str:
        """The base of its addresses, up to `/v1`."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def down(self) -> bool:
        """While true, connections are reset as they come; setting it resets those that are open."""
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        if down:
            for connection in list(self._open):
                connection.reset()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Begin to listen; port 0 takes a free one.

        Raises:
            OSError: the address cannot be had.
        """
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)
        self.host = host
        self.port = port or int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening, and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.reset()

    def entered(self, connection: _Connection) -> bool:
        """Count a connection; False when it must be reset, since the upstream is down."""
        self.connections += 1
        self._open.add(connection)
        self.turned_away += self._down
        return not self._down

    def left(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)


class _Connection(asyncio.Protocol):
    """One connection of a peer; see the module. Also the `Line` of its replies."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._path = ""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._asked: Asked | None = None
        self._steps: Steps | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._full = self._held = False

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._upstream.entered(self):
            self.reset()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.left(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None and self._asked.running:
            self._asked.left_s = self._loop.time()
        steps, self._steps = self._steps, None
        if steps is not None:
            cast("Any", steps).close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._held:
            self._held = False
            self._step()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._path = ""
        self._headers = {}
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._transport.close()

    def on_message_complete(self) -> None:
        if self._steps is not None:  # sent ahead, which no gateway does
            self._transport.close()
            return
        path = self._path.partition("?")[0]
        if self._parser.get_method() == b"GET":
            self._answer_get(path)
            return
        asked = Asked(self._upstream.name, path, self._headers, _decoded(self._body), self._loop.time())
        self._asked = asked
        self._upstream.asked.append(asked)
        behaviour = self._upstream.script(asked)
        self._steps = behaviour(Reply(asked, self, self._upstream.manner))
        self._step()

    # The line of a reply.

    def write(self, data: bytes) -> None:
        """See `Line.write`."""
        self._transport.write(data)

    def close(self) -> None:
        """See `Line.close`."""
        self._end()
        self._transport.close()

    def reset(self) -> None:
        """See `Line.reset`."""
        self._end()
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._transport.abort()

    def _step(self) -> None:
        """Let the behaviour go on, if the peer reads."""
        self._timer = None
        steps = self._steps
        if steps is None:
            return
        if self._full:
            self._held = True
            return
        wait_s = next(steps, None)
        if self._steps is None:  # it closed the connection, or reset it
            return
        if wait_s is None:
            self._steps = None
            self._end()
        elif wait_s != FOREVER:
            self._timer = self._loop.call_later(wait_s, self._step)

    def _end(self) -> None:
        """Note that the answer is given as far as it goes."""
        if self._asked is not None and self._asked.running:
            self._asked.done_s = self._loop.time()

    def _answer_get(self, path: str) -> None:
        reply = Reply(
            Asked(self._upstream.name, path, self._headers, {}, self._loop.time()), self, self._upstream.manner
        )
        if path.endswith("/models"):
            data = [{"id": name, "object": "model", "owned_by": "scripted"} for name in self._upstream.models]
            reply.send(200, json.dumps({"object": "list", "data": data}).encode())
        elif path.endswith("/health"):
            reply.send(200, b"{}")
        else:
            reply.refuse(404, f"no route {path}")


def _decoded(body: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
