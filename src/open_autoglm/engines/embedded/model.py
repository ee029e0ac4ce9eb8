"""The GLM forward pass in numpy, for several requests of different length at once.

Invariant: the weights of a `GlmModel` never change. What can be computed when weights are loaded is:
norms are folded into the next matrix, 1/sqrt(head_dim) into q, q, k, v and the rotated copies of q and k are
one matrix. Source of the maths: the GLM family as published in `transformers.GlmForCausalLM`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from open_autoglm.engines.embedded import chat
from open_autoglm.engines.embedded.abilities import Abilities
from open_autoglm.engines.embedded.tokenizer import EOS
from open_autoglm.engines.embedded.tokenizer import NAME as TOKENIZER
from open_autoglm.engines.embedded.weights import Array
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.step_model import Prompt
from open_autoglm.errors import ServerError

Ids = NDArray[np.int64]
_MASKED: Final = np.float32(-1e9)  # finite, so that a fully masked padding row gives no NaN
PIECE_TOKENS: Final = 64
"""See `StepModel`: some ten passes over four rows take as long; a token costs a tenth more than read whole."""
_PARAMETERS_MAX: Final = 16_000_000


@dataclass(frozen=True, slots=True)
class GlmConfig:
    """Sizes of a model, as in its `config.json`.

    Attributes:
        hidden: width of the residual stream.
        layers, heads, kv_heads, head_dim, mlp: as the names say; `heads` is a multiple of `kv_heads`.
        rotated: leading dimensions of each head that the rotary embedding turns, even.
        vocabulary: number of tokens.
        context: most tokens of prompt and answer together.
        norm_eps: added to the mean square in RMSNorm.
        rope_theta: base of the rotary frequencies.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    rotated: int
    vocabulary: int
    context: int
    norm_eps: float
    rope_theta: float

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> GlmConfig:
        """Reads a `config.json` of `GlmForCausalLM`.

        Raises:
            ServerError: `internal_error`, when it is another kind of model or a size makes no sense.
        """
        try:
            if fields["model_type"] != "glm" or fields["hidden_act"] != "silu" or not fields["tie_word_embeddings"]:
                raise ValueError("it is not a GLM model with silu and tied embeddings")
            config = cls(
                hidden=int(fields["hidden_size"]),
                layers=int(fields["num_hidden_layers"]),
                heads=int(fields["num_attention_heads"]),
                kv_heads=int(fields["num_key_value_heads"]),
                head_dim=int(fields["head_dim"]),
                mlp=int(fields["intermediate_size"]),
                rotated=int(fields["head_dim"] * fields["partial_rotary_factor"]),
                vocabulary=int(fields["vocab_size"]),
                context=int(fields["max_position_embeddings"]),
                norm_eps=float(fields["rms_norm_eps"]),
                rope_theta=float(fields["rope_theta"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError("internal_error", f"model configuration cannot be used: {error!r}") from error
        sizes = (config.hidden, config.layers, config.heads, config.kv_heads, config.head_dim, config.mlp)
        if not all(0 < size <= 8192 for size in (*sizes, config.vocabulary, config.context)):
            raise ServerError("internal_error", f"model configuration has a size out of 1..8192: {config!r}")
        if config.heads % config.kv_heads or config.rotated % 2 or not 0 < config.rotated <= config.head_dim:
            raise ServerError("internal_error", f"model configuration has heads that do not fit: {config!r}")
        return config

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that a weights file of this model must hold."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.layers):
            start = f"model.layers.{layer}."
            shapes[start + "input_layernorm.weight"] = (self.hidden,)
            shapes[start + "post_attention_layernorm.weight"] = (self.hidden,)
            for name, rows in (("q", q), ("k", kv), ("v", kv)):
                shapes[f"{start}self_attn.{name}_proj.weight"] = (rows, self.hidden)
                shapes[f"{start}self_attn.{name}_proj.bias"] = (rows,)
            shapes[start + "self_attn.o_proj.weight"] = (self.hidden, q)
            shapes[start + "mlp.gate_up_proj.weight"] = (2 * self.mlp, self.hidden)
            shapes[start + "mlp.down_proj.weight"] = (self.hidden, self.mlp)
        return shapes


class LayerWeights(NamedTuple):
    """Packed matrices of one layer, each `(in, out)` and contiguous.

    `qkv` gives, side by side: q and k of all heads, the same turned by a quarter, v. `gate_up` gives the
    negated gate and `down` is negated too, which saves an operation in silu.
    """

    qkv: Array
    qkv_bias: Array
    output: Array
    gate_up: Array
    down: Array


class Weights(NamedTuple):
    """Everything that a forward pass reads. `head` is the output matrix `(hidden, vocabulary)`."""

    embedding: Array
    layers: tuple[LayerWeights, ...]
    head: Array


def pack(config: GlmConfig, tensors: dict[str, Array]) -> Weights:
    """Packs the tensors of a weights file for `GlmModel`.

    Raises:
        ServerError: `internal_error`, when tensors are missing, extra, of other shape or not finite.
    """
    shapes = config.shapes()
    if sum(math.prod(shape) for shape in shapes.values()) > _PARAMETERS_MAX:
        raise ServerError("internal_error", f"model is larger than {_PARAMETERS_MAX} parameters")
    if tensors.keys() != shapes.keys():
        odd = sorted(tensors.keys() ^ shapes.keys())
        raise ServerError("internal_error", f"weights file has tensors missing or extra: {odd[:4]!r}")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or not np.isfinite(tensor).all():
            raise ServerError("internal_error", f"tensor {name!r} has shape {tensor.shape!r} or is not finite")
    embedding = np.ascontiguousarray(tensors["model.embed_tokens.weight"], dtype=np.float32)
    head = np.ascontiguousarray((embedding * tensors["model.norm.weight"]).T)
    layers = tuple(_pack_layer(config, tensors, f"model.layers.{index}.") for index in range(config.layers))
    return Weights(embedding, layers, head)


def _pack_layer(config: GlmConfig, tensors: dict[str, Array], start: str) -> LayerWeights:
    attention = start + "self_attn."
    scale = np.float32(config.head_dim**-0.5)
    q, k, v = (tensors[f"{attention}{name}_proj.weight"] for name in "qkv")
    q_bias, k_bias, v_bias = (tensors[f"{attention}{name}_proj.bias"] for name in "qkv")
    both = np.concatenate((q * scale, k))
    both_bias = np.concatenate((q_bias * scale, k_bias))
    turned, turned_bias = _quarter_turn(config, both), _quarter_turn(config, both_bias)
    qkv = np.concatenate((both, turned, v)) * tensors[start + "input_layernorm.weight"]
    gate_up = tensors[start + "mlp.gate_up_proj.weight"] * tensors[start + "post_attention_layernorm.weight"]
    sign = np.ones((2 * config.mlp, 1), np.float32)
    sign[: config.mlp] = -1.0
    return LayerWeights(
        np.ascontiguousarray(qkv.T),
        np.concatenate((both_bias, turned_bias, v_bias)),
        np.ascontiguousarray(tensors[attention + "o_proj.weight"].T),
        np.ascontiguousarray((gate_up * sign).T),
        np.ascontiguousarray(-tensors[start + "mlp.down_proj.weight"].T),
    )


def _quarter_turn(config: GlmConfig, rows: Array) -> Array:
    """Rows that give `(-x1, x0, -x3, x2, …)` for each head's rotated part and zero for the rest."""
    heads = rows.reshape(-1, config.head_dim, *rows.shape[1:])
    turned = np.zeros_like(heads)
    turned[:, 0 : config.rotated : 2] = -heads[:, 1 : config.rotated : 2]
    turned[:, 1 : config.rotated : 2] = heads[:, 0 : config.rotated : 2]
    return turned.reshape(rows.shape)


class KvCache:
    """Keys and values of up to `rows` requests of up to `config.context` tokens.

    `k` is `(layers, rows, kv_heads, head_dim, tokens)`, `v` is `(layers, rows, kv_heads, tokens, head_dim)`:
    both products of the attention then run over contiguous memory.
    """

    __slots__ = ("k", "v")

    def __init__(self, config: GlmConfig, rows: int) -> None:
        self.k = np.zeros((config.layers, rows, config.kv_heads, config.head_dim, config.context), np.float32)
        self.v = np.zeros((config.layers, rows, config.kv_heads, config.context, config.head_dim), np.float32)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` tokens of row `source` to row `target`."""
        self.k[:, target, ..., :tokens] = self.k[:, source, ..., :tokens]
        self.v[:, target, :, :tokens] = self.v[:, source, :, :tokens]

    def save(self, row: int, tokens: int) -> tuple[Array, Array]:
        """Copies of the first `tokens` keys and values of a row."""
        return self.k[:, row, ..., :tokens].copy(), self.v[:, row, :, :tokens].copy()

    def restore(self, row: int, saved: tuple[Array, Array], tokens: int) -> None:
        """Puts the first `tokens` of what `save` returned into a row."""
        self.k[:, row, ..., :tokens] = saved[0][..., :tokens]
        self.v[:, row, :, :tokens] = saved[1][:, :, :tokens]


class GlmModel:
    """One version of a model, ready to run: a `StepModel`. Only `prepare` is thread safe."""

    tokenizer = TOKENIZER
    end_tokens = frozenset((EOS,))
    reuses_prefix = True
    piece_tokens = PIECE_TOKENS

    def __init__(self, config: GlmConfig, weights: Weights, abilities: Abilities) -> None:
        self.config = config
        self.abilities = abilities
        self.weights = weights
        frequency = config.rope_theta ** (-np.arange(0, config.rotated, 2, dtype=np.float64) / config.rotated)
        angle = np.repeat(np.arange(config.context)[:, None] * frequency[None, :], 2, axis=1)
        self._cosine = np.ones((config.context, 1, config.head_dim), np.float32)
        self._sine = np.zeros((config.context, 1, config.head_dim), np.float32)
        self._cosine[:, 0, : config.rotated] = np.cos(angle)
        self._sine[:, 0, : config.rotated] = np.sin(angle)

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.abilities.name

    @property
    def version(self) -> str:
        """Which weights these are."""
        return self.abilities.version

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.config.context

    def prepare(self, request: GenerateRequest) -> Prompt:
        """The prompt of a request; see `chat.prepare` for what is refused."""
        return chat.prompt_of(request, self.abilities, self.config.context)

    def memory_bytes(self, tokens: int) -> int:
        """Bytes of the keys and values of so many tokens."""
        config = self.config
        return 2 * config.layers * config.kv_heads * config.head_dim * tokens * np.dtype(np.float32).itemsize

    def new_cache(self, rows: int) -> KvCache:
        """A cache for up to `rows` requests."""
        return KvCache(self.config, rows)

    def prefill(self, cache: KvCache, first_row: int, prompts: Sequence[list[int]], start: int = 0) -> Array:
        """Reads whole prompts into rows `first_row…` of the cache, after `start` tokens that are there already.

        Args:
            cache: of this model's sizes; the rest of the rows `first_row` to `first_row + len(prompts)` is overwritten.
            first_row: row of the first prompt.
            prompts: token ids, each longer than `start` and up to `context` long.
            start: how many tokens of every prompt the cache holds.

        Returns:
            Logits `(len(prompts), vocabulary)` of the token after each prompt.
        """
        length = max(len(prompt) for prompt in prompts) - start
        ids = np.zeros((len(prompts), length), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt) - start] = prompt[start:]
        last = np.array([len(prompt) - 1 - start for prompt in prompts])
        places = np.arange(start, start + length)[None, :]
        mask = np.where(np.arange(start + length) > places.T, _MASKED, np.float32(0.0)).astype(np.float32)
        return self._forward(cache, first_row, ids, places, mask, last)

    def decode(self, cache: KvCache, tokens: Ids, lengths: Ids) -> Array:
        """Reads one more token for each of the rows `0…len(tokens)` of the cache.

        Args:
            cache: with `lengths[i]` tokens already in row `i`.
            tokens: `(rows,)` the new tokens.
            lengths: `(rows,)` tokens already there, each below `context`.

        Returns:
            Logits `(rows, vocabulary)` of the next token.
        """
        mask = None
        if len(tokens) > 1:
            places = np.arange(int(lengths.max()) + 1)
            mask = np.where(places > lengths[:, None], _MASKED, np.float32(0.0)).astype(np.float32)
            mask = mask[:, None, None, None, :]
        return self._forward(cache, 0, tokens[:, None], lengths[:, None], mask, None)

    def _forward(
        self, cache: KvCache, first_row: int, ids: Ids, places: Ids, mask: Array | None, last: Ids | None
    ) -> Array:
        """One pass over `ids (rows, length)` at `places`; logits of place `last` of each row."""
        weights = self.weights
        config = self.config
        rows, length = ids.shape
        turn = (self._cosine[places], self._sine[places])
        x = weights.embedding[ids.ravel()]
        with np.errstate(over="ignore"):  # exp(-gate) may overflow to infinity, which gives the right limit 0
            for index, layer in enumerate(weights.layers):
                where = (cache.k[index, first_row : first_row + rows], cache.v[index, first_row : first_row + rows])
                x += self._attention(layer, _normalised(x, config.norm_eps), where, turn, places, mask)
                x += _mlp(layer, _normalised(x, config.norm_eps), config.mlp)
        if last is not None:
            x = x.reshape(rows, length, -1)[np.arange(rows), last]
        return _normalised(x, config.norm_eps) @ weights.head

    def _attention(
        self,
        layer: LayerWeights,
        x: Array,
        cache: tuple[Array, Array],
        turn: tuple[Array, Array],
        places: Ids,
        mask: Array | None,
    ) -> Array:
        """Attention of `x (rows * length, hidden)` to itself and to what the cache holds."""
        config = self.config
        keys, values = cache
        rows, kv_heads, dim = keys.shape[0], config.kv_heads, config.head_dim
        groups, length = config.heads // kv_heads, x.shape[0] // rows
        width = (config.heads + kv_heads) * dim
        qkv = x @ layer.qkv
        qkv += layer.qkv_bias
        turned = qkv[:, width : 2 * width].reshape(rows, length, -1, dim) * turn[1]
        turned += qkv[:, :width].reshape(rows, length, -1, dim) * turn[0]
        k, v = turned[:, :, config.heads :], qkv[:, 2 * width :].reshape(rows, length, kv_heads, dim)
        if length > 1:
            start, tokens = int(places[0, 0]), int(places[0, 0]) + length
            keys[..., start:tokens] = k.transpose(0, 2, 3, 1)
            values[:, :, start:tokens] = v.transpose(0, 2, 1, 3)
        elif rows == 1:
            tokens = int(places[0, 0]) + 1
            keys[0, :, :, tokens - 1] = k[0, 0]
            values[0, :, tokens - 1] = v[0, 0]
        else:
            tokens = int(places.max()) + 1
            every, at = np.arange(rows), places[:, 0]
            keys[every, :, :, at] = k[:, 0]
            values[every, :, at] = v[:, 0]
        q = turned[:, :, : config.heads].reshape(rows, length, kv_heads, groups, dim).transpose(0, 2, 3, 1, 4)
        scores: Array = np.matmul(q.reshape(rows, kv_heads, groups * length, dim), keys[..., :tokens])
        if mask is not None:
            scores.reshape(rows, kv_heads, groups, length, tokens)[...] += mask
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, axis=-1, keepdims=True)
        mixed: Array = (scores @ values[:, :, :tokens]).reshape(rows, kv_heads, groups, length, dim)
        result: Array = mixed.transpose(0, 3, 1, 2, 4).reshape(rows * length, -1) @ layer.output
        return result


def _normalised(x: Array, eps: float) -> Array:
    """`x (n, hidden)` over its root mean square; the weight of the norm is in the next matrix."""
    square: Array = np.einsum("nd,nd->n", x, x)
    square /= x.shape[1]
    square += np.float32(eps)
    np.sqrt(square, out=square)
    result: Array = x / square[:, None]
    return result


def _mlp(layer: LayerWeights, x: Array, width: int) -> Array:
    """`down(silu(gate) * up)`, with the signs as `LayerWeights` has them."""
    both = x @ layer.gate_up
    negated_gate = both[:, :width]
    product = negated_gate * both[:, width:]
    divisor = np.exp(negated_gate)
    divisor += 1.0
    product /= divisor
    result: Array = product @ layer.down
    return result
