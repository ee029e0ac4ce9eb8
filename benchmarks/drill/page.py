"""Writes the scorecard into docs/reliability.md, between its markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN: Final = "<!-- scorecard: written by benchmarks/drill/run.py -->"
END: Final = "<!-- end of the scorecard -->"
_CELLS: Final = {"rescued": "✓", "told": "told", "wrong": "**wrong**"}


def write_page(results: dict[str, Any]) -> None:
    """Replace what stands between the markers."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{scorecard(results)}\n{END}{after}", encoding="utf-8")


def scorecard(results: dict[str, Any]) -> str:
    """Return the scorecard as Markdown."""
    targets = results["targets"]
    heads = [f"{name} {told['version']}" for name, told in targets.items()]
    rows = [["#", "fault", *(f"{head}: {kind}" for head in heads for kind in ("unary", "stream"))]]
    rows.append(["---"] * len(rows[0]))
    scores = {(name, each["number"], each["stream"]): each for name, told in targets.items() for each in told["faults"]}
    titles = {each["number"]: each["title"] for told in targets.values() for each in told["faults"]}
    for number, title in sorted(titles.items()):
        cells = [_cell(scores.get((name, number, stream))) for name in targets for stream in (False, True)]
        rows.append([str(number), title, *cells])
    counted = [told["totals"][kind] for told in targets.values() for kind in ("unary", "stream")]
    rows += [["", f"**{grade}**", *(str(each[grade]) for each in counted)] for grade in ("rescued", "told", "wrong")]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", "What went wrong, in the words of the judge:", "", *_reasons(targets), ""])


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
