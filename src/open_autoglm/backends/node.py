"""Inference nodes: the dialect `mcp`, spoken in frames over a few links that stay open.

Invariant: `session` returns links that are open and speak the codec that was asked for, in turn, and none else; a link
that was lost comes back by itself. A request whose node has no link open fails as `connect`, so others take it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall, unsent
from open_autoglm.backends.node_answer import NodeAnswer
from open_autoglm.backends.node_desk import NodeDesk, UsageSink
from open_autoglm.backends.node_tensors import TensorView, open_in_tensors
from open_autoglm.dialects.canonical import InferRequest
from open_autoglm.dialects.openai import OpenAIDialect
from open_autoglm.dialects.support import unsupported
from open_autoglm.errors import CODES, AutoGLMError, RequestError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.handshake import VERSIONS, Hello
from open_autoglm.protocol.opcodes import LOAD, STREAM, USAGE_ACK, USAGE_REPORT
from open_autoglm.protocol.preambles import write_request
from open_autoglm.secret import Secret
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_client import FramedLink
from open_autoglm.transport.framed_session import FramedSession, OtherFrame
from open_autoglm.transport.framed_shell import Flusher

_log = logging.getLogger(__name__)
_LINKS: Final = 2
"""For each codec. One is enough for the bytes; of two, one is there while the other comes back."""
_CODEC: Final = "msgpack"
"""For requests that did not come in frames."""
_LOOK_S: Final = 0.02
_UNKNOWN_KEY: Final = 401
_ours = OpenAIDialect()


class NodeBackend:
    """One node; see `backends.backend.Backend`.

    Args:
        host, port: where it listens; `unix_path` instead for a Unix socket.
        token: what we know and the node does; it proves who we are, and is not sent.
        flusher: of the loop.
        loop: for connections.
        rng: for backoff.
        connect_timeout_s: to open a link.
        tls: context where the node speaks TLS.
        tls_name: that its certificate must have; empty for `host`.
        usage: who writes tickets for nodes, and hears of their use; None where nobody does.

    Attributes:
        tls_name: as above; clients that ask the node themselves are told.
        desk: for tickets; None where none can be written.
        on_load: takes the payload of each LOAD that the node sends.
        on_open: told when a link has opened and there was none.
        on_lost: told when a link that was open takes nothing new any more, unless it was closed here.
    """

    dialect_name = "mcp"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: Secret | None,
        flusher: Flusher,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        connect_timeout_s: float,
        unix_path: str | None = None,
        tls: ssl.SSLContext | None = None,
        tls_name: str = "",
        usage: UsageSink | None = None,
    ) -> None:
        self._usage = usage
        self.desk = NodeDesk(usage.issuer, token) if usage is not None and token is not None else None
        self._place = (host, port, unix_path)
        self._key = SigningKey(token.reveal()) if token is not None else None
        self._tls = tls
        self.tls_name = tls_name
        self._flusher = flusher
        self._loop = loop
        self._rng = rng
        self._connect_timeout_s = connect_timeout_s
        self._links: dict[str, list[FramedLink]] = {}
        self._open: dict[str, list[FramedSession]] = {}
        self._turn = 0
        self._failure = ""
        self._closed = False
        self.on_load: Callable[[bytes], None] = _nothing
        self.on_open: Callable[[], None] = _nobody
        self.on_lost: Callable[[], None] = _nobody

    def session(self, codec: str) -> FramedSession | None:
        """An open link whose bodies are in a codec; None while there is none.

        What is asked before the loop turns goes out on one link: a write costs more than all else of a request.
        """
        sessions = self._open.get(codec)
        if sessions:
            session = sessions[self._turn % len(sessions)]
            if not session.connection.out:
                self._turn += 1
                session = sessions[self._turn % len(sessions)]
            return session
        if codec not in self._links and not self._closed:
            self._connect(codec)
        return None

    def open(self, attempt: Attempt, call: ModelCall) -> None:
        """Send the request; one that the node cannot be asked fails as `unsupported`."""
        if attempt.handle is not None:
            return  # it was sent before there was a call; see `gateway.framed_relay`
        target = attempt.target
        assert target is not None
        view = call.view
        if isinstance(view, TensorView):
            open_in_tensors(self, attempt, call, view, target.upstream_model or call.model)
            return
        session = self.session(_CODEC)
        if session is None:
            call.exchange.failed(attempt, *self.absence(), clock.monotonic())
            return
        try:
            payload = _request(call.face.infer(call.body, call.view), target.upstream_model or call.model, call)
        except AutoGLMError as error:
            call.exchange.failed(attempt, unsent(error), error.message, clock.monotonic(), error)
            return
        answer = NodeAnswer(attempt, call, CODECS[_CODEC])
        remaining_ms = max(1, int((call.deadline_s - attempt.started_s) * 1000))
        stream = session.request(answer, payload, STREAM if call.view.stream else 0, remaining_ms)
        if not stream:
            call.exchange.failed(attempt, "unavailable", "the link to the node has no room", clock.monotonic())
            return
        answer.link, answer.stream = session, stream
        attempt.handle = answer
        attempt.reused = True
        attempt.sent_s = attempt.started_s

    @property
    def connections(self) -> int:
        """See `Backend`."""
        return sum(link.connections for links in self._links.values() for link in links)

    @property
    def is_linked(self) -> bool:
        """Whether a link is open, whatever the codec."""
        return any(self._open.values())

    def absence(self) -> tuple[str, str]:
        """Why no link is open: the outcome of a request that needs one, and the reason in words."""
        for links in self._links.values():
            for link in links:
                code, message = link.failure
                if code and CODES[code].http_status == _UNKNOWN_KEY:
                    return "misconfigured", f"the node does not accept our key: {message:.200}"
                if code:
                    return "connect", f"no link to the node is open: {message:.200}"
        return "connect", "no link to the node is open"

    def give_up(self, silent_s: float) -> None:
        """The node is dead, as others say: lose the links on which nothing came for so long, and what waits there."""
        for links in self._links.values():
            for link in links:
                link.give_up(silent_s, "the node is dead, as the cluster says")

    async def reachable(self, timeout_s: float) -> bool:
        """See `Backend`: a link is open, so its heartbeat is answered, or can be opened in time."""
        until_s = clock.monotonic() + timeout_s
        while not any(self._open.values()):
            self.session(_CODEC)
            if self._closed or clock.monotonic() >= until_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    def sweep(self, now_s: float) -> None:
        """See `Backend`: links are opened before somebody needs them."""
        if not self._links and not self._closed:
            self._connect(_CODEC)
        desk = self.desk
        if desk is not None and desk.is_due(now_s) and (session := self.session(_CODEC)) is not None:
            desk.introduce(session, now_s)

    def close(self) -> None:
        """See `Backend`."""
        self._closed = True
        for links in self._links.values():
            for link in links:
                link.close()

    def _connect(self, codec: str) -> None:
        host, port, unix_path = self._place
        hello = Hello(versions=list(VERSIONS), codecs=[codec], agent="open-autoglm", relays=True)
        links = self._links[codec] = [
            FramedLink(
                hello,
                host,
                port,
                flusher=self._flusher,
                loop=self._loop,
                rng=self._rng,
                connect_timeout_s=self._connect_timeout_s,
                unix_path=unix_path,
                tls=self._tls,
                tls_name=self.tls_name or None,
                key=self._key,
            )
            for _ in range(_LINKS)
        ]
        for link in links:
            link.on_change = self._changed
            link.other = self._hearer(codec)
            link.start()

    def _changed(self, link: FramedLink) -> None:
        """A link has opened, or takes nothing more."""
        session = link.session
        self._tell(link.failure[1])
        if session is not None and self.desk is not None:
            self.desk.introduce(session, clock.monotonic())
        before = sum(map(len, self._open.values()))
        self._open = {
            codec: [link.session for link in links if link.session is not None] for codec, links in self._links.items()
        }
        after = sum(map(len, self._open.values()))
        if after < before and not self._closed:
            self.on_lost()
        elif after and not before:
            self.on_open()

    def _tell(self, failure: str) -> None:
        """Say in the log why no link can be opened, once for each reason, and that one is open again."""
        if failure != self._failure and not self._closed:
            host, port, unix_path = self._place
            place = unix_path or f"{host}:{port}"
            if failure:
                _log.warning("no link to the node at %s: %.300s", place, failure)
            else:
                _log.info("a link to the node at %s is open again", place)
            self._failure = failure

    def _hearer(self, codec: str) -> OtherFrame:
        """Who hears of what a node says of itself on links with a codec."""

        def hear(opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
            if opcode == LOAD:
                self.on_load(payload)
            elif opcode == USAGE_REPORT and self._usage is not None:
                self._report(codec, arg, payload, self._usage)

        return hear

    def _report(self, codec: str, number: int, payload: bytes, usage: UsageSink) -> None:
        """Take a report on, and acknowledge it; one that cannot be read would only come again."""
        issuer = ""
        try:
            body = CODECS[codec].decode(payload)
            issuer = str(body.get("issuer"))
            usage.take(number, body)
        except AutoGLMError as error:
            _log.error("a node's report of use cannot be read: %s", error.message)
        session = self.session(codec)
        if session is not None and issuer:
            session.connection.send(USAGE_ACK, 0, CODECS[codec].encode({"issuer": issuer}), arg=number)


def _request(request: InferRequest, model: str, call: ModelCall) -> bytes:
    """Payload of INFER_REQUEST for what came in another dialect."""
    if request.kind == "embedding":
        raise unsupported(request, "input", "an inference node")
    stream, request.stream = request.stream, False
    fields = msgspec.json.decode(_ours.encode(request, model))
    request.stream = stream
    del fields["model"]
    for name in ("stream", "stream_options"):
        fields.pop(name, None)
    try:
        view = call.view
        preamble = write_request(model, view.session[:255], trace_id=bytes.fromhex(call.trace_id), hops=call.hops)
    except AutoGLMError as error:
        raise RequestError("invalid_request", error.message) from error
    return preamble + CODECS[_CODEC].encode(fields)


def _nothing(payload: bytes) -> None:
    """Nobody wants to know how busy it is."""


def _nobody() -> None:
    """Nobody wants to know that a link has come or gone."""
