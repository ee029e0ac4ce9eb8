"""From runs to tables: medians, added latency, wrong targets, goals, and the page."""

from typing import Any

import pytest
from benchmarks.rig import summary as module
from benchmarks.rig.embedded_page import embedded_section
from benchmarks.rig.page import goal_table, page, table_section
from benchmarks.rig.summary import GOALS, Goal, Spread, Summary, spread
from benchmarks.rig.tables import TABLES
from benchmarks.rig.targets import DIRECT, OURS


def run(number: int, target: str, scenario: str, wrong: str = "", **figures: float) -> dict[str, Any]:
    return {"round": number, "target": target, "scenario": scenario, "figures": figures, "wrong": wrong}


def test_spread_is_median_and_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([4.0]) == Spread(4.0, 4.0, 4.0)


def test_figures_that_a_round_lacks_are_not_shown() -> None:
    summary = Summary([run(0, "nginx", "unary", a=1.0, b=2.0), run(1, "nginx", "unary", a=3.0)])
    assert summary.get("unary", "nginx", "a") == Spread(2.0, 1.0, 3.0)
    assert summary.get("unary", "nginx", "b") is None


def test_one_wrong_round_takes_the_figures_away_and_keeps_the_reason() -> None:
    runs = [run(0, "x", "unary", a=1.0), run(1, "x", "unary", wrong="2 status errors"), run(0, "x", "paced", a=5.0)]
    summary = Summary(runs)
    assert summary.get("unary", "x", "a") is None
    assert summary.why_missing("unary", "x") == "2 status errors"
    assert summary.get("paced", "x", "a") == Spread(5.0, 5.0, 5.0)
    assert summary.why_missing("paced", "x") == ""


def test_a_target_that_did_not_start_says_so_in_every_scenario() -> None:
    summary = Summary([run(0, "x", "start", wrong="did not start: no such file")])
    assert summary.why_missing("burst", "x") == "did not start: no such file"


def test_added_latency_is_against_no_gateway_in_the_same_round() -> None:
    runs = [
        run(0, DIRECT, "single", p50_s=1.0),
        run(0, "x", "single", p50_s=1.5),
        run(1, DIRECT, "single", p50_s=2.0),
        run(1, "x", "single", p50_s=2.75),
        run(0, "x", "unary", p50_s=9.0),
    ]
    summary = Summary(runs)
    assert summary.get("single", "x", "added_p50_s") == Spread(0.625, 0.5, 0.75)
    assert summary.get("single", DIRECT, "added_p50_s") is None
    assert summary.get("unary", "x", "added_p50_s") is None


def test_added_latency_needs_a_right_round_without_gateway() -> None:
    runs = [run(0, DIRECT, "single", wrong="gone"), run(0, "x", "single", p50_s=1.5)]
    assert module.with_added_latency(runs) == runs


def test_foreign_work_counts_only_where_cpu_was_taken() -> None:
    runs = [
        run(0, DIRECT, "unary", foreign_ratio=0.9),
        run(0, "x", "unary", foreign_ratio=0.2, cpu_per_request_s=1.0),
        run(1, "x", "unary", foreign_ratio=0.3, cpu_per_request_s=1.0),
    ]
    assert Summary(runs).foreign_ratio_max() == 0.3
    assert Summary([]).foreign_ratio_max() == 0.0


def test_goals_know_their_direction() -> None:
    at_most = Goal("a", "s", "f", 10, 1, "µs")
    at_least = Goal("a", "s", "f", 10, 1, "/s", at_least=True)
    assert at_most.met(10)
    assert not at_most.met(10.1)
    assert at_least.met(10)
    assert not at_least.met(9.9)


def test_every_goal_stands_in_a_table() -> None:
    columns = {(column.scenario, column.figure) for table in TABLES for column in table.columns}
    assert {(goal.scenario, goal.figure) for goal in GOALS} <= columns


