"""Voting while the members change: `python benchmarks/voting_drift.py [--json] [--seeds N]`.

A simulation, no models: 4000 items of four possible answers, five voters that are right with chances 0.9, 0.7, 0.55,
0.5 and 0.5, and half-way through they swap: the best becomes one of the worst. A wrong vote is any wrong answer, or,
with the chance `correlation`, the one wrong answer that is popular for the item. Each row is a way to weigh the votes;
its figures are the share of right decisions of all items and, in brackets, of the second half; the mean of the seeds,
and the lowest and highest second half.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from open_autoglm.voting.candidate import Candidate, Decision
from open_autoglm.voting.dynamic_voting import DynamicVoting
from open_autoglm.voting.knowledge import Knowledge, Member, Skill
from open_autoglm.voting.reliability import Reliability
from open_autoglm.voting.settings import TeamSettings

ITEMS: Final = 4000
ANSWERS: Final = ("a", "b", "c", "d")
ACCURACIES: Final = (0.9, 0.7, 0.55, 0.5, 0.5)
MEMBERS: Final = tuple(Member(f"voter-{place}") for place in range(len(ACCURACIES)))
PLAIN: Final = {"change_detection": False}
ROWS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "best single voter of the first half": ("single", {}),
    "majority": ("nothing", {"weighting": "equal"}),
    "weights that know the truth": ("oracle", {}),
    "all labels, nothing forgotten": ("labels", {**PLAIN, "forgetting": 1.0}),
    "all labels, forgetting 0.99": ("labels", PLAIN),
    "all labels, forgetting 0.95": ("labels", {**PLAIN, "forgetting": 0.95}),
    "all labels, forgetting 0.99, change detection (the defaults)": ("labels", {}),
    "a tenth of the labels, forgetting 0.99": ("tenth", PLAIN),
    "a tenth of the labels, forgetting 0.95": ("tenth", {**PLAIN, "forgetting": 0.95}),
    "a tenth of the labels, forgetting 0.99, change detection": ("tenth", {}),
    "its own decisions as labels, nothing forgotten": ("own", {**PLAIN, "forgetting": 1.0}),
    "its own decisions as labels, forgetting 0.95": ("own", {**PLAIN, "forgetting": 0.95}),
    "labels: pseudo, forgetting 0.99": ("pseudo", {"labels": "pseudo"}),
    "labels: pseudo, forgetting 0.95": ("pseudo", {"labels": "pseudo", "forgetting": 0.95}),
}
"""Row -> what it learns from, and settings that are not the defaults."""


def items(seed: int, correlation: float) -> list[tuple[str, list[str]]]:
    """Right answer and the voters' answers of each item."""
    draw = random.Random(seed)
    made = []
    for number in range(ITEMS):
        right = draw.choice(ANSWERS)
        wrong = [answer for answer in ANSWERS if answer != right]
        popular = draw.choice(wrong)
        votes = []
        for accuracy in accuracies(number):
            if draw.random() < accuracy:
                votes.append(right)
            else:
                votes.append(popular if draw.random() < correlation else draw.choice(wrong))
        made.append((right, votes))
    return made


def accuracies(number: int) -> tuple[float, ...]:
    """Of the voters at an item."""
    return ACCURACIES if number < ITEMS // 2 else ACCURACIES[::-1]


def run(row: str, seed: int, correlation: float = 0.0) -> tuple[float, float]:
    """Share of right decisions of all items, and of the second half."""
    source, changed = ROWS[row]
    settings = TeamSettings(choices=list(ANSWERS), early_exit="none", **changed)
    reliability = Reliability(MEMBERS, settings)
    labelled = random.Random(-seed)
    hits = []
    for number, (right, votes) in enumerate(items(seed, correlation)):
        if source == "single":
            hits.append(votes[0] == right)
            continue
        known = truth(number) if source == "oracle" else reliability.knowledge()
        decision = decide(votes, settings, known)
        hits.append(decision.answer == right)
        if source == "labels" or (source == "tenth" and labelled.random() < 0.1):
            reliability.learn(decision.votes, right)
        elif source == "own":
            reliability.learn(decision.votes, decision.answer)
        elif source == "pseudo":
            reliability.learn_from_vote(decision.votes)
    return sum(hits) / ITEMS, sum(hits[ITEMS // 2 :]) / (ITEMS - ITEMS // 2)


def decide(votes: list[str], settings: TeamSettings, knowledge: Knowledge) -> Decision:
    """Let the voters vote, all of them."""
    strategy = DynamicVoting(MEMBERS, settings, knowledge, 0)
    for ask, answer in zip(strategy.begin(), votes, strict=True):
        strategy.take(Candidate(ask.number, ask.member, answer))
    assert strategy.decision is not None, "all have voted"
    return strategy.decision


def truth(number: int) -> Knowledge:
    """What nobody can know: the accuracies at an item."""
    pairs = zip(MEMBERS, accuracies(number), strict=True)
    return Knowledge(tuple(Skill(member.name, "", 1000 * chance, 1000 * (1 - chance)) for member, chance in pairs))


def main() -> None:
    """Print all rows, for independent and for correlated errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each row")
    arguments = parser.parse_args()
    results = []
    for correlation in (0.0, 0.6):
        for row in ROWS:
            runs = [run(row, seed, correlation) for seed in range(1, arguments.seeds + 1)]
            halves = [half for _, half in runs]
            whole = sum(share for share, _ in runs) / len(runs)
            mean = sum(halves) / len(halves)
            results.append({"correlation": correlation, "row": row, "right": whole, "second_half": halves})
            if not arguments.json:
                spread = f"{min(halves):.3f} to {max(halves):.3f}"
                print(f"{correlation:.1f}  {row:62} {whole:.3f} ({mean:.3f})  {spread}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
