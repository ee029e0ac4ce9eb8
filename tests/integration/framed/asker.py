"""A client of the tests: one framed connection, whose answers can be waited for."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from open_autoglm import clock
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import ResponsePreamble, read_response, write_request
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.transport.framed_session import FramedSession
from open_autoglm.transport.framed_shell import Flusher

PATIENCE_S = 20.0


class Answer:
    """What comes for one request; see `transport.framed_session.StreamHandler`.

    Attributes:
        stream: its number.
        preamble, body: of the response.
        ends: how often it was told the end.
        status, error: of the ERROR that ended it; -1 when the connection was lost.
        consumes: whether it gives credit back.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.ends = 0
        self._over = asyncio.Event()
        self.first = asyncio.Event()
        self.stream = 0
        self._pieces: list[bytes] = []
        self.preamble: ResponsePreamble | None = None
        self.body: dict[str, Any] = {}
        self.status = 0
        self.error: dict[str, Any] = {}
        self.consumes = True

    @property
    def text(self) -> bytes:
        """What the chunks said."""
        return b"".join(self._pieces)

    async def wait(self, patience_s: float = PATIENCE_S) -> Answer:
        await asyncio.wait_for(self._over.wait(), patience_s)
        return self

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        self.preamble = read_response(payload)
        self.body = self.asker.codec.decode(payload[self.preamble.body_at :])
        self._end()

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        self._pieces.append(payload)
        self.first.set()
        if self.consumes:
            self.asker.session.consume(self.stream, len(payload))

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.status = status
        self.error = self.asker.codec.decode(payload)
        self._end()

    def on_lost(self, detail: str) -> None:
        self.status = -1
        self._end()

    def _end(self) -> None:
        self.ends += 1
        self._over.set()


class Asker:
    """One connection; use as a context."""

    def __init__(
        self,
        port: int,
        key: str | None,
        codec: str = "msgpack",
        window: int = 256 * 1024,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        unix_path: str = "",
    ) -> None:
        self._unix_path = unix_path
        self._place = (host, port)
        self._tls = tls
        self.codec = CODECS[codec]
        self._hello = Hello(versions=["1.0"], codecs=[codec], auth=Credentials(key=key), window=window)
        self.over = asyncio.Event()

    async def __aenter__(self) -> Asker:
        loop = asyncio.get_running_loop()
        self.session = FramedSession(
            self._hello,
            Flusher(loop),
            ConnectionSettings(),
            clock.monotonic(),
            other=lambda *frame: None,
            over=lambda session: self.over.set(),
            welcomed=loop.create_future(),
        )
        if self._unix_path:
            await loop.create_unix_connection(lambda: self.session.shell, self._unix_path)
        else:
            await loop.create_connection(lambda: self.session.shell, *self._place, ssl=self._tls)
        self.let_in = await asyncio.wait_for(self.session.welcomed, PATIENCE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.session.shell.abort()
        await asyncio.sleep(0)

    def ask(self, prompt: str, model: str = "m", *, stream: bool = False, remaining_ms: int = 0, **more: Any) -> Answer:
        """Send a request."""
        answer = Answer(self)
        payload = write_request(model) + self.codec.encode({"prompt": prompt, **more})
        answer.stream = self.session.request(answer, payload, STREAM if stream else 0, remaining_ms)
        assert answer.stream
        return answer
