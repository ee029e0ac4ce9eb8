"""Trains one of the embedded models from a seed; resumable, one thread.

    python -m training.train glm-nano --seed 1 --cycles 6000,4000,3000,2000 --out training/runs/nano-1

Writes `checkpoint.pt` (to go on from), `step-N.pt` (weights at the end of each cycle and wherever `--keep`
asks) and `log.jsonl` into the folder. The batch of a step is decided by seed and step alone.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from open_autoglm.engines.embedded import tokenizer
from training.data import CALC_MIX, NANO_MIX, Generator, Mix
from training.model import SHAPES, Glm
from training.optimiser import Optimiser, factor

BATCH = 32
POOL_BATCHES = 16  # items are sorted by length within a pool, so that a batch has little padding
Batch = tuple[Tensor, Tensor]


def mix_of(name: str) -> Mix:
    """What the model of this name is trained on."""
    return NANO_MIX if name == "glm-nano" else CALC_MIX


def batches(mix: Mix, seed: int, first_step: int) -> Iterator[Batch]:
    """Endless batches `(ids, targets)` from `first_step` on; targets are -100 outside the answers."""
    pool = first_step // POOL_BATCHES
    skip = first_step % POOL_BATCHES
    while True:
        generator = Generator(mix, f"{seed}:{pool}")
        items = sorted((generator.train_item().tokens() for _ in range(BATCH * POOL_BATCHES)), key=_length)
        groups = [items[i : i + BATCH] for i in range(0, len(items), BATCH)]
        random.Random(f"{seed}:{pool}:order").shuffle(groups)
        for group in groups[skip:]:
            yield collate(group)
        pool, skip = pool + 1, 0


def _length(item: tuple[list[int], list[int]]) -> int:
    return len(item[0]) + len(item[1])


def collate(items: list[tuple[list[int], list[int]]]) -> Batch:
    """Pads items to one length; the target of a place is the token after it."""
    width = max(_length(item) for item in items) - 1
    ids = torch.full((len(items), width), tokenizer.PAD)
    targets = torch.full((len(items), width), -100)
    for row, (prompt, answer) in enumerate(items):
        whole = torch.tensor(prompt + answer)
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return ids, targets


def loss_of(model: Glm, batch: Batch) -> Tensor:
    """Mean cross-entropy of the answer tokens; logits are made only where there is a target."""
    ids, targets = batch
    wanted = targets.flatten() >= 0
    hidden = model.hidden(ids).flatten(0, 1)[wanted]
    return functional.cross_entropy(hidden @ model.model.embed_tokens.weight.T, targets.flatten()[wanted])


def train(name: str, seed: int, cycles: list[int], out: Path, *, keep: set[int], muon: bool = True) -> Glm:
    """Trains to the end of the cycles, going on from `out/checkpoint.pt` when there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    model = Glm(SHAPES[name])
    optimiser = Optimiser(model, muon=muon)
    step, cpu_s = 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, cpu_s = state["step"], state["cpu_s"]
    ends = {sum(cycles[: index + 1]) for index in range(len(cycles))} | keep
    started_s, recent = time.process_time() - cpu_s, 0.0
    source = batches(mix_of(name), seed, step)
    with (out / "log.jsonl").open("a") as log:
        while step < sum(cycles):
            loss = loss_of(model, next(source))
            loss.backward()
            optimiser.step(factor(step, cycles))
            step += 1
            recent = recent * 0.98 + loss.item() * 0.02 if recent else loss.item()
            if step % 100 == 0:
                cpu_s = time.process_time() - started_s
                log.write(json.dumps({"step": step, "loss": round(recent, 4), "cpu_s": round(cpu_s, 1)}) + "\n")
                log.flush()
            if step in ends:
                torch.save(model.state_dict(), out / f"step-{step}.pt")
            if step % 500 == 0 or step == sum(cycles):
                _save(checkpoint, model, optimiser, step, time.process_time() - started_s)
    return model


def _save(path: Path, model: Glm, optimiser: Optimiser, step: int, cpu_s: float) -> None:
    """Writes a checkpoint beside the old one, then puts it in its place."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "cpu_s": cpu_s}
    fresh = path.with_suffix(".new")
    torch.save(state, fresh)
    fresh.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cycles", required=True, help="steps of each cycle, as 6000,4000")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", default="", help="further steps whose weights are kept, as 2000,2100")
    parser.add_argument("--adamw", action="store_true", help="AdamW for the hidden matrices too")
    options = parser.parse_args()
    cycles = [int(part) for part in options.cycles.split(",")]
    keep = {int(part) for part in options.keep.split(",") if part}
    train(options.name, options.seed, cycles, options.out, keep=keep, muon=not options.adamw)


if __name__ == "__main__":
    main()
