"""A `StepModel` over any graph that takes keys and values of what came before and gives those of what is new.

Rows of unlike length share a pass: new tokens are aligned at the right, so that the last place of each row is its last
token, and a mask hides what stands before short prompts and behind short pasts. Positions are given with the tokens, so
the place of a key in memory does not matter. Invariant: what a row is told does not depend on the other rows, but for
rounding; a graph that breaks it is refused when it is loaded (`check_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.step_model import Ids, Logits, Prompt
from open_autoglm.engines.text_side import TextSide
from open_autoglm.errors import ServerError

CAPACITY_TOKENS: Final = 256
"""For so many tokens a cache has room at first; it doubles when one row needs more."""
PASS_TOKENS_MAX: Final = 2048
"""Most tokens, padding included, that are read in one pass; what is asked for beyond is read in several."""
PIECE_TOKENS: Final = 256
"""See `StepModel`: a library needs some hundred tokens to use a processor well."""
ROWS_TOLERANCE: Final = 2e-3
"""Most that logits of a row may differ between a pass alone and a pass with others, of the largest logit."""


class KvShape(Struct, frozen=True):
    """Sizes of the keys and values of one token: of each layer, `kv_heads * head_dim` numbers twice."""

    layers: int
    kv_heads: int
    head_dim: int
    item_bytes: int


class Graph(Protocol):
    """Computes one pass; arrays are numpy's, or tensors that are indexed as those are.

    Attributes:
        shape: of keys and values.
        vocabulary: how many logits it gives.
    """

    @property
    def shape(self) -> KvShape: ...

    @property
    def vocabulary(self) -> int: ...

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """An array for keys or values."""

    def run(self, ids: Ids, mask: Ids, places: Ids, keys: Any, values: Any) -> tuple[Logits, Any, Any]:
        """One pass.

        Args:
            ids: `(rows, new)` tokens.
            mask: `(rows, past + new)`, 1 where a token counts.
            places: `(rows, new)` position of each new token in its text.
            keys, values: `(layers, rows, kv_heads, past, head_dim)`.

        Returns:
            Logits `(rows, vocabulary)` of the last place, and the new keys and values
            `(layers, rows, kv_heads, new, head_dim)`.
        """


class PastCache:
    """Keys and values of up to `rows` requests, `(layers, rows, kv_heads, tokens, head_dim)` each."""

    __slots__ = ("_capacity", "_context", "_graph", "_rows", "keys", "values")

    def __init__(self, graph: Graph, rows: int, context: int, capacity: int = CAPACITY_TOKENS) -> None:
        self._graph = graph
        self._rows = rows
        self._context = context
        self._capacity = min(capacity, context)
        self.keys = self._zeros()
        self.values = self._zeros()

    def ensure(self, tokens: int) -> None:
        """Make room for so many tokens in each row."""
        if tokens <= self._capacity:
            return
        before = self._capacity
        self._capacity = min(max(tokens, 2 * before), self._context)
        keys, values = self._zeros(), self._zeros()
        keys[:, :, :, :before] = self.keys
        values[:, :, :, :before] = self.values
        self.keys, self.values = keys, values

    def move(self, source: int, target: int, tokens: int) -> None:
        """See `step_model.Cache`."""
        for held in (self.keys, self.values):
            held[:, target, :, :tokens] = held[:, source, :, :tokens]

    def save(self, row: int, tokens: int) -> tuple[Any, Any]:
        """See `step_model.Cache`."""
        saved = self._graph.zeros(self._shape(1, tokens)), self._graph.zeros(self._shape(1, tokens))
        saved[0][:, 0] = self.keys[:, row, :, :tokens]
        saved[1][:, 0] = self.values[:, row, :, :tokens]
        return saved

    def restore(self, row: int, saved: tuple[Any, Any], tokens: int) -> None:
        """See `step_model.Cache`."""
        self.ensure(tokens)
        self.keys[:, row, :, :tokens] = saved[0][:, 0, :, :tokens]
        self.values[:, row, :, :tokens] = saved[1][:, 0, :, :tokens]

    def _zeros(self) -> Any:
        return self._graph.zeros(self._shape(self._rows, self._capacity))

    def _shape(self, rows: int, tokens: int) -> tuple[int, ...]:
        shape = self._graph.shape
        return shape.layers, rows, shape.kv_heads, tokens, shape.head_dim


class PastModel:
    """See the module; a `StepModel`. Only `prepare` is thread safe.

    Args:
        name, version: of the model.
        text: between messages and tokens.
        graph: that computes.
        context: most tokens of prompt and answer together.
        pass_tokens_max: most tokens, padding included, that are read in one pass.
    """

    reuses_prefix = True
    piece_tokens = PIECE_TOKENS

    def __init__(
        self,
        name: str,
        version: str,
        text: TextSide,
        graph: Graph,
        context: int,
        *,
        pass_tokens_max: int = PASS_TOKENS_MAX,
    ) -> None:
        self.name = name
        self.version = version
        self.context = context
        self.graph = graph
        self.text = text
        self._pass_tokens_max = pass_tokens_max

    @property
    def tokenizer(self) -> str:
        """Names the vocabulary."""
        return self.text.tokenizer

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.text.end_tokens

    def prepare(self, request: GenerateRequest) -> Prompt:
        """See `StepModel`."""
        return self.text.prepare(request, self.context)

    def memory_bytes(self, tokens: int) -> int:
        """See `StepModel`."""
        shape = self.graph.shape
        return 2 * shape.layers * shape.kv_heads * shape.head_dim * shape.item_bytes * tokens

    def new_cache(self, rows: int) -> PastCache:
        """See `StepModel`; it grows with the longest row."""
        return PastCache(self.graph, rows, self.context)

    def prefill(self, cache: PastCache, first_row: int, prompts: Sequence[list[int]], start: int = 0) -> Logits:
        """See `StepModel`."""
        longest = max(len(prompt) for prompt in prompts)
        cache.ensure(longest)
        if len(prompts) * (longest - start) <= self._pass_tokens_max:
            return self._read(cache, first_row, prompts, start)
        logits = []
        for row, prompt in enumerate(prompts, first_row):
            for at in range(start, len(prompt), self._pass_tokens_max):
                last = self._read(cache, row, [prompt[: at + self._pass_tokens_max]], at)
            logits.append(last)
        return np.concatenate(logits)

    def decode(self, cache: PastCache, tokens: Ids, lengths: Ids) -> Logits:
        """See `StepModel`."""
        rows, past = len(tokens), int(lengths.max())
        cache.ensure(past + 1)
        mask = np.ones((rows, past + 1), np.int64)
        mask[:, :past] = np.arange(past) < lengths[:, None]
        logits, keys, values = self.graph.run(
            tokens[:, None],
            mask,
            lengths[:, None],
            cache.keys[:, :rows, :, :past],
            cache.values[:, :rows, :, :past],
        )
        if rows == 1:
            cache.keys[:, 0, :, past] = keys[:, 0, :, 0]
            cache.values[:, 0, :, past] = values[:, 0, :, 0]
        else:
            every = np.arange(rows)  # what it chooses has rows first, then layers
            cache.keys[:, every, :, lengths] = keys[:, :, :, 0].swapaxes(0, 1)
            cache.values[:, every, :, lengths] = values[:, :, :, 0].swapaxes(0, 1)
        return logits

    def _read(self, cache: PastCache, first_row: int, prompts: Sequence[list[int]], start: int) -> Logits:
        """One pass over the ends of prompts, after the `start` tokens of each that are there."""
        rows, sizes = len(prompts), np.array([len(prompt) - start for prompt in prompts])
        new = int(sizes.max())
        ids = np.zeros((rows, new), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, new - sizes[row] :] = prompt[start:]
        padding = new - sizes[:, None]
        places = np.maximum(start + np.arange(new)[None, :] - padding, 0)
        mask = np.ones((rows, start + new), np.int64)
        mask[:, start:] = np.arange(new) >= padding
        last_row = first_row + rows
        logits, keys, values = self.graph.run(
            ids,
            mask,
            places,
            cache.keys[:, first_row:last_row, :, :start],
            cache.values[:, first_row:last_row, :, :start],
        )
        for row, size in enumerate(sizes.tolist()):
            cache.keys[:, first_row + row, :, start : start + size] = keys[:, row, :, new - size :]
            cache.values[:, first_row + row, :, start : start + size] = values[:, row, :, new - size :]
        return logits


def check_rows(model: PastModel) -> None:
    """Try a graph: rows of unlike length together, and each alone, must be told the same.

    Raises:
        ServerError: `internal_error`, they are not, or the graph fails.
    """
    vocabulary = model.graph.vocabulary
    longest = min(8, model.context - 2)
    prompts = [[(7 * place + 3 * row) % vocabulary for place in range(size)] for row, size in enumerate((longest, 3))]
    try:
        together = _two_passes(model, prompts)
        alone = np.concatenate([_two_passes(model, [prompt]) for prompt in prompts], axis=1)
    except Exception as error:  # whatever a library raises about a graph that does not fit
        raise ServerError("internal_error", f"the graph of {model.name!r} cannot be run: {error}"[:500]) from error
    if not np.isfinite(together).all() or together.shape != (2, 2, vocabulary):
        raise ServerError("internal_error", f"the graph of {model.name!r} gives no logits of {vocabulary} tokens")
    difference = float(np.abs(together - alone).max())
    if difference > ROWS_TOLERANCE * max(1.0, float(np.abs(alone).max())):
        raise ServerError(
            "internal_error",
            f"the graph of {model.name!r} mixes the rows of a batch (logits differ by {difference:.3g}); "
            "it has to follow attention_mask and position_ids",
        )


def _two_passes(model: PastModel, prompts: list[list[int]]) -> NDArray[np.float32]:
    """Logits `(2, rows, vocabulary)` of a prompt and of one token more."""
    cache = model.new_cache(len(prompts))
    first = model.prefill(cache, 0, prompts)
    lengths = np.array([len(prompt) for prompt in prompts])
    return np.stack([first, model.decode(cache, np.full(len(prompts), 1), lengths)])
