"""What each strategy of cooperation gives among simulated models: accuracy, calls, money, latency, calibration.

    python -m benchmarks.strategies_simulated --out benchmarks/results/strategies_simulated.json

The models answer by lot as `open_autoglm.testing.model_zoo` says, in virtual time: nothing is slept, no clock is read,
and the same seed gives the same figures on every machine. They say how strategies compare under stated accuracies and
correlations; they say nothing of real models. Records, curves and thresholds come from items of their own
(`--calibration`, half for records and curves, half for thresholds), never from those that are counted (`--items`).

Each row: `accuracy` with its 95 % interval (Wilson), of all items, those without an answer are wrong; `gain` over the
best single member in points; `calls` and `cost` of an item, cancelled calls among them; seconds until the decision;
`ece` of the chance that the decision names. Beside the strategies: each member alone, `ceiling` (some member is right)
and `oracle_router` (the cheapest member that is right, known beforehand; what no router can beat).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from open_autoglm.testing.model_zoo import Run, SimulatedModel, Zoo
from open_autoglm.voting.calibration import (
    Scored,
    agreement_of,
    calibration_error,
    chance,
    fit,
    self_agreement,
)
from open_autoglm.voting.candidate import Candidate, Vote
from open_autoglm.voting.catalog import make_strategy
from open_autoglm.voting.knowledge import Curve, Knowledge, Member
from open_autoglm.voting.reliability import Reliability
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.thresholds import StepResult, choose_thresholds

SEED = 20240607
CALIBRATION_FIRST = 1_000_000  # items from here on are for calibration
SAMPLES = 5
TEAMS: dict[str, tuple[SimulatedModel, ...]] = {
    "one strong and four cheaper": tuple(
        SimulatedModel(name, accuracy, price=price, latency_s=latency_s)
        for name, accuracy, price, latency_s in (
            ("large", 0.90, 10.0, 2.0),
            ("medium", 0.80, 4.0, 1.2),
            ("small", 0.75, 2.0, 1.0),
            ("tiny", 0.70, 1.0, 0.8),
            ("nano", 0.60, 0.5, 0.5),
        )
    ),
    "five alike": tuple(SimulatedModel(f"model-{place}", 0.75) for place in range(1, 6)),
    "five small ones for sums": tuple(
        SimulatedModel(name, accuracy, latency_s=0.05)
        for name, accuracy in (("m", 0.945), ("s", 0.923), ("t", 0.853), ("u", 0.832), ("v", 0.576))
    ),
}
ERRORS = {"apart": (0.0, 0.1), "partly together": (0.3, 0.3), "mostly together": (0.6, 0.6)}
"""Correlation of the latent strengths, and the chance that a wrong answer is the common one."""


BY_RECORDS = "dynamic_voting, by records"
"""The row whose weights know no curves; the confidences still break ties."""


class Case(Struct, frozen=True):
    """A team whose members have been watched on calibration items.

    Attributes:
        best, error: the member with the most right answers there, and its share of wrong ones.
        sure_80: confidence that the best one exceeds on 80 % of the items.
        thresholds: of a cascade by price; empty when none could be shown to keep `error_max`.
    """

    zoo: Zoo
    knowledge: Knowledge
    best: str
    error_max: float
    sure_80: float
    thresholds: tuple[float, ...]

    def calibrate(self, member: str, said: float) -> float:
        return chance(next(curve for curve in self.knowledge.calibration if curve.member == member), said)


def watched(zoo: Zoo, calibration: int) -> Case:
    """Learn records and curves from one half of the calibration items, and thresholds from the other."""
    first, second = (range(CALIBRATION_FIRST + start, CALIBRATION_FIRST + calibration, 2) for start in (0, 1))
    names = list(zoo.models)
    said = {(name, item): zoo.answer(name, item) for name in names for item in (*first, *second)}
    settings = TeamSettings(forgetting=1.0, change_detection=False)
    reliability = Reliability(zoo.members, settings)
    for item in first:
        votes = [Vote(0, name, said[name, item].answer, 1.0) for name in names if said[name, item].counts]
        if votes:
            reliability.learn(votes, zoo.right_answer(item))
    curves: list[Curve] = []
    for name in names:
        own = [(said[name, item], item) for item in first if said[name, item].counts]
        log = [Scored(each.confidence or 0.0, each.answer == zoo.right_answer(item)) for each, item in own]
        curves.append(fit(log, name))
        curves.append(fit([_agreement(zoo, name, item) for item in first], agreement_of(name)))
    knowledge = replace(reliability.knowledge(), calibration=tuple(curves))
    wrong = {name: sum(not _right(zoo, said[name, item], item) for item in first) / len(first) for name in names}
    best = min(names, key=lambda name: wrong[name])
    case = Case(zoo, knowledge, best, wrong[best] + 0.01, 0.0, ())
    by_price = sorted(zoo.models.values(), key=lambda model: model.price)
    log_of_steps = [[_step(case, said[m.name, item], item) for m in by_price] for item in second]
    chosen = choose_thresholds(log_of_steps, case.error_max)
    sure = sorted(_step(case, said[best, item], item).confidence for item in second)
    return replace(case, sure_80=sure[len(sure) // 5], thresholds=() if chosen is None else chosen.values)


def _agreement(zoo: Zoo, name: str, item: int) -> Scored:
    samples = [zoo.answer(name, item, turn) for turn in range(3)]
    answer, share = self_agreement(each.answer if each.counts else "" for each in samples)
    return Scored(share, answer == zoo.right_answer(item))


def _right(zoo: Zoo, said: Candidate, item: int) -> bool:
    return said.counts and said.answer == zoo.right_answer(item)


def _step(case: Case, said: Candidate, item: int) -> StepResult:
    confidence = case.calibrate(said.member, said.confidence or 0.0) if said.counts else 0.0
    return StepResult(confidence, _right(case.zoo, said, item), case.zoo.models[said.member].price)


def variants(case: Case) -> dict[str, tuple[str, TeamSettings, tuple[Member, ...]]]:
    """The rows: strategy, settings and members."""
    members = case.zoo.members
    best = tuple(member for member in members if member.name == case.best)
    others = [member.name for member in members if member.name != case.best]
    plain = TeamSettings(samples=SAMPLES)
    once = replace(plain, cascade_samples=1)
    to_vote = replace(once, cascade_steps=[[case.best], others], thresholds=[case.sure_80, 0.0])
    rows = {
        "majority": ("dynamic_voting", replace(plain, weighting="equal"), members),
        BY_RECORDS: ("dynamic_voting", plain, members),
        "dynamic_voting, by confidence": ("dynamic_voting", plain, members),
        "self_consistency, best member": ("self_consistency", replace(plain, adaptive=False), best),
        "self_consistency, adaptive": ("self_consistency", replace(plain, votes_max=20), best),
        "ahead_by_k, all members": ("ahead_by_k", replace(plain, votes_max=20), members),
        "cascade, best then a vote": ("cascade", to_vote, members),
        "cascade, by agreement": ("cascade", replace(plain, threshold=1 - case.error_max), members),
        "best_of_n, by confidence": ("best_of_n", plain, members),
        "best_of_n, by a judge": (
            "best_of_n",
            replace(plain, scorer="judge", judge=case.best, judge_own=True),
            members,
        ),
        "universal_self_consistency": (
            "universal_self_consistency",
            replace(plain, judge=case.best, judge_own=True),
            members,
        ),
        "mixture, one member": ("mixture", replace(plain, layers=1), members),
        "mixture, all members": ("mixture", replace(plain, layers=1, self_mixture=False), members),
        "debate": ("debate", plain, members),
        "hedged": ("hedged", replace(plain, hedge_delay_s=4.0), (*best, *(m for m in members if m not in best))),
    }
    if case.thresholds:
        settings = replace(once, thresholds=list(case.thresholds))
        rows["cascade, by price"] = ("cascade", settings, members)
    return rows


def measure(
    case: Case, strategy: str, settings: TeamSettings, members: tuple[Member, ...], items: int, *, curves: bool = True
) -> dict[str, Any]:
    """One row of a strategy, by calibrated confidences; `curves`: whether its weights may know them."""
    knowledge = case.knowledge if curves else replace(case.knowledge, calibration=())
    made = (make_strategy(strategy, members, settings, knowledge, item) for item in range(items))
    runs = [case.zoo.run(each, item, calibrate=case.calibrate) for item, each in enumerate(made)]
    log = [Scored(min(max(run.decision.posterior, 0.0), 1.0), run.right) for run in runs if run.decision.answer]
    return {**row([run.right for run in runs], runs), "ece": round(calibration_error(log), 4)}


def row(rights: Sequence[bool], runs: Sequence[Run]) -> dict[str, Any]:
    """What all rows have."""
    latencies_s = sorted(run.latency_s for run in runs)
    return {
        **accuracy(rights),
        "answered": round(sum(bool(run.decision.answer) for run in runs) / len(runs), 4),
        "calls": round(sum(run.calls for run in runs) / len(runs), 2),
        "cost": round(sum(run.cost for run in runs) / len(runs), 2),
        "latency_s_p50": round(latencies_s[len(runs) // 2], 2),
        "latency_s_p95": round(latencies_s[int(0.95 * len(runs))], 2),
        "latency_s_p99": round(latencies_s[int(0.99 * len(runs))], 2),
    }


def accuracy(rights: Sequence[bool]) -> dict[str, Any]:
    """Share of right ones and its 95 % interval (Wilson 1927)."""
    count, share, z = len(rights), sum(rights) / len(rights), 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return {"accuracy": round(share, 4), "accuracy_95": [round(middle - half, 4), round(middle + half, 4)]}


def bounds(case: Case, items: int) -> dict[str, dict[str, Any]]:
    """Members alone, what they say of themselves before and after calibration, the ceiling and the oracle."""
    zoo = case.zoo
    said = {name: [zoo.answer(name, item) for item in range(items)] for name in zoo.models}
    rows: dict[str, dict[str, Any]] = {}
    for name, answers in said.items():
        settings = TeamSettings(adaptive=False, samples=1)
        member = (zoo.models[name].member,)
        alone = measure(case, "self_consistency", settings, member, items)
        del alone["ece"]
        counted = [(each, item) for item, each in enumerate(answers) if each.counts]
        for label, calibrate in _readings(case).items():
            scored = [Scored(calibrate(name, each.confidence or 0.0), _right(zoo, each, i)) for each, i in counted]
            alone[label] = round(calibration_error(scored), 4)
        rows[f"{name} alone"] = alone
    by_price = sorted(zoo.models.values(), key=lambda model: model.price)
    right = [[model for model in by_price if _right(zoo, said[model.name][item], item)] for item in range(items)]
    costs = [(some or by_price)[0].price for some in right]
    rows["ceiling"] = accuracy([bool(some) for some in right])
    rows["oracle_router"] = {
        **accuracy([bool(some) for some in right]),
        "calls": 1.0,
        "cost": round(sum(costs) / items, 2),
    }
    return rows


def _readings(case: Case) -> dict[str, Callable[[str, float], float]]:
    return {"ece_said": lambda _, said: said, "ece_calibrated": case.calibrate}


def scenario(team: str, errors: str, items: int, calibration: int) -> dict[str, Any]:
    """All rows of a team."""
    correlation, shared_wrong = ERRORS[errors]
    case = watched(Zoo(TEAMS[team], SEED, correlation=correlation, shared_wrong=shared_wrong), calibration)
    rows = bounds(case, items)
    single = max(rows[f"{name} alone"]["accuracy"] for name in case.zoo.models)
    for label, (strategy, settings, members) in sorted(variants(case).items()):
        rows[label] = measure(case, strategy, settings, members, items, curves=label != BY_RECORDS)
    for name, each in rows.items():
        each["gain"] = round(100 * (each["accuracy"] - single), 1)
        print(f"{team} / {errors} / {name}: {each}", flush=True)
    return {
        "team": team,
        "errors": errors,
        "correlation": correlation,
        "shared_wrong": shared_wrong,
        "best_by_calibration": case.best,
        "cascade_error_max": round(case.error_max, 4),
        "cascade_thresholds": [round(value, 4) for value in case.thresholds],
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--calibration", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "simulated": True,
        "python": platform.python_version(),
        "commit": commit,
        "seed": SEED,
        "items": arguments.items,
        "calibration_items": arguments.calibration,
        "teams": {team: {m.name: m.accuracy for m in models} for team, models in TEAMS.items()},
        "scenarios": [
            scenario(team, errors, arguments.items, arguments.calibration) for team in TEAMS for errors in ERRORS
        ],
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
