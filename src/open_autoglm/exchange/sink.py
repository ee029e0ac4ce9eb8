"""Who an exchange drives: the client on one side, the attempts' work on the other."""

from __future__ import annotations

from typing import Protocol

from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt


class Sink(Protocol):
    """Does what an exchange decides. It hears one of `whole`, `end`, `fail`, `cut` once, unless the client leaves.

    Attributes:
        ready_since_s: monotonic seconds since when the client has taken what is written; infinite while it does not,
            and nothing is asked of the upstream either.
    """

    ready_since_s: float

    # The attempts.

    def open(self, attempt: Attempt) -> None:
        """Send the request to `attempt.target`. Its events may come before this returns."""

    def cancel(self, attempt: Attempt) -> None:
        """Stop the attempt's work at once; nothing more may be told of it."""

    def finish(self, attempt: Attempt) -> bytes:
        """Stop an attempt whose finish reason was passed on; return what closes the client's stream."""

    def continuation(self, attempt: Attempt) -> bool:
        """Whether another endpoint may go on where this attempt broke off. Asked once, after it broke."""

    def estimate(self) -> tuple[int, int]:
        """Tokens of the prompt, and of the answer that is to be expected; what another attempt will cost."""

    # The client.

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        """Start the streamed answer with its first piece."""

    def write(self, payload: bytes) -> None:
        """Go on with the streamed answer."""

    def end(self, attempt: Attempt, payload: bytes) -> None:
        """End the streamed answer; it is whole. `begin` has been called."""

    def whole(self, attempt: Attempt, body: bytes) -> None:
        """Send the unary answer."""

    def fail(self, error: AutoGLMError) -> None:
        """Nothing was sent, and nothing will be but this error."""

    def cut(self, error: AutoGLMError) -> None:
        """Part of an answer was sent, and this error ends it."""
