"""The network to be trained, in torch, with the tensor names and the maths of the GLM family.

RMSNorm before attention and before the gated MLP, rotary embedding on the first half of each head with
interleaved pairs, grouped-query attention with biases on q, k and v, output matrix tied to the embedding.
The shipped package computes the same with numpy; `evaluate.py` and the tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1.5625e-7


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model. `head_dim` must be divisible by 4: half of it is rotated, in pairs."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int = 628
    rope_theta: float = 10_000.0


SHAPES = {
    "glm-nano": Shape(hidden=96, layers=4, heads=4, kv_heads=2, head_dim=24, mlp=256),
    "glm-calc-m": Shape(hidden=96, layers=3, heads=4, kv_heads=2, head_dim=24, mlp=256),
    "glm-calc-s": Shape(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=192),
}
SHAPES["glm-calc-c"] = SHAPES["glm-calc-s"]
SHAPES["glm-calc-d"] = SHAPES["glm-calc-s"]


class RmsNorm(nn.Module):
    """`x / rms(x) * weight`, over the last dimension."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS) * self.weight


def rotary(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each `(length, head_dim / 2)`, every angle twice in a row (interleaved pairs)."""
    rotated = shape.head_dim // 2
    frequency = shape.rope_theta ** (-torch.arange(0, rotated, 2, dtype=torch.float32) / rotated)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency[None, :]
    angle = angle.repeat_interleave(2, dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the first half of the last dimension of `x (batch, heads, length, head_dim)`."""
    width = cosine.shape[-1]
    turned, kept = x[..., :width], x[..., width:]
    pairs = torch.stack((-turned[..., 1::2], turned[..., 0::2]), dim=-1).flatten(-2)
    return torch.cat((turned * cosine + pairs * sine, kept), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.shape.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.shape.kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.shape.kv_heads, -1).transpose(1, 2)
        groups = self.shape.heads // self.shape.kv_heads
        q, k = rotate(q, *turn), rotate(k, *turn)
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """`down(silu(gate) * up)`; gate and up are one matrix, gate first."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(shape.hidden, 2 * shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(functional.silu(gate) * up)


class Layer(nn.Module):
    """Attention and MLP, each on the normalised input and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turn)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embedding, layers and the last norm: what the file calls `model.`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RmsNorm(shape.hidden)


class Glm(nn.Module):
    """The whole model. `state_dict()` has the names of the published GLM files."""

    def __init__(self, shape: Shape, length_max: int = 512) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self._turn = rotary(shape, length_max)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                continue
            spread = 0.02 if "embed" in name else 0.5 * weight.shape[1] ** -0.5
            nn.init.normal_(weight, std=spread)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)

    def hidden(self, ids: Tensor) -> Tensor:
        """Last normalised hidden states `(batch, length, hidden)` of `ids (batch, length)`."""
        x = self.model.embed_tokens(ids)
        length = ids.shape[1]
        turn = (self._turn[0][:length], self._turn[1][:length])
        for layer in self.model.layers:
            x = layer(x, turn)
        return self.model.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `(batch, length, vocabulary)`."""
        return self.hidden(ids) @ self.model.embed_tokens.weight.T
