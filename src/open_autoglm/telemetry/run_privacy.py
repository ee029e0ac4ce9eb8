"""What is written down of a run's texts: all of them, or what is needed to compare them.

Invariants: without texts a record holds no prompt, answer, argument or result, but equal answers of one run have equal
digests, so that a vote can be counted again; with texts, whatever looks like a key or token is starred. A digest
is an HMAC-SHA-256 with a key of its own for each run: the same answer in two runs looks different. Whoever has that
key, or the audit's where there is one, can still try short answers until one fits.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

from open_autoglm.telemetry.redact import cap, redact
from open_autoglm.voting.ballot import digest

DIGEST: Final = "digest:"
"""What a digest begins with; 32 hex digits follow."""

TEXT_BYTES_MAX: Final = 64 * 1024
"""Of one text that is kept, in UTF-8."""

_NAME_CHARS_MAX: Final = 256
_DEPTH_MAX: Final = 16
_NUMBER_CHARS_MAX: Final = 4
_ANSWERS: Final = frozenset(("answer",))
_HIDDEN: Final = frozenset(("work",))
"""Kept as digests even where texts are kept: they are only compared, and a starred or shortened one could not be."""
_TEXTS: Final = frozenset(
    (
        "text",
        "prompt",
        "question",
        "messages",
        "message",
        "problem",
        "note",
        "content",
        "args",
        "arguments",
        "result",
        "results",
        "output",
        "value",
        "values",
    )
)


class Privacy:
    """Prepares what one run tells for being written down.

    Args:
        texts: whether texts are kept.
        key: of this run's digests, 32 bytes.

    Attributes:
        answers: each answer as it is written down -> itself; for the time of the run.
        judges: numbers of the asks whose answer is the number of another one.
    """

    __slots__ = ("_key", "_texts", "answers", "judges")

    def __init__(self, *, texts: bool, key: bytes) -> None:
        self._texts = texts
        self._key = key
        self.answers: dict[str, str] = {}
        self.judges: set[object] = set()

    def hidden(self, text: str) -> str:
        """The digest of a text in this run."""
        return f"{DIGEST}{hmac.digest(self._key, text.encode('utf-8', 'surrogatepass'), 'sha256').hex()[:32]}"

    def answer(self, answer: str, *, judged: bool = False) -> str:
        """A canonical answer as it is written down; of a judge a number stays, since it only says which candidate."""
        is_number = judged and answer.isascii() and answer.isdigit() and len(answer) <= _NUMBER_CHARS_MAX
        if not answer or is_number:
            return answer
        written = answer if self._texts and self._fits(answer) else self.hidden(answer)
        self.answers[written] = answer
        return written

    def order(self) -> list[str]:
        """All answers that came, as they are written down, in the order by which strategies decide the last ties."""
        return sorted(self.answers, key=lambda written: digest(self.answers[written]))

    def data(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """An event's data as it is written down; of JSON's types."""
        judged = self._is_judged(value)
        return {str(name): self._field(str(name), each, judged, 0) for name, each in value.items()}

    def _field(self, name: str, value: Any, judged: bool, depth: int) -> Any:
        if isinstance(value, str):
            if name in _ANSWERS:
                return self.answer(value, judged=judged)
            if name in _HIDDEN:
                return self.hidden(value)
            return self._text(value) if name in _TEXTS or len(value) > _NAME_CHARS_MAX else redact(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth == _DEPTH_MAX or (name in _TEXTS and not self._texts):
            return {"left_out": type(value).__name__, "items": len(value)}
        if isinstance(value, dict):
            judged = self._is_judged(value)
            return {str(key): self._field(str(key), each, judged, depth + 1) for key, each in value.items()}
        return [self._field(name, each, judged, depth + 1) for each in value]

    def _is_judged(self, value: Mapping[str, Any]) -> bool:
        """Whether it is a candidate or a vote that a judge gave."""
        ask = value.get("ask")
        return isinstance(ask, int) and ask in self.judges

    def _text(self, value: str) -> Any:
        if not value:
            return value
        if self._texts:
            return cap(redact(value), TEXT_BYTES_MAX)
        return {"digest": self.hidden(value), "chars": len(value)}

    def _fits(self, answer: str) -> bool:
        """Whether an answer can be kept as it is, and so still be compared."""
        return len(answer) <= TEXT_BYTES_MAX // 4 and redact(answer) == answer
