"""What planning is worth: questions of several sums, asked as they stand, and by a plan whose sums are computed.

Of the held-out plans those count whose parts are all sums and lead to one result. `direct` gives the model the question
as one; `planned` takes the plan that it writes for it and lets the calculator do the parts in order.

    python -m benchmarks.cooperation.plans > FILE    writes these questions as tasks for `autoglm evaluate`
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from benchmarks.cooperation.table import Answers, Item
from open_autoglm.cli.evaluate.figures import interval_95
from open_autoglm.engines.embedded.calculator import guard

SETS: Final = ("plan", "plan-new")
_PARTS_MAX: Final = 16
_REFERENCE: Final = re.compile(r"\$(\d{1,3})")


def planning(answers: Answers) -> dict[str, Any]:
    """Figures of both ways, and how many questions there are."""
    direct, planned = [], []
    for item, expected in questions(answers):
        direct.append(answers.said(item, "glm-nano/direct").text == expected)
        planned.append(result_of(answers.said(item, "glm-nano").text) == expected)
    ways = {"direct": direct, "planned": planned}
    return {
        "questions": len(direct),
        **{
            way: {"right": sum(hits), "accuracy": sum(hits) / len(hits), "interval": interval_95(sum(hits), len(hits))}
            for way, hits in ways.items()
        },
    }


def questions(answers: Answers) -> list[tuple[Item, str]]:
    """The questions that count, and what they come to."""
    told = [(item, result_of(item.answer)) for name in SETS for item in answers.items(name)]
    return [(item, result) for item, result in told if result is not None]


def result_of(plan: str) -> str | None:
    """What a plan of sums comes to; None when it is none, or has other parts, or several ends."""
    try:
        parts = json.loads(plan)
        if not 1 <= len(parts) <= _PARTS_MAX or any(part["tool"] != "calculator" for part in parts):
            return None
        needed = {number for part in parts for number in part["depends_on"]}
        if len({part["id"] for part in parts} - needed) != 1:
            return None
        results: dict[str, str] = {}
        for part in parts:
            expression = _REFERENCE.sub(lambda found: results[found[1]], part["args"]["expression"])
            answer = guard(expression, 0)
            if answer is None or not answer.reasoning.startswith("calculator"):
                return None
            results[str(part["id"])] = answer.text
    except (ValueError, KeyError, TypeError):
        return None
    return results[str(parts[-1]["id"])]


if __name__ == "__main__":
    kept = Answers()
    for item, result in questions(kept):
        task = {"id": f"{item.set}-{item.place}", "prompt": kept.line(item)["prompt"], "answer": result}
        print(json.dumps({**task, "checker": "number"}, ensure_ascii=False))
