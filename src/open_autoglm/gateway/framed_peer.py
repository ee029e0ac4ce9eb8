"""One client of the framed protocol: who it is, and what it has asked for.

| a request | goes |
|---|---|
| for a model on nodes, with an open link, room and within its key's limits | the short cut (`framed_relay`) |
| with tensors | the request path, on which nodes get them as they came (`framed_tensors`) |
| any other | the request path, as if it had come over HTTP |
| a message in JSON | the request path, by the route of messages |

Invariant: a stream that the connection has open is in `calls` until its answer has ended or nobody wants it. The key
that was shown in HELLO is looked up again when another configuration serves.
"""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from open_autoglm import clock
from open_autoglm.admission.classes import NAMES
from open_autoglm.backends.node_answer import NodeAnswer
from open_autoglm.dialects.mcp import McpFace
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.framed_relay import Lane, RelayedRequest
from open_autoglm.gateway.framed_reply import FrameReply, Reply, TextReply, asks_for_stream
from open_autoglm.gateway.framed_tally import ROUTE
from open_autoglm.gateway.framed_tensors import TensorDesk, TensorFace, TensorReply
from open_autoglm.gateway.snapshot import Route
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.opcodes import RESUMABLE, STREAM, TENSOR, TENSORS
from open_autoglm.protocol.preambles import (
    HOPS_AT,
    HOPS_MAX,
    NO_TRACE,
    PRIORITY_MAX,
    PRIORITY_OF_KEY,
    REQUEST_BYTES,
    TRACE_AT,
)
from open_autoglm.protocol.proof import CHALLENGE_BYTES
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.transport.framed_shell import FramedShell
from open_autoglm.transport.http_request import ServerRequest

if TYPE_CHECKING:
    from open_autoglm.backends.node_tensors import Parcel
    from open_autoglm.gateway.framed import FramedGateway
    from open_autoglm.security.keys import Principal
    from open_autoglm.transport.framed_session import FramedSession, StreamHandler

_log = logging.getLogger(__name__)
_PRIORITY_AT: Final = 2
_SIMPLE: Final = STREAM | RESUMABLE
_EVENT_STREAM: Final = b"text/event-stream"


class _Running(Protocol):
    """What stands for an open stream."""

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""

    def credit(self, released: int) -> None:
        """So much of what had to wait has gone out."""

    def pause(self) -> None:
        """The client does not read."""

    def resume(self) -> None:
        """The client reads again."""

    def gone(self) -> None:
        """Nobody wants the answer any more."""

    def drain_cut(self, error: AutoGLMError) -> None:
        """The server stops and cannot wait any longer."""


_face = McpFace()
_NOTHING: Final = Credentials()
_IN_A_CIRCLE: Final = f"the request has gone through {HOPS_MAX} servers: does an `mcp://` endpoint lead back to one?"


