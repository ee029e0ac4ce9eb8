"""Requests in tensors on their way through a server: to a node and back, as they are.

Nothing of a tensor is read but its preamble. All tensors of a request stay until its answer has gone, since another
endpoint may have to be asked, and all of its answer until that is whole, since it may have to be thrown away.
Invariant: what is kept is accounted for in a `TensorRoom` until `Parcel.release`, and has a limit there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from open_autoglm import clock
from open_autoglm.backends.backend import ModelCall, unsent
from open_autoglm.backends.node_answer import NodeAnswer
from open_autoglm.dialects.canonical import Finish, Usage
from open_autoglm.dialects.face import RequestView
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.protocol.codecs import CODECS, Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import encode_frame
from open_autoglm.protocol.opcodes import INFER_RESPONSE, TENSORS
from open_autoglm.protocol.preambles import read_response, read_tensor, write_request, write_response
from open_autoglm.transport.tensor_handler import TensorHandler

if TYPE_CHECKING:
    from open_autoglm.transport.framed_session import FramedSession

TENSORS_MAX: Final = 32
"""Of a request, and of an answer."""
CONNECTION_BYTES_MAX: Final = 128 << 20
"""For all that one client connection has asked and is answered in tensors at a time."""
SERVER_BYTES_MAX: Final = 512 << 20
RETRY_AFTER_S: Final = 0.5
_CODEC: Final = "msgpack"
"""Of links that are open anyway."""


class TensorRoom:
    """How many bytes of tensors may be kept.

    Args:
        bytes_max: at most here.
        within: the room that this one is a part of.

    Attributes:
        used: bytes that are kept.
    """

    __slots__ = ("_within", "bytes_max", "used")

    def __init__(self, bytes_max: int, within: TensorRoom | None = None) -> None:
        self.bytes_max = bytes_max
        self._within = within
        self.used = 0

    def take(self, size: int) -> bool:
        """Account for so many bytes; False when there is no room for them."""
        if self.used + size > self.bytes_max or (self._within is not None and not self._within.take(size)):
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """So many bytes are kept no longer."""
        self.used -= size
        if self._within is not None:
            self._within.give(size)


class Parcel:
    """The tensors of one request and of its answer.

    Args:
        room: where they are accounted for.

    Attributes:
        asked, answered: payloads of TENSOR frames, whole, in their order.
    """

    __slots__ = ("_held", "_names", "_room", "answered", "asked")

    def __init__(self, room: TensorRoom) -> None:
        self._room = room
        self._held = 0
        self._names: set[str] = set()
        self.asked: list[bytes] = []
        self.answered: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes of the request's tensors."""
        return sum(map(len, self.asked))

    def add(self, payload: bytes) -> None:
        """Keep a tensor of the request.

        Raises:
            RequestError: `invalid_request`, `request_too_large`.
            ServerError: `overloaded`.
        """
        name = read_tensor(payload).name
        if name in self._names:
            raise RequestError("invalid_request", f"two tensors are called {name!r:.80}")
        if len(self.asked) >= TENSORS_MAX or self._held + len(payload) > self._room.bytes_max:
            raise RequestError(
                "request_too_large", f"more than {TENSORS_MAX} tensors, or {self._room.bytes_max} bytes of them"
            )
        self.keep(len(payload))
        self._names.add(name)
        self.asked.append(payload)

    def keep(self, size: int) -> None:
        """Account for so many bytes.

        Raises:
            ServerError: `overloaded`: there is no room for them.
        """
        if not self._room.take(size):
            message = "too many tensors are on their way already; try again later"
            raise ServerError("overloaded", message, retry_after_s=RETRY_AFTER_S)
        self._held += size

    def release(self) -> None:
        """Keep nothing any more."""
        held, self._held = self._held, 0
        self._room.give(held)
        self.asked = []
        self.answered = []


class TensorView(RequestView):
    """What routing and nodes need of a request in tensors.

    Attributes:
        codec: name of the one that the body is in.
        of_session: id of the session, or empty.
        once: whether the client forbids a second attempt.
        body: as it came.
        parcel: its tensors.
    """

    codec: str = ""
    of_session: str = ""
    once: bool = False
    body: bytes = b""
    parcel: Parcel | None = None
    hops: int = 0

    @property
    def session(self) -> str:
        """See `RequestView.session`."""
        return self.of_session

    @property
    def no_retry(self) -> bool:
        """See `RequestView.no_retry`."""
        return self.once


