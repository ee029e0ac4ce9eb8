"""The events of one answer, put together: what a unary answer is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from open_autoglm.dialects.canonical import (
    Embedding,
    Event,
    Finish,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCall,
    ToolCallDelta,
    Usage,
    estimate_tokens,
)


@dataclass(slots=True)
class Choice:
    """One of the answers.

    Attributes:
        text, reasoning: pieces in order.
        calls: tool calls by number.
        scores: how likely the model held each token, where it was asked for.
        finish_reason: empty until the choice is complete.
    """

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, list[ToolCallDelta]] = field(default_factory=dict)
    scores: list[TokenScore] = field(default_factory=list)
    finish_reason: str = ""

    def tool_calls(self) -> list[ToolCall]:
        """The calls, each put together from its pieces."""
        return [
            ToolCall(
                next((piece.id for piece in pieces if piece.id), ""),
                next((piece.name for piece in pieces if piece.name), ""),
                "".join(piece.arguments for piece in pieces),
            )
            for _, pieces in sorted(self.calls.items())
        ]


class Gathering:
    """Takes the events of a whole answer.

    Attributes:
        choices: by index.
        vectors: embeddings by index.
        version: of the model that computed it, empty when nobody said it.
    """

    __slots__ = ("choices", "vectors", "version")

    def __init__(self, events: Iterable[Event]) -> None:
        self.choices: dict[int, Choice] = {}
        self.vectors: dict[int, list[float]] = {}
        self.version = ""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta(text, index):
                self._choice(index).text.append(text)
            case ReasoningDelta(text, index):
                self._choice(index).reasoning.append(text)
            case ToolCallDelta(call=call, index=index):
                self._choice(index).calls.setdefault(call, []).append(event)
            case TokenScore(index=index):
                self._choice(index).scores.append(event)
            case Finish(reason, index, version=version):
                self._choice(index).finish_reason = reason
                self.version = version or self.version
            case Embedding(vector, index):
                self.vectors[index] = vector

    def _choice(self, index: int) -> Choice:
        choice = self.choices.get(index)
        if choice is None:
            choice = self.choices[index] = Choice()
        return choice


class Tally:
    """Counts what an answer's usage is made of, and keeps no text.

    Attributes:
        usage: None until the upstream has said it.
        written_bytes: of text, thinking and tool calls, UTF-8.
    """

    __slots__ = ("usage", "written_bytes")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.written_bytes = 0

    def add(self, events: Iterable[Event]) -> None:
        """Count events."""
        for event in events:
            match event:
                case TextDelta(text) | ReasoningDelta(text) | ToolCallDelta(arguments=text):
                    self.written_bytes += len(text.encode("utf-8", "replace"))
                case Usage():
                    self.usage = event

    def usage_or_estimate(self, prompt_bytes: int) -> Usage:
        """The upstream's figures, or an estimate that says it is one."""
        if self.usage is not None:
            return self.usage
        return Usage(estimate_tokens(prompt_bytes), estimate_tokens(self.written_bytes), estimated=True)
