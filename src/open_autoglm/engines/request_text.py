"""What every engine checks of a request, and how an answer's text is cut at a stop string."""

from __future__ import annotations

from typing import Final

from open_autoglm.engines.events import GenerateRequest
from open_autoglm.errors import RequestError

STOP_STRINGS_MAX: Final = 16
TOP_LOGPROBS_MAX: Final = 5


def check_numbers(request: GenerateRequest) -> None:
    """Refuse sampling parameters out of range.

    Raises:
        RequestError: `invalid_request`.
    """
    top = request.top_logprobs
    ranges = (
        ("max_tokens", request.max_tokens is None or request.max_tokens >= 1, "at least 1"),
        ("temperature", 0.0 <= request.temperature <= 2.0, "0 to 2"),
        ("top_p", 0.0 < request.top_p <= 1.0, "above 0, at most 1"),
        ("stop", len(request.stop) <= STOP_STRINGS_MAX and all(request.stop), f"{STOP_STRINGS_MAX} texts at most"),
        ("top_logprobs", top is None or 0 <= top <= TOP_LOGPROBS_MAX, f"0 to {TOP_LOGPROBS_MAX}"),
    )
    for name, fits, allowed in ranges:
        if not fits:
            value = getattr(request, name)
            raise RequestError("invalid_request", f"{name} is {value!r}; it must be {allowed}", param=name)


def content_text(content: object) -> str:
    """Text of a message's content: a string, or a list of text parts.

    Raises:
        RequestError: `invalid_request`, `unsupported_parameter`.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError("invalid_request", "content is neither text nor a list of parts", param="messages")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                "unsupported_parameter", f"this model reads text only, not {kind!r} parts", param="messages"
            )
        parts.append(part["text"])
    return "\n".join(parts)


class StopCutter:
    """Passes text on up to the first stop string; what may be the beginning of one is held back.

    Attributes:
        stopped: whether a stop string was reached; nothing is passed on after it.
    """

    __slots__ = ("_held", "_stop", "stopped")

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, text: str, *, last: bool = False) -> str:
        """What may be told after more text; with `last`, all that is left."""
        if self.stopped:
            return ""
        text = self._held + text
        cut = min((place for place in map(text.find, self._stop) if place >= 0), default=-1)
        if cut >= 0:
            self.stopped, self._held = True, ""
            return text[:cut]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, shorter than `stop`."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
