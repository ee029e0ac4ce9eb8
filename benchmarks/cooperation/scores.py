"""Which figure of an answer's token probabilities tells errors best: `python -m benchmarks.cooperation.scores`.

Asks the models the calibration splits and writes benchmarks/results/cooperation/scores.json: for each model and split
the chance that a right answer scores higher than a wrong one, by four figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from training.evaluate import read_set

from benchmarks.cooperation.answers import BATCH, MODELS, Reply, asked
from benchmarks.cooperation.table import CALIBRATION, SCORES
from open_autoglm.cli.evaluate.figures import ranking
from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import GenerateEvent, TokenScore

_THOUGHT: Final = b"</think>"
FIGURES: Final[dict[str, Callable[[Sequence[float], Sequence[float]], float]]] = {
    "mean": lambda whole, answer: math.fsum(whole) / len(whole),
    "least": lambda whole, answer: min(whole),
    "product": lambda whole, answer: math.prod(whole),
    "answer": lambda whole, answer: math.prod(answer),
}
"""Name -> score, of the probabilities of all tokens, and of those behind the thinking."""


class ScoredReply(Reply):
    """Keeps where the thinking ends, too."""

    def __init__(self) -> None:
        super().__init__()
        self.thought = 0

    def deliver(self, events: list[GenerateEvent]) -> None:
        """Take events."""
        super().deliver(events)
        if any(isinstance(event, TokenScore) and event.spelled == _THOUGHT for event in events):
            self.thought = len(self.logprobs)


def measured(model: str, name: str) -> dict[str, Any]:
    """The row of a model and a split."""
    engine, items = Engine(catalog.open_model(model), slots=BATCH), read_set(name)
    right: list[bool] = []
    scores: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        replies = [ScoredReply() for _ in part]
        for item, reply in zip(part, replies, strict=True):
            engine.submit(asked(item, "greedy"), reply.deliver)
        while not all(reply.over for reply in replies):
            engine.turn()
        for item, reply in zip(part, replies, strict=True):
            chances = [math.exp(logprob) for logprob in reply.logprobs]
            right.append(reply.text == item["answer"])
            for figure, of in FIGURES.items():
                scores[figure].append(of(chances, chances[reply.thought :]))
    return {"model": model, "split": name, **{figure: ranking(values, right) for figure, values in scores.items()}}


def main() -> None:
    rows = [measured(model, name) for name in CALIBRATION.values() for model in MODELS if name in MODELS[model]]
    SCORES.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {SCORES}")


if __name__ == "__main__":
    main()
