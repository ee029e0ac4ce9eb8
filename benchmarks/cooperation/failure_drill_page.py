"""Writes docs/failure-drill.md; every figure of it is from the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "failure-drill.md"
EXAMPLE: Final = ("dynamic", "refused")
_HEAD: Final = """# Teams whose members fail

<!-- Written by `python -m benchmarks.cooperation.failure_drill --keep`; do not edit. -->

Teams of six, of whom one is dead, one answers ten times as slowly, and one is always wrong and surer of it than the
others. Every answer must be right and in time, and the [records](how-to/audit.md) of every run must name the dead one
and the wrong one. `python -m benchmarks.cooperation.failure_drill` repeats it with servers and upstreams of its own,
and ends with exit code 1 where that is not so. The times are of a machine that others used as well.

- **Who waits for all** (best of n) is as slow as the slowest. [Votes](strategies.md#dynamic-voting) end when nothing
  outstanding can change them, so the slow one is cancelled.
- **A member into which connections vanish** costs whoever waits for it the time to connect (`timeouts.connect`, 1 s)
  until its breaker opens; whoever does not wait for it cancels it each time, which says nothing against it. One that
  takes the question and says nothing is given up after `timeouts.first_token`; where that is longer than the virtual
  model's `timeout`, each run that needs it ends then, in time, with the best so far.
- **Hedged** takes the first answer, right or wrong: its wrong member says nothing here, which is no answer. A wrong
  answer it would give to the client.
- **Confidence** only helps where curves have shown what each member's is worth: the surest member is the wrong one.

"""


def write_page(result: dict[str, Any]) -> None:
    """Put it in the place of the one before."""
    PAGE.write_text(page(result), encoding="utf-8")


def page(result: dict[str, Any]) -> str:
    """The whole page."""
    return f"{_HEAD}{_measured(result)}\n"


def _measured(result: dict[str, Any]) -> str:
    """The table, who was named, and one run as the audit shows it."""
    healthy = {row["team"]: row for row in result["rows"] if row["phase"] == "healthy"}
    lines = [
        f"{result['questions']} sums for each row, {result['deadline_ms'] / 1000:g} s for each answer; who is well "
        f"answers after {result['service_ms']:g} ms. In brackets: beside the same team with all members well.",
        "",
        "| strategy | the dead one | right | late | p50 ms | p95 ms | longest ms | audit: the dead | the wrong one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        if row["phase"] == "healthy":
            continue
        base = healthy[row["team"]]
        lines.append(
            f"| {row['title']} | {'refuses' if row['phase'] == 'refused' else row['phase']} "
            f"| {row['right']} of {row['questions']} | {row['late']} | {_beside(row, base, 'p50_ms')} "
            f"| {_beside(row, base, 'p95_ms')} | {row['max_ms']:,.0f} | {_said(row, 'dead')} | {_said(row, 'wrong')} |"
        )
    audit = result["audit"]
    example = next(row for row in result["rows"] if (row["team"], row["phase"]) == EXAMPLE)
    return "\n".join(
        (
            *lines,
            "",
            f"{audit['same']:,} of {audit['same'] + audit['different']:,} runs are decided alike from their records. "
            "One of them:",
            "",
            "```",
            *example["example"],
            "```",
        )
    )


def _beside(row: dict[str, Any], base: dict[str, Any], name: str) -> str:
    return f"{row[name]:,.0f} ({row[name] / base[name]:.1f}×)"


def _said(row: dict[str, Any], role: str) -> str:
    return ", ".join(f"{words.replace(', ', ': ')} {count}" for words, count in row["accounts"][role].items())
