"""A model whose every token follows from its version and all tokens before, for tests of what engines do with rows.

Its cache keeps the tokens themselves, so a row that was moved, reused or mixed up wrongly gives other tokens, and with
each the version that read it, so that a pass over what another version read is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from open_autoglm.engines.events import Finish, FinishReason, GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.step_model import Ids, Logits, Prompt
from open_autoglm.errors import RequestError

VOCABULARY = 64
END = 0
TOKEN_BYTES = 10


def next_token(version: str, tokens: Sequence[int]) -> int:
    """What a version says after some tokens; one in fifteen or so is the end."""
    total = int(version) * 7
    for token in tokens:
        total = (total * 31 + token + 1) % 9973
    return 0 if total % 15 == 0 else 1 + total % (VOCABULARY - 1)


def request(*tokens: int, **fields: Any) -> GenerateRequest:
    """A request whose prompt is these tokens."""
    return GenerateRequest([{"role": "user", "content": " ".join(map(str, tokens))}], **fields)


def expected(prompt: Sequence[int], tokens_max: int, usage: Usage) -> list[int]:
    """Tokens of an answer, computed again with the versions that its usage claims."""
    tokens: list[int] = []
    spans = {place: span.version for span in usage.spans for place in range(span.start, span.end)}
    while len(tokens) < tokens_max:
        tokens.append(next_token(spans.get(len(tokens), usage.version), [*prompt, *tokens]))
        if tokens[-1] == END:
            break
    return tokens


class Reader:
    """Says tokens as numbers."""

    stopped = False

    def push(self, token: int) -> list[GenerateEvent]:
        return [TextDelta(f"{token} ")]

    def finish(self, reason: FinishReason) -> list[GenerateEvent]:
        return [Finish(reason)]


class RowCache:
    """Tokens by row, each with the version that read it."""

    def __init__(self, rows: int) -> None:
        self.rows: list[list[tuple[str, int]]] = [[] for _ in range(rows)]

    def move(self, source: int, target: int, tokens: int) -> None:
        self.rows[target] = self.rows[source][:tokens]
        self.rows[source] = []

    def save(self, row: int, tokens: int) -> list[tuple[str, int]]:
        return self.rows[row][:tokens]

    def restore(self, row: int, saved: list[tuple[str, int]], tokens: int) -> None:
        self.rows[row] = saved[:tokens]


@dataclass
class CountingModel:
    """See the module; `failures` passes fail first."""

    version: str = "1"
    name: str = "count"
    tokenizer: str = "numbers"
    context: int = 64
    failures: int = 0
    end_tokens: frozenset[int] = frozenset((END,))
    reuses_prefix: bool = True
    piece_tokens: int = 8
    read: list[int] = field(default_factory=list)  # how many tokens of each prompt were read
    rows_max: int = 0

    def prepare(self, request: GenerateRequest) -> Prompt:
        tokens = [int(word) for word in request.messages[-1]["content"].split()]
        if not 0 < len(tokens) < self.context:
            raise RequestError("context_length_exceeded", f"{len(tokens)} tokens")
        return Prompt(tokens, Reader())

    def memory_bytes(self, tokens: int) -> int:
        return TOKEN_BYTES * tokens

    def new_cache(self, rows: int) -> RowCache:
        return RowCache(rows)

    def prefill(self, cache: RowCache, first_row: int, prompts: Sequence[list[int]], start: int) -> Logits:
        self._fail()
        for row, prompt in enumerate(prompts, first_row):
            kept = cache.rows[row][:start] if start else []
            assert len(kept) == start
            cache.rows[row] = kept + [(self.version, token) for token in prompt[start:]]
            self.read.append(len(prompt) - start)
        return self._logits(cache.rows[first_row : first_row + len(prompts)])

    def decode(self, cache: RowCache, tokens: Ids, lengths: Ids) -> Logits:
        self._fail()
        self.rows_max = max(self.rows_max, len(tokens))
        for row, (token, length) in enumerate(zip(tokens.tolist(), lengths.tolist(), strict=True)):
            assert len(cache.rows[row]) == length < self.context
            cache.rows[row].append((self.version, token))
        return self._logits(cache.rows[: len(tokens)])

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise FloatingPointError("the numbers went wrong")

    def _logits(self, rows: list[list[tuple[str, int]]]) -> Logits:
        logits = np.zeros((len(rows), VOCABULARY), np.float32)
        for index, row in enumerate(rows):
            assert {version for version, _ in row} == {self.version}
            logits[index, next_token(self.version, [token for _, token in row])] = 1.0
        return logits
