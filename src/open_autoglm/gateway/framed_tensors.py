"""Tensors of one client's connection: kept until their request comes, which then goes the request path.

| TENSOR | request | what becomes of it |
|---|---|---|
| within the limits | with TENSORS | a call whose view has the tensors; nodes get them, other models refuse |
| cannot be read, too many or too large | – | ERROR at once; the request behind it is passed over |
| any | without TENSORS, or cancelled, or never | refused, or dropped |

Invariant: a stream's parcel is here until its request has come or nobody wants it, and its reply's after that; whoever
has it releases it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from open_autoglm.backends.node_tensors import CONNECTION_BYTES_MAX, Parcel, TensorRoom, TensorView
from open_autoglm.dialects.canonical import InferRequest, Kind
from open_autoglm.dialects.face import RequestView
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.framed_face import FramedEncoder, FramedFace
from open_autoglm.gateway.framed_reply import FrameReply
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.frames import HEADER
from open_autoglm.protocol.opcodes import INFER_RESPONSE, LAST, NO_RETRY, TENSOR, TENSORS
from open_autoglm.protocol.preambles import read_request

if TYPE_CHECKING:
    from open_autoglm.gateway.framed_peer import FramedPeer
    from open_autoglm.transport.http_request import ServerRequest


class TensorDesk:
    """See the module.

    Args:
        room: of the server.
    """

    __slots__ = ("_parcels", "_room")

    def __init__(self, room: TensorRoom) -> None:
        self._room = TensorRoom(CONNECTION_BYTES_MAX, room)
        self._parcels: dict[int, Parcel] = {}

    def keep(self, stream: int, payload: bytes) -> None:
        """Keep a tensor for the request that follows.

        Raises:
            RequestError, ServerError: see `Parcel.add`; nothing of the stream is kept then.
        """
        parcel = self._parcels.get(stream)
        if parcel is None:
            parcel = self._parcels[stream] = Parcel(self._room)
        try:
            parcel.add(payload)
        except AutoGLMError:
            self.drop(stream)
            raise

    def take(self, stream: int, flags: int) -> Parcel | None:
        """What came for a request, which is the caller's from now on; None for one that has nothing to do with tensors.

        Args:
            stream: of the request.
            flags: of it.
        """
        parcel = self._parcels.pop(stream, None)
        return Parcel(self._room) if parcel is None and flags & TENSORS else parcel

    def drop(self, stream: int) -> None:
        """Nobody wants what came on a stream any more."""
        parcel = self._parcels.pop(stream, None)
        if parcel is not None:
            parcel.release()


class TensorFace:
    """One INFER_REQUEST with its tensors; see `framed_face.FramedFace`, whose forms its errors have.

    Args:
        codec: of bodies.
        parcel: the tensors.
    """

    __slots__ = ("_codec", "_parcel", "_plain")
    name: ClassVar[str] = "mcp"
    kind: ClassVar[Kind] = "chat"

    def __init__(self, codec: Codec, parcel: Parcel) -> None:
        self._codec = codec
        self._parcel = parcel
        self._plain = FramedFace(codec)

    def read(self, body: bytes) -> TensorView:
        """See `Face.read`."""
        flags = body[0]
        payload = body[1:]
        preamble = read_request(payload)
        if not flags & TENSORS:
            raise RequestError("invalid_request", "tensors came before the request, which does not say so")
        if not self._parcel.asked:
            raise RequestError("invalid_request", "the request says that tensors came before it, and none did")
        return TensorView(
            model=preamble.model,
            codec=self._codec.name,
            of_session=preamble.session,
            once=bool(flags & NO_RETRY),
            body=payload[preamble.body_at :],
            parcel=self._parcel,
            hops=preamble.hops,
        )

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`: whoever wants to translate a request is no node."""
        raise RequestError("unsupported_parameter", f"{view.model!r} takes messages, no tensors")

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> FramedEncoder:
        """See `Face.encoder`."""
        return self._plain.encoder(view, request_id, model, created_s)

    def error_body(self, error: AutoGLMError, request_id: str, request: bytes = b"") -> bytes:
        """See `Face.error_body`."""
        return self._plain.error_body(error, request_id, request)

    def error_event(self, error: AutoGLMError, request_id: str, delivered_chars: int, request: bytes = b"") -> bytes:
        """See `Face.error_event`."""
        return self._plain.error_event(error, request_id, delivered_chars, request)


class TensorReply(FrameReply):
    """Answers a request in tensors. A client that does not read its connection gets the answer when it does.

    Args:
        client, stream: see `Reply`.
        parcel: of the request; released when the answer is written, or nobody wants it.
    """

    __slots__ = ("_parcel", "_waiting")

    def __init__(self, client: FramedPeer, stream: int, parcel: Parcel) -> None:
        super().__init__(client, stream)
        self._parcel = parcel
        self._waiting = b""

    def gone(self) -> None:
        """See `Reply.gone`."""
        super().gone()
        self._waiting = b""
        self._parcel.release()

    def abort(self) -> None:
        """See `Reply.abort`."""
        super().abort()
        self._parcel.release()

    def respond(self, request: ServerRequest, status: int, extra: str, body: bytes) -> None:
        """See `Reply.respond`."""
        call = request.call
        if isinstance(call, Call):
            call.record.bytes_out += sum(map(len, self._parcel.answered))
        super().respond(request, status, extra, body)

    def resume(self) -> None:
        """See `Reply.resume`."""
        payload, self._waiting = self._waiting, b""
        if payload:
            self._client.forget(self.stream)
            self._send(payload, last=True)
        else:
            super().resume()

    def _send(self, payload: bytes, *, last: bool) -> None:
        client, parcel = self._client, self._parcel
        if client.shell.paused and parcel.answered:
            self._waiting = payload
            client.calls[self.stream] = self
            return
        if HEADER.unpack_from(payload)[1] == INFER_RESPONSE:
            left = len(parcel.answered)
            for tensor in parcel.answered:
                left -= 1
                client.connection.send(TENSOR, self.stream, tensor, 0 if left else LAST)
        parcel.release()
        super()._send(payload, last=last)
        client.shell.flush()  # so that the next one knows whether this one was too much
