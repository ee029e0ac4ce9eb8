"""The page's section about task graphs says what was measured, and no more."""

from __future__ import annotations

from typing import Any

from benchmarks.graph.section import graph_section


def result(**measured: Any) -> dict[str, Any]:
    return {"machine": {"load_averages": [1.26, 0.0, 0.0]}, "runs": 100, "steps": 20, "measured": measured}


def row(text: str, name: str) -> list[str]:
    [found] = [line for line in text.splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_cell_is_the_median_with_the_least_and_the_most() -> None:
    barrier = [{"versions": {"p": "1.2"}, "barrier_s": seconds} for seconds in (0.7, 0.6, 1.0)]
    text = graph_section(result(Ours={"barrier": barrier, "memory": [{"step_ms": 0.1}], "durable": [{}]}))
    assert row(text, "Ours") == ["Ours 1.2", "0.70 (0.60–1.00)", "0.100 (0.100–0.100)", "–", "–", "–"]
    assert "load average then 1.3; medians" in text
    assert "100 runs in flight, each a chain of 20 steps" in text


def test_a_system_that_failed_once_has_no_figure() -> None:
    modes = {"barrier": [{"barrier_s": 0.6}, {"failed": ["no"]}], "memory": [{"missing": "no"}], "durable": []}
    assert row(graph_section(result(Theirs=modes)), "Theirs") == ["Theirs", *"–––––"]


def test_figures_of_a_busy_machine_are_provisional() -> None:
    busy = result() | {"machine": {"load_averages": [9.0, 0.0, 0.0]}}
    assert "provisional" in graph_section(busy)
    assert "provisional" not in graph_section(result())
