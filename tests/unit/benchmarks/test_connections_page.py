"""The section about many connections says what was measured, and which goals it meets."""

from __future__ import annotations

from typing import Any

from benchmarks.rig.connections_page import connections_section


def run(kind: str, pss: int, p99_ms: float, lost: int, each: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "pss_before": 100_000_000,
        "pss_after": pss,
        "bytes_per_connection": each,
        "kernel_bytes_per_connection": 6000.0,
        "p50_ms": 0.5,
        "p99_ms": p99_ms,
        "max_ms": 90.0,
        "lost": lost,
        "closed": 0,
        "cpu_share": 0.25,
    }


def test_goals_are_judged_for_each_kind() -> None:
    result = {
        "measured_at": "2026-01-31T10:20:30+00:00",
        "commit": "abc123",
        "machine": {"load_averages": [0.25, 0, 0]},
        "settings": {"connections": 100_000, "workers": 8, "clients": 8, "seconds": 60.0, "rate": 500.0},
        "runs": [run("framed", 350_000_000, 12.0, 0, 2300.0), run("http", 401_000_000, 21.0, 1, 1400.0)],
    }
    text = connections_section(result)
    assert "100,000 connections to one server of 8 workers" in text
    assert "2026-01-31 10:20 UTC, commit `abc123`, load average of the machine then 0.2" in text
    assert "| framed protocol: memory | ≤ 400 MB | 350 MB | yes |" in text
    assert "| framed protocol: our own goal per idle connection | ≤ 1.5 KB | 2,300 B | **no** |" in text
    assert "| HTTP: memory | ≤ 400 MB | 401 MB | **no** |" in text
    assert "| HTTP: p99 | ≤ 20 ms | 21.0 ms | **no** |" in text
    assert "| HTTP: pings lost, connections closed | 0 | 1 | **no** |" in text
    assert "| HTTP: our own goal per idle connection | ≤ 1.5 KB | 1,400 B | yes |" in text


def test_what_was_not_pinged_has_no_times() -> None:
    one = run("framed", 350_000_000, 0.0, 0, 2300.0)
    one |= dict.fromkeys(("p50_ms", "p99_ms", "max_ms", "lost", "closed", "cpu_share"))
    result = {
        "measured_at": "2026-01-31T10:20:30+00:00",
        "commit": "",
        "machine": {"load_averages": [0.25, 0, 0]},
        "settings": {"connections": 100_000, "workers": 8, "clients": 8, "seconds": 0.0, "rate": 500.0},
        "runs": [one],
    }
    text = connections_section(result)
    assert "| 6,000 B | – | – | – | – | – |" in text
    assert "p99 |" not in text.partition("| goal |")[2]
    assert "not pinged here; 2026-01-31 10:20 UTC, load average" in text