class TensorLinks(Protocol):
    """The links of a node; see `NodeBackend`."""

    def session(self, codec: str) -> FramedSession | None:
        """An open link whose bodies are in a codec; None while there is none."""

    def absence(self) -> tuple[str, str]:
        """Why there is none: the outcome of a request that needs one, and the reason in words."""


def open_in_tensors(links: TensorLinks, attempt: Attempt, call: ModelCall, view: TensorView, model: str) -> None:
    """Send a request with its tensors; see `NodeBackend.open`.

    Args:
        links: of the node.
        attempt, call, view: see `NodeBackend.open`.
        model: as the node calls it.
    """
    exchange, parcel = call.exchange, view.parcel
    assert parcel is not None
    session = links.session(view.codec) or links.session(_CODEC)
    if session is None:
        exchange.failed(attempt, *links.absence(), clock.monotonic())
        return
    answer = TensorsOfNode(attempt, call, view, parcel, CODECS[session.codec])
    remaining_ms = max(1, int((call.deadline_s - attempt.started_s) * 1000))
    try:
        preamble = write_request(model, view.session, trace_id=bytes.fromhex(call.trace_id), hops=view.hops)
        payload = preamble + _in_codec(view.body, view.codec, session.codec)
        stream = session.request_in_tensors(answer, parcel.asked, payload, remaining_ms)
    except AutoGLMError as error:
        exchange.failed(attempt, unsent(error), error.message, clock.monotonic(), error)
        return
    if not stream:
        exchange.failed(attempt, "unavailable", "the link to the node has no room", clock.monotonic())
        return
    answer.link, answer.stream = session, stream
    attempt.handle = answer
    attempt.reused = True
    attempt.sent_s = attempt.started_s


class TensorsOfNode(NodeAnswer, TensorHandler):
    """An answer in tensors on its way to an exchange; see `NodeAnswer`.

    Args:
        attempt, call: whose it is.
        view, parcel: of the request; the parcel gets the tensors when the answer is whole.
        codec: of the bodies on the link.
    """

    __slots__ = ("_parcel", "_tensors", "_wanted_codec")

    def __init__(self, attempt: Attempt, call: ModelCall, view: TensorView, parcel: Parcel, codec: Codec) -> None:
        super().__init__(attempt, call, codec)
        self._parcel = parcel
        self._wanted_codec = view.codec
        self._tensors: list[bytes] = []

    def on_tensor(self, payload: bytes) -> None:
        """See `TensorHandler.on_tensor`."""
        if self._over:
            return
        now_s = self._heard(200)
        if len(self._tensors) >= TENSORS_MAX:
            self._fail("malformed", f"more than {TENSORS_MAX} tensors came", now_s)
            return
        try:
            self._parcel.keep(len(payload))
        except ServerError as error:
            self._fail("refused", error.message, now_s, error)
            return
        self._tensors.append(payload)

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        """See `NodeAnswer.on_response`."""
        if self._over:
            return
        now_s = self._heard(200)
        try:
            frame = self._frame(payload)
        except ProtocolError as error:
            self._fail("malformed", error.message, now_s)
            return
        self._over = True
        self._note_usage()
        self._parcel.answered = self._tensors
        self._call.exchange.whole(self._attempt, frame, now_s)

    def _frame(self, payload: bytes) -> bytes:
        """The response as the client's stream shall have it, as a frame of stream 0.

        Raises:
            ProtocolError: it cannot be read, or does not say why it ends.
        """
        head = read_response(payload)
        if not head.finish:
            raise ProtocolError("invalid_request", "the response says no reason to finish")
        usage = Usage(head.prompt_tokens, head.completion_tokens)
        self._relay.deliver_whole([Finish(head.finish, version=head.version), usage])  # for the figures
        names = head.version, self._call.model
        preamble = write_response(head.prompt_tokens, head.completion_tokens, head.finish, 0, *names)
        body = _in_codec(payload[head.body_at :], self._codec.name, self._wanted_codec)
        return encode_frame(INFER_RESPONSE, 0, preamble + body, TENSORS if self._tensors else 0)


def _in_codec(body: bytes, before: str, after: str) -> bytes:
    """A body as it is, unless the codecs differ.

    Raises:
        ProtocolError: `invalid_request`: it cannot be read.
    """
    return body if before == after else CODECS[after].encode(CODECS[before].decode(body))