class FramedPeer:
    """See the module; implements `protocol.sinks.ServerSink` and `transport.framed_shell.ShellOwner`.

    Args:
        hub: what all clients share.
        shell: the socket's side.
        address: of the client.
        now_s: monotonic seconds.

    Attributes:
        hub, shell, address: as above.
        calls: what stands for each open stream.
        connection: the protocol's side.
    """

    __slots__ = (
        "_auth",
        "_lanes",
        "_principal",
        "_relays",
        "_snapshot",
        "_tensors",
        "_texts",
        "_unknown",
        "address",
        "calls",
        "connection",
        "hub",
        "shell",
    )

    def __init__(self, hub: FramedGateway, shell: FramedShell, address: str, now_s: float) -> None:
        self.hub = hub
        self.shell = shell
        self.address = sys.intern(address)
        self._snapshot = hub.gateway.snapshot
        self._principal = self._snapshot.anonymous
        self._auth = _NOTHING
        self._relays = False
        self._unknown: AutoGLMError | None = None
        self._texts = 0
        self._tensors: TensorDesk | None = None
        self._lanes: dict[bytes, Lane | None] = hub.no_lanes
        self.calls: dict[int, _Running] = {}
        self.connection = ServerConnection(self, shell.wake, hub.settings, now_s, hub.store)

    # The protocol calls these; see `protocol.sinks.ServerSink`.

    def on_hello(self, hello: Hello) -> None:
        auth, self._relays = hello.auth, hello.relays
        # Many connections show one key; it is kept once.
        self._auth = Credentials(key=sys.intern(auth.key)) if auth.key is not None else auth
        try:
            if auth.signature is not None:
                signer = self.hub.signer(auth.signature.key, self.address)
                self.connection.challenge(signer, secrets.token_bytes(CHALLENGE_BYTES), self._on_proof)
                return
            self._principal = self.hub.identify(auth, self._names(), self.address)
        except AutoGLMError as error:
            self.connection.refuse(error)
            return
        self._let_in()

    def _on_proof(self, right: bool) -> None:
        """The client has answered our challenge."""
        try:
            if not right:
                self.hub.distrust(self.address)
                raise RequestError("invalid_signature", "the proof is not that of the key that HELLO names")
            self._principal = self.hub.identify_again(self._auth, ())
        except AutoGLMError as error:
            self.connection.refuse(error)
            return
        self._let_in()

    def _let_in(self) -> None:
        hub = self.hub
        self._snapshot = hub.gateway.snapshot
        self._lanes = hub.lanes_of(self._principal)
        identity, token = hub.new_connection()
        self.connection.accept(identity, token, self._principal.name)

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        hub = self.hub
        gateway = hub.gateway
        if self._snapshot is not gateway.snapshot and not self._renew():
            return
        if self._relays:
            payload = self._one_hop_more(stream, payload)
            if not payload:
                return
        if flags & TENSORS or self._tensors is not None:
            parcel = self._desk().take(stream, flags)
            if parcel is not None:
                call = self._call(stream, flags, remaining_ms, payload, clock.monotonic(), parcel=parcel)
                self._serve(call, admitted=False)
                return
        lane: Lane | None = None
        admitted = False
        now_s = clock.monotonic()
        # A request that says more of itself than its model is one for the request path; resuming is the connection's.
        if len(payload) > REQUEST_BYTES and not flags & ~_SIMPLE and payload[_PRIORITY_AT] == PRIORITY_OF_KEY:
            name = payload[REQUEST_BYTES : REQUEST_BYTES + payload[0]]
            lanes = self._lanes
            lane = lanes.get(name)
            if lane is None and name not in lanes:
                lane = hub.lane(self._principal, name)
            principal = self._principal
            if (
                lane is not None
                and not lane.queue.waiting
                and principal.priority >= gateway.door.floor
                and (not remaining_ms or remaining_ms >= lane.ample_ms)
                and principal.line is None
            ):
                limiter = principal.limiter
                if limiter is None or not limiter.admit(now_s):
                    try:
                        if self._relay(lane, stream, flags, remaining_ms, payload, now_s):
                            return
                    except Exception:  # one request's defect must not end the others of this connection
                        _log.exception("a request could not be relayed")
                    admitted = True
        call = self._call(stream, flags, remaining_ms, payload, now_s, lane=lane if admitted else None)
        if admitted:
            call.record.admitted_s = now_s
        self._serve(call, admitted=admitted)

    def on_message(self, stream: int, payload: bytes) -> None:
        if self._snapshot is not self.hub.gateway.snapshot and not self._renew():
            return
        self.ask(Reply(self, stream), payload)

    def on_cancel(self, stream: int) -> None:
        running = self.calls.get(stream)
        if running is not None:
            running.gone()
            self.calls.pop(stream, None)
        elif self._tensors is not None:
            self._tensors.drop(stream)

    def on_credit(self, stream: int, released: int) -> None:
        running = self.calls.get(stream)
        if running is not None:
            running.credit(released)

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        if opcode != TENSOR:
            self.hub.other(self, opcode, flags, stream, arg, payload)
            return
        try:
            self._desk().keep(stream, payload)
        except AutoGLMError as error:
            self.connection.fail(stream, error)

    def on_closed(self, code: str, message: str) -> None:
        self.shell.wake()

    # The shell calls these.

    def on_pause(self) -> None:
        for running in list(self.calls.values()):
            running.pause()

    def on_resume(self) -> None:
        for running in list(self.calls.values()):
            running.resume()

    def on_gone(self) -> None:
        # The protocol has said which of its streams nobody wants any more; text messages are none of those.
        for running in list(self.calls.values()):
            if isinstance(running, TextReply):
                running.gone()

    # A WebSocket calls these; see `transport.websocket.TextOwner`.

    def show(self, key: str | None) -> None:
        """The upgrade's head showed a key, which text messages are asked with; frames have HELLO for that."""
        self._auth = auth = Credentials(key=key)
        try:
            # Who shows none may do so in HELLO, which is no failure.
            hub = self.hub
            names = self._names()
            self._principal = (
                hub.identify_again(auth, names) if key is None else hub.identify(auth, names, self.address)
            )
        except AutoGLMError as error:
            self._unknown = error
            return
        self._snapshot = self.hub.gateway.snapshot

    def on_text(self, payload: bytes, send_text: Callable[[bytes], None]) -> None:
        """Serve a text message."""
        if self._snapshot is not self.hub.gateway.snapshot and self._unknown is None and not self._renew():
            return
        refusal = self._unknown
        if refusal is None and len(self.calls) >= self.hub.settings.requests_max:
            refusal = ServerError("overloaded", f"{len(self.calls)} requests are open on this connection")
        if refusal is not None:
            send_text(_face.error_body(refusal, self.hub.request_id(), payload))
            return
        self._texts -= 1
        self.ask(TextReply(self, self._texts, send_text), payload)

    # Calls come back through these.

    def forget(self, stream: int) -> None:
        """A stream's answer has ended."""
        self.calls.pop(stream, None)

    def break_off(self, stream: int) -> None:
        """End a stream without an answer."""
        self.hub.break_off(self.connection, stream)

    def relayed(self, call: RelayedRequest) -> None:
        """A relayed request is over."""
        self.calls.pop(call.stream, None)
        self.hub.calls.discard(call)
        principal = call.lane.principal
        principal.requests += 1
        if principal.limiter is not None:
            principal.limiter.release()

    def take_over(
        self, relayed: RelayedRequest, attempt: Attempt, session: FramedSession, now_s: float
    ) -> StreamHandler:
        """Go on with a relayed request as an ordinary call; return who hears of its attempt."""
        hub, lane = self.hub, relayed.lane
        hub.calls.discard(relayed)
        call = self._call(
            relayed.stream, relayed.flags, relayed.remaining_ms, relayed.payload, relayed.started_s, lane=lane
        )
        record = call.record
        record.admitted_s = relayed.started_s
        face = call.route.face
        assert face is not None
        try:
            exchange = hub.gateway.prepare(call, face)
        except AutoGLMError as error:
            attempt.close("refused", error.message, now_s)
            session.cancel(relayed.upstream)
            call.refuse(error)
            return hub.nobody
        answer = NodeAnswer(attempt, call, self.connection.codec)
        answer.link, answer.stream = session, relayed.upstream
        if relayed.upstream in session.handlers:
            session.handlers[relayed.upstream] = answer
        attempt.handle = answer
        if attempt.first_s:
            call.request.answered = True
            record.status, record.first_s = 200, attempt.first_s
        exchange.take_over(attempt, now_s)
        call.open(attempt)
        return answer

    def cut(self, stream: int, error: AutoGLMError) -> None:
        """End what was relayed until now."""
        running = self.calls.get(stream)
        if running is not None:
            running.drain_cut(error)

    def ask(self, reply: Reply, body: bytes) -> None:
        """Serve a message in JSON."""
        hub = self.hub
        snapshot = self._snapshot
        headers = {"accept": _EVENT_STREAM} if asks_for_stream(body) else {}
        route = snapshot.routes[hub.messages_target(snapshot)]
        self._serve(self._made(reply, route, headers, body, clock.monotonic()), admitted=False)

    def end_rest(self, error: AutoGLMError, *, streams: bool) -> None:
        """The server cannot wait any longer: end what is asked here, streams when they are meant too."""
        for running in list(self.calls.values()):
            if streams or not running.streamed:
                running.drain_cut(error)

    def running(self) -> tuple[int, int]:
        """How many requests are answered in one piece, and how many in pieces."""
        streams = sum(running.streamed for running in self.calls.values())
        return len(self.calls) - streams, streams

    def current(self) -> Principal | None:
        """Who the client is under the configuration that serves now; None when it is nobody, and was told so."""
        if self._snapshot is not self.hub.gateway.snapshot and not self._renew():
            return None
        return self._principal

    # Inside.

    def _renew(self) -> bool:
        """Another configuration serves: whose key is it now?"""
        hub = self.hub
        try:
            self._principal = hub.identify_again(self._auth, self._names())
        except AutoGLMError as error:
            self.connection.goodbye(error.code, error.message)
            return False
        self._snapshot = hub.gateway.snapshot
        self._lanes = hub.lanes_of(self._principal)
        return True

    def _names(self) -> tuple[str, ...]:
        """Of the client's certificate, where that is all that it shows."""
        return () if self._auth.kind else self.shell.names()

    def _relay(self, lane: Lane, stream: int, flags: int, remaining_ms: int, payload: bytes, now_s: float) -> bool:
        """Take the short cut, if there is an endpoint with room and an open link that speaks our codec."""
        group = lane.group
        target = group.acquire(now_s, 0, (), self._principal.priority)
        if target is None:
            return False
        permit = group.permit
        node = lane.nodes.get(target)
        session = node.session(self.connection.codec.name) if node is not None else None
        if session is not None:
            if payload[TRACE_AT:REQUEST_BYTES] == NO_TRACE:
                payload = payload[:TRACE_AT] + self.hub.trace_id() + payload[REQUEST_BYTES:]
            call = RelayedRequest(self, lane, session, target, permit)
            if call.send(stream, flags, remaining_ms, payload, now_s):
                self.calls[stream] = call
                self.hub.calls.add(call)
                return True
        target.gate.release(permit, now_s)
        return False

    def _one_hop_more(self, stream: int, payload: bytes) -> bytes:
        """Count that a server sends it on; return nothing when it goes in a circle, which is told."""
        if len(payload) < REQUEST_BYTES:
            return payload or b"\0"  # refused as what cannot be read
        hops = payload[HOPS_AT] + 1
        if hops <= HOPS_MAX:
            return payload[:HOPS_AT] + bytes((hops,)) + payload[HOPS_AT + 1 :]
        if self._tensors is not None:
            self._tensors.drop(stream)
        self.connection.fail(stream, ServerError("loop_detected", _IN_A_CIRCLE))
        return b""

    def _desk(self) -> TensorDesk:
        """Where tensors wait for their requests."""
        if self._tensors is None:
            self._tensors = TensorDesk(self.hub.tensors)
        return self._tensors

    def _call(
        self,
        stream: int,
        flags: int,
        remaining_ms: int,
        payload: bytes,
        now_s: float,
        *,
        lane: Lane | None = None,
        parcel: Parcel | None = None,
    ) -> Call:
        """The ordinary call of a request in frames."""
        headers: dict[str, bytes] = {}
        if remaining_ms:
            headers["x-request-timeout-ms"] = b"%d" % remaining_ms
        if flags & STREAM and parcel is None:  # tensors come whole
            headers["accept"] = _EVENT_STREAM
        if len(payload) >= REQUEST_BYTES:
            trace = payload[TRACE_AT:REQUEST_BYTES]
            if trace != NO_TRACE:
                headers["traceparent"] = b"00-%b-%b-01" % (trace.hex().encode(), trace[:8].hex().encode())
            if payload[_PRIORITY_AT] <= PRIORITY_MAX:
                headers["x-mcp-priority"] = NAMES[payload[_PRIORITY_AT]].encode()
        codec = self.connection.codec
        body = bytes((flags,)) + payload
        if parcel is None:
            call = self._made(FrameReply(self, stream), self.hub.route(codec.name), headers, body, now_s)
        else:
            route = Route(ROUTE, b"POST", "infer", TensorFace(codec, parcel))
            call = self._made(TensorReply(self, stream, parcel), route, headers, body, now_s)
            call.request.body_size += parcel.size
        if lane is not None:
            call.snapshot, call.principal = lane.snapshot, lane.principal
            call.priority, call.record.key = lane.principal.priority, lane.principal.name
        return call

    def _made(self, reply: Reply, route: Route, headers: dict[str, bytes], body: bytes, now_s: float) -> Call:
        hub = self.hub
        request = ServerRequest(reply, b"POST", route.pattern.encode(), headers, body)
        request.received_s = now_s
        request.begun = request.dispatched = True
        snapshot = self._snapshot
        wall_s = clock.wall() - (clock.monotonic() - now_s)
        record = RequestRecord(route.pattern, now_s, snapshot.revision, hub.request_id(), wall_s, self.address)
        request.call = call = Call(hub.gateway, request, route, snapshot, record)
        call.principal = self._principal
        reply.request = request
        self.calls[reply.stream] = reply
        return call

    def _serve(self, call: Call, *, admitted: bool) -> None:
        gateway = self.hub.gateway
        try:
            if not admitted:
                gateway.door.admit(call)
        except AutoGLMError as error:
            call.refuse(error)
            return
        if self.shell.paused:
            call.pause()
        gateway.on_body(call.request)
