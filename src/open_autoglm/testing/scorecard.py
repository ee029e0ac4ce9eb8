"""The scorecard of a drill: one line for each fault, the worst of its requests counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from open_autoglm.testing.drill import Result
from open_autoglm.testing.judge import ORDER, Grade


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one fault, for one kind of request.

    Attributes:
        number, name, title: of the case.
        stream: the kind.
        grade, why: of the worst request.
        requests, alike: how many there were, and how many had that grade.
        slowest_s, most_tries: over all requests.
    """

    number: int
    name: str
    title: str
    stream: bool
    grade: Grade
    why: str
    requests: int
    alike: int
    slowest_s: float
    most_tries: int

    @property
    def cell(self) -> str:
        """The grade in a table; with a count when not all requests had it."""
        return self.grade if self.alike == self.requests else f"{self.grade} ({self.alike} of {self.requests})"


def score(results: Sequence[Result]) -> list[Score]:
    """Return the scores in the order of the cases, unary before streams."""
    groups: dict[tuple[int, bool], list[Result]] = {}
    for result in results:
        groups.setdefault((result.case.number, result.stream), []).append(result)
    return [_score(group) for _, group in sorted(groups.items(), key=lambda each: each[0])]


def _score(group: Sequence[Result]) -> Score:
    worst = max(group, key=lambda result: ORDER[result.verdict.grade])
    case, grade = worst.case, worst.verdict.grade
    return Score(
        number=case.number,
        name=case.name,
        title=case.title,
        stream=worst.stream,
        grade=grade,
        why=worst.verdict.why,
        requests=len(group),
        alike=sum(result.verdict.grade == grade for result in group),
        slowest_s=round(max(result.seconds for result in group), 2),
        most_tries=max(result.tries for result in group),
    )


def totals(scores: Sequence[Score]) -> dict[str, dict[str, int]]:
    """Return how many faults had which grade: `{"unary": {"rescued": 16, ...}, "stream": ...}`."""
    return {
        kind: {grade: sum(each.grade == grade for each in scores if each.stream == stream) for grade in ORDER}
        for kind, stream in (("unary", False), ("stream", True))
    }


def is_clean(scores: Sequence[Score]) -> bool:
    """Whether nothing is wrong."""
    return all(each.grade != "wrong" for each in scores)


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Return everything, for `--json` and for files."""
    return {"totals": totals(scores), "faults": [asdict(each) for each in scores]}
