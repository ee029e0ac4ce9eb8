"""Muon for the hidden matrices, AdamW for embeddings, norms and biases, and the schedule of both.

Muon (Jordan et al., 2024): momentum, then the nearest orthogonal matrix of the step, found by five
Newton-Schulz iterations. Matrices of one shape are stacked, so that a step is few large operations.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

MUON_LR = 0.02
MUON_WEIGHT_DECAY = 0.01
MUON_MOMENTUM = 0.95
ADAM_LR = 3e-3
ADAM_BETAS = (0.9, 0.98)
WARMUP_STEPS = 100
FLAT_SHARE = 0.3
FLOOR = 0.01
LATER_CYCLE = 0.75  # cycles after the first start at 0.015 instead of 0.02


def orthogonalise(step: Tensor, iterations: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrices of `step (count, rows, columns)`, by a quintic iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = step.shape[1] > step.shape[2]
    x = step.transpose(1, 2) if tall else step
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Momentum with orthogonalised steps over a model's hidden matrices."""

    def __init__(self, matrices: list[nn.Parameter]) -> None:
        groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            groups[matrix.shape].append(matrix)
        self._groups = list(groups.values())
        self._momentum = [torch.zeros(len(group), *group[0].shape) for group in self._groups]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step with learning rate `lr`, from the gradients of the matrices."""
        for group, momentum in zip(self._groups, self._momentum, strict=True):
            gradient = torch.stack([matrix.grad for matrix in group])
            momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
            update = orthogonalise(gradient.lerp(momentum, MUON_MOMENTUM))
            scale = max(1.0, group[0].shape[0] / group[0].shape[1]) ** 0.5
            for matrix, part in zip(group, update, strict=True):
                matrix.mul_(1 - lr * MUON_WEIGHT_DECAY).add_(part, alpha=-lr * scale)

    def state_dict(self) -> list[Tensor]:
        """The momenta, for a checkpoint."""
        return self._momentum

    def load_state_dict(self, state: list[Tensor]) -> None:
        """Takes the momenta of a checkpoint of the same model."""
        for mine, theirs in zip(self._momentum, state, strict=True):
            mine.copy_(theirs)


class Optimiser:
    """Both optimisers of one model; `step(factor)` scales both learning rates."""

    def __init__(self, model: nn.Module, *, muon: bool = True) -> None:
        hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        chosen = {id(p) for p in hidden} if muon else set()
        self._parameters = list(model.parameters())
        self._muon = Muon(hidden) if muon else Muon([])
        rest = [p for p in self._parameters if id(p) not in chosen]
        self._adam = torch.optim.AdamW(rest, lr=ADAM_LR, betas=ADAM_BETAS, weight_decay=0.0, foreach=True)

    def step(self, factor: float) -> None:
        """One step at `factor` times the full learning rates; clears the gradients."""
        nn.utils.clip_grad_norm_(self._parameters, 1.0, foreach=True)
        self._muon.step(MUON_LR * factor)
        for group in self._adam.param_groups:
            group["lr"] = ADAM_LR * factor
        self._adam.step()
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, object]:
        """State of both, for a checkpoint."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Takes the state of a checkpoint of the same model."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


def factor(step: int, cycles: list[int]) -> float:
    """Share of the full learning rate at `step`, counted from 0, for cycles of these lengths in steps.

    Each cycle: warm-up, flat for 30 %, then linear down to 1 %; later cycles are lower.
    """
    start = 0
    for index, length in enumerate(cycles):
        if step < start + length or index == len(cycles) - 1:
            break
        start += length
    place, flat = step - start, FLAT_SHARE * length
    height = 1.0 if index == 0 else LATER_CYCLE
    if place < WARMUP_STEPS:
        return height * (place + 1) / WARMUP_STEPS
    if place < flat:
        return height
    left = max(0.0, (length - place) / (length - flat))
    return height * (FLOOR + (1 - FLOOR) * left)
