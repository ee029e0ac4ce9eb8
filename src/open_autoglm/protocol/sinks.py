"""What a connection tells its role, frame by frame.

A callback may call any method of the connection, also one that ends it. Payloads are whole messages: fragments have
been joined. What a callback raises, other than `ProtocolError`, goes through `Connection.receive` to the shell.
"""

from __future__ import annotations

from typing import Protocol

from open_autoglm.protocol.handshake import Hello, Welcome


class ConnectionSink(Protocol):
    """What both roles hear."""

    def on_credit(self, stream: int, released: int) -> None:
        """Chunks that had to wait went out: bytes for which `Connection.chunk` has not said yet that they are gone."""

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        """A message that has no callback of its own: tensors, tickets, updates, commands, loads, usage."""

    def on_closed(self, code: str, message: str) -> None:
        """The connection has come to its end, once: nothing is told after it. What is in `out` may still go out.

        Args:
            code: one of `errors.CODES`, or what the peer wrote in GOODBYE.
            message: why; may be the peer's text.
        """


class ServerSink(ConnectionSink, Protocol):
    """What the role that was connected to hears."""

    def on_hello(self, hello: Hello) -> None:
        """The client has said who it is: answer by `ServerConnection.accept` or `refuse`, at once or later."""

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        """INFER_REQUEST, whole: preamble and body; 0 remaining milliseconds when none are given."""

    def on_message(self, stream: int, payload: bytes) -> None:
        """MESSAGE: one JSON envelope, to be answered by `ServerConnection.message`."""

    def on_cancel(self, stream: int) -> None:
        """Nobody wants the answer any more: it was cancelled, its connection was lost, or its reader is too slow.

        What is still sent on the stream goes nowhere. It may be a stream of which only tensors came, or nothing whole.
        """


class ClientSink(ConnectionSink, Protocol):
    """What the role that connected hears."""

    def on_welcome(self, welcome: Welcome) -> None:
        """The connection is open: requests may go out."""

    def on_response(self, stream: int, flags: int, chunks: int, payload: bytes) -> None:
        """INFER_RESPONSE, whole: preamble and body. The stream has ended, after so many chunks."""

    def on_chunk(self, stream: int, flags: int, choice: int, seq: int, payload: bytes) -> None:
        """INFER_CHUNK. Call `Connection.consume` when its bytes have been taken on."""

    def on_error(self, stream: int, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        """ERROR: see `errors.read_error`. The stream has ended."""

    def on_message(self, stream: int, flags: int, payload: bytes) -> None:
        """MESSAGE: one JSON envelope; the stream has ended when flags have LAST."""

    def on_drain(self, grace_ms: int, payload: bytes) -> None:
        """DRAIN: no new requests on this connection; what runs has so long."""
