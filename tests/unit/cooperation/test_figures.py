"""Counters of virtual models: exact, and bounded whatever names come."""

from __future__ import annotations

from open_autoglm.cooperation.figures import TeamFigures


def test_what_happens_is_counted() -> None:
    figures = TeamFigures()
    for _ in range(3):
        figures.run("team", "decided")
        figures.ask("team", "a", "vote")
    assert (figures.runs["team", "decided"], figures.asks["team", "a", "vote"]) == (3, 3)


def test_ever_new_names_share_a_place() -> None:
    figures = TeamFigures()
    for number in range(5000):
        figures.run(f"team-{number}", "decided")
        figures.ask(f"team-{number}", "a", "vote")
    figures.run("team-0", "decided")
    assert figures.runs["team-0", "decided"] == 2
    assert len(figures.runs) <= 1025
    assert len(figures.asks) <= 1025
    assert sum(figures.runs.values()) == 5001
    assert sum(figures.asks.values()) == 5000
