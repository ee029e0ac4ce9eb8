"""The seam between the batching engine and what computes: one forward pass over packed rows.

An adapter (numpy, ONNX Runtime, PyTorch) implements `StepModel` and a cache; `engine.Engine` does the rest: queue,
slots, admission by memory, sampling, cancellation, deadlines, versions, reuse of prefixes. All methods but `prepare`
are called in the engine's thread alone; `prepare` may be called from any thread at any time, and `new_cache` once,
from the thread that publishes the model.

Rows are packed: those that `decode` is asked for are always `0…n-1`, and when a request leaves, the last of them moves
into its place; the last row of the cache may hold a prompt that is read in pieces. A version is one `StepModel`: its
weights never change once it was given to an engine. Another version is another object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from open_autoglm.engines.events import FinishReason, GenerateEvent, GenerateRequest

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class Reader(Protocol):
    """Turns the tokens of one answer into events."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached: the engine ends the answer."""

    def push(self, token: int) -> list[GenerateEvent]:
        """Events of one more token, which is no end token."""

    def finish(self, reason: FinishReason) -> list[GenerateEvent]:
        """The last events: what was held back, then `Finish`."""


class Constraint(Protocol):
    """Holds an answer to some of the tokens."""

    def allowed(self) -> frozenset[int] | None:
        """Tokens that may come next, at least one; None when every token may."""

    def push(self, token: int) -> None:
        """Take the token that was chosen."""


class Prompt(Struct):
    """What an engine needs to know of a request.

    Attributes:
        tokens: the prompt, 1 token or more, fewer than the model's context.
        reader: of the answer; a new one for each request.
        constraint: of the answer, or None.
        answer: the whole reply with its `Finish`, when the model need not be asked; else None.
        answer_tokens: how long that reply is.
        spell: gives the bytes of a token; None where tokens cannot be told one by one.
    """

    tokens: list[int]
    reader: Reader
    constraint: Constraint | None = None
    answer: list[GenerateEvent] | None = None
    answer_tokens: int = 0
    spell: Callable[[int], bytes] | None = None


class Cache(Protocol):
    """Keys and values of the rows of one version. A model that reuses no prefix needs `move` only."""

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` tokens of row `source` to row `target`; `source` is free afterwards."""

    def save(self, row: int, tokens: int) -> Any:
        """Return a copy of the first `tokens` tokens of a row, `memory_bytes(tokens)` large."""

    def restore(self, row: int, saved: Any, tokens: int) -> None:
        """Put the first `tokens` tokens of what `save` returned into a row."""


class StepModel(Protocol):
    """One version of a model, ready to compute.

    Attributes:
        name: what clients call it.
        version: which weights these are.
        tokenizer: names the vocabulary; answers can go on with another version of the same tokenizer only.
        context: most tokens of prompt and answer together.
        end_tokens: tokens that end an answer.
        reuses_prefix: whether `prefill` can begin after a prefix that is in the cache already.
        piece_tokens: of longer prompts so many tokens are read at once, so that what runs need not wait for the whole;
            0 when prompts have to be read whole, as they must without `reuses_prefix`.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def tokenizer(self) -> str: ...

    @property
    def context(self) -> int: ...

    @property
    def end_tokens(self) -> frozenset[int]: ...

    @property
    def reuses_prefix(self) -> bool: ...

    @property
    def piece_tokens(self) -> int: ...

    def prepare(self, request: GenerateRequest) -> Prompt:
        """Turn a request into a prompt; thread safe.

        Raises:
            RequestError: the model cannot serve it: `invalid_request`, `unsupported_parameter`,
                `context_length_exceeded`.
        """

    def memory_bytes(self, tokens: int) -> int:
        """Bytes that keys and values of so many tokens of one request take."""

    def new_cache(self, rows: int) -> Any:
        """Return a `Cache` for up to `rows` requests of up to `context` tokens."""

    def prefill(self, cache: Any, first_row: int, prompts: Sequence[list[int]], start: int) -> Logits:
        """Read prompts into rows `first_row…`, whose first `start` tokens are there already.

        Args:
            cache: of this model.
            first_row: row of the first prompt; the rows before and behind may be in use.
            prompts: from their beginning, whole or up to the end of a piece, each longer than `start`.
            start: 0 unless `reuses_prefix`.

        Returns:
            Logits `(len(prompts), vocabulary)` of the token after each prompt, which the engine may overwrite.
        """

    def decode(self, cache: Any, tokens: Ids, lengths: Ids) -> Logits:
        """Read one more token for each of the rows `0…len(tokens)`.

        Args:
            cache: with `lengths[i]` tokens already in row `i`.
            tokens: `(rows,)` the new tokens.
            lengths: `(rows,)` tokens already there, each below `context`.

        Returns:
            Logits `(rows, vocabulary)` of the next token, which the engine may overwrite.
        """
