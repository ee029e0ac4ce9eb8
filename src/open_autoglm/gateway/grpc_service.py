"""Requests over gRPC: each becomes a call of the request path, as if its message had come in a frame.

Invariant: keys, limits, classes, deadlines, retries and figures are those of the request path; nothing of them is here.
A request is in `answers` from its message to its last word.
"""

from __future__ import annotations

from typing import Final

from open_autoglm import clock
from open_autoglm.admission.classes import NAMES
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.framed_face import FramedFace
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.grpc_answer import GrpcAnswer
from open_autoglm.gateway.snapshot import Route
from open_autoglm.ids import IdSource
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.grpc_messages import SERVICE, read_request_message
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import NO_TRACE, PRIORITY_MAX, REQUEST_BYTES, TRACE_AT
from open_autoglm.transport.grpc_listener import Metadata, Terms
from open_autoglm.transport.http_request import ServerRequest

ROUTE: Final = f"/{SERVICE}"
"""Of requests over gRPC, as in metrics and logs."""
_HEADERS: Final = frozenset(("authorization", "traceparent", "x-api-key", "x-forwarded-for", "x-mcp-session"))
"""Metadata that somebody reads; all other is dropped."""
_PRIORITY_AT: Final = 2
_TIMEOUT_MS_MAX: Final = 86_400_000


class GrpcService:
    """See the module; implements `transport.grpc_listener.GrpcApplication`.

    Args:
        gateway: the request path.

    Attributes:
        answers: to requests that are not over.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.answers: set[GrpcAnswer] = set()
        self._gateway = gateway
        self._route = Route(ROUTE, b"POST", "infer", FramedFace(CODECS["protobuf"]))
        self._ids = IdSource()

    def ask(self, terms: Terms, data: bytes) -> GrpcAnswer:
        """See `GrpcApplication.ask`."""
        gateway = self._gateway
        snapshot, now_s = gateway.snapshot, clock.monotonic()
        answer = GrpcAnswer(terms.address, in_parts=terms.streamed)
        request = ServerRequest(answer, b"POST", ROUTE.encode(), {}, b"")
        request.received_s = now_s
        request.begun = request.dispatched = True
        request_id, wall_s = self._ids.request_id(), clock.wall()
        record = RequestRecord(ROUTE, now_s, snapshot.revision, request_id, wall_s, terms.address)
        request.call = call = Call(gateway, request, self._route, snapshot, record)
        answer.request = request
        self.answers.add(answer)
        try:
            request.headers = headers = _headers(terms)
            if snapshot.proxies:
                record.client = snapshot.proxies.client(terms.address, headers.get("x-forwarded-for"))
            if snapshot.keys is not None:
                call.principal = gateway.door.authenticate(snapshot.keys, snapshot, request, record)
            flags, payload = read_request_message(data, streamed=terms.streamed)
            _add_terms(headers, flags, payload)
            request.body = bytes((flags,)) + payload
            request.body_size = len(data)
            gateway.door.admit(call)
        except AutoGLMError as error:
            call.refuse(error)
            return answer
        gateway.on_body(request)
        return answer

    def leave(self, answer: GrpcAnswer) -> None:
        """See `GrpcApplication.leave`."""
        self.answers.discard(answer)
        answer.gone()

    # The composition root calls these.

    def running(self) -> tuple[int, int]:
        """How many requests are answered in one piece, and how many in pieces."""
        streams = sum(answer.streamed for answer in self.answers)
        return len(self.answers) - streams, streams

    def end_rest(self, error: AutoGLMError, *, streams: bool) -> None:
        """The server cannot wait any longer: end what is asked, streams when they are meant too."""
        for answer in list(self.answers):
            if streams or not answer.streamed:
                answer.drain_cut(error)


def _headers(terms: Terms) -> dict[str, bytes]:
    """The metadata that is read, as headers, and the time that is left.

    Raises:
        RequestError: one of them comes twice.
    """
    headers = _kept(terms.metadata)
    if terms.remaining_s is not None:
        # Time that is up has been too short for anything; the client has left then, or will at once.
        remaining_ms = min(max(int(terms.remaining_s * 1000), 1), _TIMEOUT_MS_MAX)
        headers["x-request-timeout-ms"] = b"%d" % remaining_ms
    return headers


def _kept(metadata: Metadata) -> dict[str, bytes]:
    headers: dict[str, bytes] = {}
    for name, value in metadata:
        if name not in _HEADERS:
            continue
        line = value.encode("latin-1", "replace") if isinstance(value, str) else value
        if name not in headers:
            headers[name] = line
        elif name == "x-forwarded-for":
            headers[name] += b", " + line
        else:
            raise RequestError("invalid_request", f"the metadata {name!r} appears twice")
    return headers


def _add_terms(headers: dict[str, bytes], flags: int, payload: bytes) -> None:
    """Say as headers what the message says, for whoever reads those."""
    if flags & STREAM:
        headers["accept"] = b"text/event-stream"
    trace = payload[TRACE_AT:REQUEST_BYTES]
    if trace != NO_TRACE:
        headers["traceparent"] = b"00-%b-%b-01" % (trace.hex().encode(), trace[:8].hex().encode())
    if payload[_PRIORITY_AT] <= PRIORITY_MAX:
        headers["x-mcp-priority"] = NAMES[payload[_PRIORITY_AT]].encode()
