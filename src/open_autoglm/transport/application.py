"""What stands behind a listener: the calls that an HTTP connection makes upwards.

Invariant, kept by the connection: for each request `on_head` comes first, `on_body` at most once, `on_gone` at most
once and never after the answer's end; requests of one connection never overlap.
"""

from __future__ import annotations

from typing import Protocol

from open_autoglm.errors import AutoGLMError
from open_autoglm.transport.http_request import ServerRequest


class Application(Protocol):
    """What the shell calls. None of these may raise or block."""

    def on_head(self, request: ServerRequest) -> None:
        """A head has arrived. The application may refuse by answering at once."""

    def on_body(self, request: ServerRequest) -> None:
        """The body is complete and nothing has been answered yet."""

    def on_gone(self, request: ServerRequest) -> None:
        """The client has left before the answer's end, or the shell has refused the rest (`request.problem`)."""

    def on_pause(self, request: ServerRequest) -> None:
        """The client reads slowly: write no more for now."""

    def on_resume(self, request: ServerRequest) -> None:
        """The client reads again."""

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        """Return extra header lines and the body for an error of the wire."""
