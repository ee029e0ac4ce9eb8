"""An application that answers as it is told, and holds the connection to its promises while it is called."""

from __future__ import annotations

from collections.abc import Callable

from open_autoglm.errors import AutoGLMError
from open_autoglm.transport.http_request import ServerRequest

Act = Callable[["RecordingApplication", ServerRequest], None]


def answer(application: RecordingApplication, request: ServerRequest) -> None:
    """Answer whole, with the request's number and size."""
    application.respond(request)


def leave(application: RecordingApplication, request: ServerRequest) -> None:
    """Do nothing: the answer comes later, or never."""


class RecordingApplication:
    """See the module.

    Args:
        at_head, at_body: what to do when a head or a body has come.
        size: bytes of an answer's body, at least.
        connections: that it serves; what is promised for one alone is only asserted then.

    Attributes:
        begun: requests in the order of their heads; `bodies`: those that were handed over whole.
        gone: those whose client left; `answered`: those that this application answered.
        errors: what the wire refused, with the request where there was one.
        pauses: calls of `on_pause` minus those of `on_resume`.
    """

    def __init__(self, at_head: Act = leave, at_body: Act = answer, *, size: int = 0, connections: int = 1) -> None:
        self.connections = connections
        self.at_head = at_head
        self.at_body = at_body
        self.size = size
        self.begun: list[ServerRequest] = []
        self.bodies: list[ServerRequest] = []
        self.gone: list[ServerRequest] = []
        self.answered: list[ServerRequest] = []
        self.errors: list[tuple[ServerRequest | None, AutoGLMError]] = []
        self.paused: list[ServerRequest] = []
        self.resumed: list[ServerRequest] = []

    @property
    def codes(self) -> list[str]:
        """Codes of the errors of the wire."""
        return [error.code for _, error in self.errors]

    @property
    def seen(self) -> list[tuple[bytes, bytes, bytes]]:
        """Method, target and body of each request that was handed over whole."""
        return [(request.method, request.target, request.body) for request in self.bodies]

    # The connection calls these.

    def on_head(self, request: ServerRequest) -> None:
        assert request.begun
        assert not request.answered
        if self.connections == 1:
            assert all(earlier.finished for earlier in self.begun), "one request at a time"
            assert not self.errors, "nothing is read after a refusal"
        request.call = self
        self.begun.append(request)
        self.at_head(self, request)

    def on_body(self, request: ServerRequest) -> None:
        self._check_known(request)
        assert request not in self.bodies
        assert request.complete
        assert not request.answered
        assert len(request.body) == request.body_size
        self.bodies.append(request)
        self.at_body(self, request)

    def on_gone(self, request: ServerRequest) -> None:
        self._check_known(request)
        assert request not in self.gone
        self.gone.append(request)

    def on_pause(self, request: ServerRequest) -> None:
        self._check_known(request)
        assert not request.finished
        self.paused.append(request)

    def on_resume(self, request: ServerRequest) -> None:
        self._check_known(request)
        assert not request.finished
        self.resumed.append(request)

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        assert request is None or not request.answered, "one answer for one request"
        assert not self.errors or self.connections > 1, "one refusal for one connection"
        self.errors.append((request, error))
        return "x-refused: yes\r\n", error.code.encode()

    def _check_known(self, request: ServerRequest) -> None:
        assert request is self.begun[-1] if self.connections == 1 else request in self.begun

    # A test calls these.

    def respond(self, request: ServerRequest) -> None:
        """Answer whole."""
        self.answered.append(request)
        body = b"%d %d" % (len(self.answered), request.body_size)
        request.connection.respond(request, 200, "", body.ljust(self.size, b"."))

    def start(self, request: ServerRequest, payload: bytes = b"first") -> None:
        """Begin a stream."""
        self.answered.append(request)
        request.connection.start(request, 200, "", "text/event-stream", payload)
