"""Makes the published table of cooperation from the kept answers: `python -m benchmarks.cooperation.run`.

Writes benchmarks/results/cooperation/table.json and docs/cooperation.md. No model is asked; the same answers give the
same figures. What it needs, in benchmarks/results/cooperation: `answers.jsonl.xz`, see `answers`, `scores.json`, see
`scores`, and `served.json`, `served-plans.json` and `served-recomputed-*.json`, what `autoglm evaluate` said of a
server with some of the teams.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from benchmarks.cooperation.answers import ROOT, computed
from benchmarks.cooperation.page import page
from benchmarks.cooperation.plans import planning
from benchmarks.cooperation.play import Game, Latency, Played, behind_network, here
from benchmarks.cooperation.table import SCORES, Answers, Item, price
from benchmarks.cooperation.teams import SETS, TEAMS, TaskSet, Team, maker
from open_autoglm.cli.evaluate.figures import ceiling, interval_95, phi, quantile, ranking, same_wrong, utilisation
from open_autoglm.voting.calibration import Scored, calibration_error

RESULT: Final = ROOT / "benchmarks" / "results" / "cooperation" / "table.json"
SERVED: Final = RESULT.with_name("served.json"), RESULT.with_name("served-plans.json")
RECOMPUTED: Final = RESULT.with_name("served-recomputed-1620.json"), RESULT.with_name("served-recomputed-2077.json")
"""Of the sets whose sums one virtual model has recomputed by a tool, in the order of `teams.SETS`."""
PAGE: Final = ROOT / "docs" / "cooperation.md"


def main() -> None:
    answers = Answers()
    result = {
        "answers": answers.head,
        "scores": json.loads(SCORES.read_text(encoding="utf-8")),
        "sets": [of_set(tasks, answers) for tasks in SETS],
        "planning": planning(answers),
        "served": [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in SERVED],
        "recomputed": [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in RECOMPUTED],
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(result), encoding="utf-8")
    print(f"wrote {RESULT} and {PAGE}")


def of_set(tasks: TaskSet, answers: Answers) -> dict[str, Any]:
    """All figures of a task set."""
    items = tasks.items(answers)
    right = {model: [answers.said(item, model).text == item.answer for item in items] for model in tasks.singles}
    rows = [single(model, items, answers) for model in tasks.singles]
    rows += [played(team, items, answers) for team in TEAMS[tasks.name]]
    return {
        "name": tasks.name,
        "rule": tasks.rule,
        "items": len(items),
        "singles": list(tasks.singles),
        "ceiling": ceiling(right),
        "calculator": calculator_alone(items, answers),
        "rows": rows,
        "pairs": pairs(tasks, items, right, answers),
    }


def calculator_alone(items: Sequence[Item], answers: Answers) -> dict[str, int]:
    """How many sums there are, how many of them the calculator can read by itself, and how many of these are right."""
    sums = [item for item in items if item.kind == "arithmetic"]
    told = [(item, computed(answers.line(item)["prompt"])) for item in sums]
    read = [(item, text) for item, text in told if text]
    return {"sums": len(sums), "read": len(read), "right": sum(text == item.answer for item, text in read)}


def single(model: str, items: Sequence[Item], answers: Answers) -> dict[str, Any]:
    """Figures of a model by itself."""
    said = [answers.said(item, model) for item in items]
    hits = [one.text == item.answer for one, item in zip(said, items, strict=True)]
    sure = [answers.confidence(item, model, one) for one, item in zip(said, items, strict=True)]
    waits = {
        name: [latency(item, model, 0, one.seconds) for one, item in zip(said, items, strict=True)]
        for name, latency in (("here", here), ("network", behind_network))
    }
    scored = [Scored(chance, hit) for chance, hit in zip(sure, hits, strict=True)]
    return {
        **_row(model, "single", hits, sum(price(model, one.tokens) for one in said), len(items), waits),
        "members": [model],
        "use": {model: 1.0},
        "calibration_error": calibration_error(scored),
        "ranking": ranking(sure, hits),
        "by_set": _by_set(items, hits),
    }


def played(team: Team, items: Sequence[Item], answers: Answers) -> dict[str, Any]:
    """Figures of a team."""
    makers = {kind: maker(team, kind, answers) for kind in {item.kind for item in items}}

    def runs(latency: Latency) -> list[Played]:
        return [
            Game(item, answers, latency, sure=team.sure).play(makers[item.kind](seed))
            for seed, item in enumerate(items)
        ]

    told, behind = runs(here), runs(behind_network)
    answered = sum(bool(one.decision.answer) for one in told)
    hits = [one.decision.answer == item.answer for one, item in zip(told, items, strict=True)]
    calls: Counter[str] = Counter()
    for one in told:
        calls.update(one.calls)
    members = list(dict.fromkeys(name for names in team.members.values() for name in names))
    scored = [Scored(min(1.0, one.decision.posterior), hit) for one, hit in zip(told, hits, strict=True)]
    waits = {"here": [one.seconds for one in told], "network": [one.seconds for one in behind]}
    return {
        **_row(team.name, team.gain, hits, sum(one.cost for one in told), calls.total(), waits),
        "strategy": team.strategy,
        "members": members,
        "answered": answered / len(items),
        "right_of_answered": sum(hits) / answered,
        "use": {name: count / calls.total() for name, count in calls.most_common()},
        "utilisation": _utilisations(told, calls),
        "ceiling": _ceiling(members, items, answers),
        "calibration_error": calibration_error(scored),
        "ranking": ranking([row.score for row in scored], hits),
        "by_set": _by_set(items, hits),
    }


def pairs(
    tasks: TaskSet, items: Sequence[Item], right: dict[str, list[bool]], answers: Answers
) -> list[dict[str, Any]]:
    """Errors in common of the single models."""
    said = {model: [answers.said(item, model).text for item in items] for model in tasks.singles}
    expected = [item.answer for item in items]
    return [
        {
            "first": first,
            "second": second,
            "phi": phi([not hit for hit in right[first]], [not hit for hit in right[second]]),
            "same_wrong": same_wrong(said[first], said[second], expected),
        }
        for first, second in combinations(tasks.singles, 2)
    ]


def _utilisations(told: Sequence[Played], calls: Counter[str]) -> dict[str, float]:
    """Share of the time in which each member was at work, the questions asked one after the other."""
    wall_s = sum(one.seconds for one in told)
    idle = (0.0, 0)
    return {
        name: utilisation(
            sum(one.busy.get(name, idle)[0] for one in told), wall_s, max(one.busy.get(name, idle)[1] for one in told)
        )
        for name, _ in calls.most_common()
    }


def _row(
    name: str, gain: str, hits: Sequence[bool], cost: float, calls: int, waits: dict[str, list[float]]
) -> dict[str, Any]:
    right, count = sum(hits), len(hits)
    figures = {
        f"{way}_p{share}_ms": quantile(values, share / 100) * 1000
        for way, values in waits.items()
        for share in (50, 95)
    }
    return {
        "name": name,
        "gain": gain,
        "right": right,
        "accuracy": right / count,
        "interval": interval_95(right, count),
        "cost": cost / count,
        "calls": calls / count,
        **figures,
    }


def _ceiling(members: Sequence[str], items: Sequence[Item], answers: Answers) -> float:
    """Share of the items that some member has right, as far as it was asked items of the set."""
    told = {
        name: [answers.has(item.set, name) and answers.said(item, name).text == item.answer for item in items]
        for name in members
    }
    return ceiling(told)


def _by_set(items: Sequence[Item], hits: Sequence[bool]) -> dict[str, float]:
    rows: dict[str, list[bool]] = defaultdict(list)
    for item, hit in zip(items, hits, strict=True):
        rows[item.set].append(hit)
    return {name: sum(values) / len(values) for name, values in rows.items()}


if __name__ == "__main__":
    main()