def result(runs: list[dict[str, Any]], *names: str) -> dict[str, Any]:
    described = {"version": "1.0", "features": "all of it", "config": "nginx.conf"}
    return {
        "measured_at": "2030-01-02T03:04:05+00:00",
        "commit": "abc",
        "changed": False,
        "machine": {
            "processor": "P",
            "cores": 2,
            "memory_bytes": 8e9,
            "kernel": "6",
            "system": "D",
            "python": "3.11",
            "load_averages": [0.1, 0.2, 0.3],
        },
        "settings": {"rounds": 3},
        "elapsed_s": 600.0,
        "targets": dict.fromkeys(names, described),
        "runs": runs,
    }


RUNS = [
    run(0, DIRECT, "unary", requests_per_second=60_000.0, p50_s=0.001, p99_s=0.002),
    run(0, "nginx", "unary", cpu_per_request_s=16e-6, requests_per_second=50_000.0, p50_s=0.001, p99_s=0.002),
    run(0, OURS, "unary", cpu_per_request_s=36e-6, requests_per_second=34_000.0, p50_s=0.001, p99_s=0.002),
    run(1, OURS, "unary", cpu_per_request_s=30e-6, requests_per_second=36_000.0, p50_s=0.001, p99_s=0.002),
    run(0, "other", "start", wrong="not installed | gone"),
]


def test_tables_are_ordered_by_price_and_name_what_is_missing() -> None:
    section = table_section(TABLES[0], Summary(RUNS), [DIRECT, "other", OURS, "nginx"])
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip(" *") for row in rows] == [
        "target",
        "no gateway",
        "nginx",
        OURS,
        "other",
        "our goal",
    ]
    assert "| **33.0 (30.0–36.0)** |" in rows[3]
    assert "not installed / gone" in rows[4]
    assert len({row.count("|") for row in rows}) == 1


def test_goals_say_by_how_much_they_were_missed_and_who_is_best() -> None:
    table = goal_table(Summary(RUNS), [DIRECT, "nginx", OURS])
    assert "| ≤ 30 µs | 33 (30–36) µs | no, 10% above | nginx 16 µs |" in table
    assert "| ≥ 33,000 /s | 35,000 (34,000–36,000) /s | yes | nginx 50,000 /s |" in table
    assert "| not measured | – | – |" in table


def test_the_page_holds_every_table_and_every_reason() -> None:
    text = page(result(RUNS, DIRECT, OURS, "nginx", "other"), Summary(RUNS), "")
    for table in TABLES:
        assert f"## {table.title}" in text
    assert "- other, start: not installed | gone" in text
    assert "Measured 2030-01-02 03:04 UTC at commit `abc`" in text


def test_embedded_models_have_a_row_each_and_dashes_for_what_is_missing() -> None:
    engine = {"tokens_per_s": 1000, "requests_per_s": 50.0, "first_token_ms": 0.512, "cpu_us_per_token": 80.0}
    slots = {
        "1": {"decode_tokens_per_s": 4190, "engine": engine},
        "4": {"decode_tokens_per_s": 12100, "engine": engine | {"tokens_per_s": 2500}},
        "16": {"decode_tokens_per_s": 28400, "engine": engine | {"tokens_per_s": 5400, "cpu_us_per_token": 31.5}},
    }
    models = {"glm-nano": {"load_ms": 13.0, "after_mb": 40.2, "slots": slots}, "glm-new": {}}
    section = embedded_section({"machine": {"numpy": "2.0", "load_1m": 0.1}, "models": models})
    nano = (
        "| glm-nano | 4,190 / 12,100 / 28,400 | 1,000 / 2,500 / 5,400 | 50 / 50 / 50 | 5.4 | 0.51 | 31.5 | 13.0 | 40 |"
    )
    assert nano in section
    assert "| glm-new | – / – / – | – / – / – | – / – / – | – | – | – | – | – |" in section


def test_a_goal_is_not_met_without_a_figure() -> None:
    assert "met" in goal_table(Summary([]), []).splitlines()[0]
    assert goal_table(Summary([]), []).count("not measured") == len(GOALS)


@pytest.mark.parametrize("name", ["unary", "single", "long", "paced", "burst", "idle-unused", "idle-used"])
def test_every_scenario_has_a_table(name: str) -> None:
    assert any(column.scenario == name for table in TABLES for column in table.columns)
