"""A causal language model of `transformers` as one pure function: tokens and the past in, logits and what is new out.

The engine computes with it, and the export writes it as a graph, so both mean the same by a mask and a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

MASKED: Final = -1e9
"""Added to a score that must not count; finite, so that a place that sees nothing gives no NaN."""


class PastLayers:
    """What layers ask a cache of `transformers` for: what came before is joined with what is new, which is kept."""

    is_compileable = False

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._past = list(zip(keys, values, strict=True))
        self.new: list[tuple[Tensor, Tensor]] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values that layer `layer` attends to."""
        assert layer == len(self.new)
        self.new.append((key, value))
        past_key, past_value = self._past[layer]
        return torch.cat((past_key, key), dim=2), torch.cat((past_value, value), dim=2)

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens that came before."""
        return int(self._past[layer][0].shape[2])


class PastModule(nn.Module):  # type: ignore[misc]  # the library has no types here
    """See the module.

    Args:
        model: a `…ForCausalLM` with plain attention in every layer.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """One pass.

        Args:
            input_ids, position_ids: `(rows, new)`.
            attention_mask: `(rows, past + new)`, 1 where a token counts.
            past: key and value of each layer in turn, `(rows, kv_heads, past, head_dim)`.

        Returns:
            Logits `(rows, 1, vocabulary)` of the last place, then key and value of each layer, new tokens only.
        """
        cache = PastLayers(past[0::2], past[1::2])
        new = input_ids.shape[1]
        before = past[0].shape[2]
        seen = torch.arange(before + new, device=input_ids.device)[None, :]
        at = torch.arange(new, device=input_ids.device)[:, None] + before
        counts = (seen <= at)[None, None] & (attention_mask > 0)[:, None, None, :]
        scores = torch.where(counts, 0.0, MASKED).to(past[0].dtype)
        hidden = self.model.model(
            input_ids=input_ids,
            attention_mask=scores,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = self.model.lm_head(hidden[:, -1:])
        return logits, *(part for pair in cache.new for part in pair)
