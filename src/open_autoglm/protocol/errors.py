"""What the peer did against the protocol."""

from __future__ import annotations

from open_autoglm.errors import AutoGLMError


class ProtocolError(AutoGLMError):
    """The peer's bytes cannot be taken as they are: what is said of it goes out in ERROR or GOODBYE.

    Args:
        code: one of `open_autoglm.errors.CODES`; `invalid_request` or `request_too_large` as a rule.
        message: what is wrong, with the value; it reaches the peer.
    """
