"""The kept answers, and what members of a team say to an item: a model in one of the ways it was asked in.

A member's name is the model's, for its greedy answer, or `MODEL/WAY`: `glm-nano/worded-1` is glm-nano with other words
around the question, `glm-nano/tool` glm-nano with the calculator at hand, `glm-nano/columns` the calculator at its
columns (see `answers`). A member that is asked at a temperature says what it said with the seeds 1, 2, … in turn.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.cooperation.answers import ROOT, SEEDS, TABLE, Run, read_runs
from open_autoglm.voting.calibration import Scored, chance, fit
from open_autoglm.voting.knowledge import Curve

PARAMETERS_M: Final = {
    "glm-nano": 0.467,
    "glm-calc-m": 0.366,
    "glm-calc-s": 0.188,
    "glm-calc-c": 0.188,
    "glm-calc-d": 0.188,
}
"""The price list: money for a million tokens written is a model's parameters in millions; a computation is free."""
NETWORK_MS: Final = {"glm-nano": 400, "glm-calc-m": 350, "glm-calc-s": 250, "glm-calc-c": 250, "glm-calc-d": 250}
"""Median latency of each member behind an imagined network; log-normal with sigma 0.35, five times that in 1 of 100."""
RECOMPUTED: Final = "columns"
"""The way whose answers the calculator makes of a model's thinking, without another question to the model."""
_SIGMA, _TAIL, _TAIL_SHARE = 0.35, 5.0, 0.01
SCORES: Final = TABLE.with_name("scores.json")
"""See `scores`."""
CALIBRATION: Final = {"arithmetic": "arithmetic-3-calibration", "intent": "intent", "tool": "tool", "plan": "plan"}
"""The split that curves, records and thresholds of a class come from. No item of it is ever counted as a result."""


@dataclass(frozen=True, slots=True)
class Item:
    """A held-out task: its set, its place there, its class and the right answer."""

    set: str
    place: int
    kind: str
    answer: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a member said.

    Attributes:
        text: the answer; empty when a tool could not be used.
        mean, least, product: of the token probabilities, 0 to 1.
        tokens: written.
        seconds: that it took here, alone on one core.
    """

    text: str
    mean: float
    least: float
    product: float
    tokens: int
    seconds: float


class Answers:
    """The table, ready to be asked."""

    def __init__(self, path: Path = TABLE) -> None:
        self.head, runs = read_runs(path)
        self._runs = {(run.set, run.model, run.way): run for run in runs}
        self._lines = {name: _lines(name) for name in self.head["sets"]}
        self._curves: dict[tuple[str, str], Curve] = {}

    def items(self, name: str, only: str = "") -> list[Item]:
        """Items of a set, those of one operation alone when that is named."""
        return [
            Item(name, place, line["task"], line["answer"])
            for place, line in enumerate(self._lines[name])
            if not only or line["operation"] == only
        ]

    def line(self, item: Item) -> dict[str, Any]:
        """The whole line of an item."""
        return self._lines[item.set][item.place]

    def has(self, name: str, member: str) -> bool:
        """Whether a member was asked a set."""
        return (name, *_way(member)) in self._runs

    def said(self, item: Item, member: str, sample: int | None = None) -> Said:
        """What a member said; with `sample`, 0, 1, …, at a temperature."""
        model, way = _way(member)
        run = self._runs[item.set, model, way if sample is None else f"seed-{sample % SEEDS + 1}"]
        greedy = self._runs[item.set, model, "greedy"]
        place = item.place
        answer = run.answers[place]
        mean, least, product = (values[place] / 10_000 for values in (run.mean, run.least, run.product))
        computes = way != RECOMPUTED or sample is not None
        seconds = computes * greedy.latency_us[place] / 1e6 * run.tokens[place] / greedy.tokens[place]
        text = item.answer if answer == 0 else str(answer)
        return Said(text, mean, least, product, run.tokens[place], seconds)

    def confidence(self, item: Item, member: str, said: Said) -> float:
        """The chance that an answer is right, by its mean token probability and the member's curve for the class."""
        key = member, item.kind
        if key not in self._curves:
            self._curves[key] = fit(self.log(member, item.kind), member, item.kind)
        return chance(self._curves[key], said.mean)

    def log(self, member: str, kind: str) -> list[Scored]:
        """Mean token probability and hits of a member on the calibration split of a class."""
        told = [(item, self.said(item, member)) for item in self.items(CALIBRATION[kind])]
        return [Scored(said.mean, said.text == item.answer) for item, said in told]

    def runs_of(self, name: str) -> Sequence[Run]:
        """All runs over a set."""
        return [run for (set_name, _, _), run in self._runs.items() if set_name == name]


def price(member: str, tokens: int) -> float:
    """Money of an answer, see `PARAMETERS_M`, in millionths; recomputing what was thought costs nothing more."""
    model, way = _way(member)
    return 0.0 if way == RECOMPUTED else PARAMETERS_M[model] * tokens


def behind_the_network_s(item: Item, member: str, number: int) -> float:
    """How long the network takes for the `number`th question about an item, the same whenever it is asked for."""
    rng = random.Random(f"{item.set}:{item.place}:{member}:{number}")
    model, way = _way(member)
    if way == RECOMPUTED:
        return 0.0  # a function in the server's own process, which takes microseconds
    median_s = NETWORK_MS[model] / 1000
    tail = _TAIL if rng.random() < _TAIL_SHARE else 1.0
    return median_s * math.exp(rng.gauss(0.0, _SIGMA)) * tail


def _way(member: str) -> tuple[str, str]:
    model, _, way = member.partition("/")
    return model, way or "greedy"


def _lines(name: str) -> list[dict[str, Any]]:
    path = ROOT / "training" / "heldout" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
