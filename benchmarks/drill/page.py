"""Writes what was measured into docs/reliability.md, between its markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
STANDARD: Final = 16
"""The faults up to this number are the sixteen."""
_CELLS: Final = {"rescued": "✓", "told": "told", "wrong": "**wrong**"}


def write_scorecard(results: dict[str, Any]) -> None:
    """Put the scorecard into the page."""
    _replace("scorecard: written by benchmarks/drill/run.py", "end of the scorecard", scorecard(results))


def write_cuts(counted: dict[str, int]) -> None:
    """Put what became of the cut streams into the page."""
    told = ", ".join(f"{number} {name}" for name, number in counted.items() if name not in ("streams", "seed"))
    _replace(
        "cuts: written by benchmarks/drill/cuts.py", "end of the cuts", f"{counted['streams']} cut streams: {told}."
    )


def _replace(begin: str, end: str, text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(f"<!-- {begin} -->")
    _, _, after = rest.partition(f"<!-- {end} -->")
    if not found or not after:
        raise ValueError(f"{PAGE} has lost its marker {begin!r}")
    PAGE.write_text(f"{before}{found}\n\n{text}\n\n<!-- {end} -->{after}", encoding="utf-8")


def scorecard(results: dict[str, Any]) -> str:
    """Return the scorecard as Markdown: the sixteen, the others, and why what is wrong is wrong."""
    targets = results["targets"]
    titles = {each["number"]: each["title"] for told in targets.values() for each in told["faults"]}
    sixteen = [number for number in sorted(titles) if number <= STANDARD]
    others = [number for number in sorted(titles) if number > STANDARD]
    lines = [_about(targets), "", *_table(targets, titles, sixteen)]
    if others:
        lines += ["", "The others:", "", *_table(targets, titles, others)]
    return "\n".join([*lines, "", "What is wrong, in the words of the judge:", "", *_reasons(targets)])


def _about(targets: dict[str, Any]) -> str:
    told = "; ".join(
        f"{name} {each['version']} ({each['when']}, {each['rounds']} requests of each kind for a fault)"
        for name, each in targets.items()
    )
    return f"Drilled: {told}."


def _table(targets: dict[str, Any], titles: dict[int, str], numbers: list[int]) -> list[str]:
    """One line for each fault, and how many had which grade."""
    scores = {(name, each["number"], each["stream"]): each for name, told in targets.items() for each in told["faults"]}
    columns = [(name, stream) for name in targets for stream in (False, True)]
    rows = [["#", "fault", *(f"{name}: {'stream' if stream else 'unary'}" for name, stream in columns)]]
    rows.append(["---"] * len(rows[0]))
    for number in numbers:
        cells = [_cell(scores.get((name, number, stream))) for name, stream in columns]
        rows.append([str(number), _plain(titles[number]), *cells])
    for grade in ("rescued", "told", "wrong"):
        held = [[scores.get((name, number, stream)) for number in numbers] for name, stream in columns]
        counted = [sum(each is not None and each["grade"] == grade for each in column) for column in held]
        rows.append(["", f"**{grade}**", *map(str, counted)])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(score: dict[str, Any] | None) -> str:
    return "–" if score is None else _CELLS[score["grade"]]


def _reasons(targets: dict[str, Any]) -> list[str]:
    lines = []
    for name, told in targets.items():
        for each in told["faults"]:
            if each["grade"] == "wrong":
                kind = "stream" if each["stream"] else "unary"
                times = f"{each['alike']} of {each['requests']}"
                lines.append(f"- {name}, {each['number']} {each['name']}, {kind} ({times}): {_plain(each['why'])}")
    return lines or ["- nothing"]


def _plain(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return "".join(f"\\{letter}" if letter in "*_`<>|[]\\" else letter for letter in text)
