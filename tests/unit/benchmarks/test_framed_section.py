"""The sections about the framed path say what was measured, and which goals it meets."""

from __future__ import annotations

from typing import Any

from benchmarks.framed.section import framed_section, serialization_section

ABOUT = {
    "measured_at": "2026-01-31T10:20:30+00:00",
    "commit": "abc123",
    "machine": {"load_averages": [0.25, 0, 0]},
}


def run(side: str, load: str, per_s: float, p50_ms: float | None, cpu_us: float) -> dict[str, Any]:
    figures = {"p99_ms": p50_ms, "gateway_us": cpu_us, "nodes_us": cpu_us, "client_us": cpu_us}
    return {"side": side, "load": load, "requests_per_s": per_s, "p50_ms": p50_ms, **figures}


def test_goals_are_judged_by_medians() -> None:
    runs = [
        *(
            run("framed", "many", per_s, 1.0, cpu_us)
            for per_s, cpu_us in ((100_000, 6.0), (60_000, 11.0), (50_000, 9.0))
        ),
        *(run("rest_grpc", "many", 4_000, p50_ms, 200.0) for p50_ms in (8.0, 9.0, None)),
        run("framed", "one", 500, 0.2, 20.0),
        run("rest_grpc", "one", 400, 2.0, 300.0),
        run("direct", "many", 200_000, 0.1, 5.0),
        run("framed_compiled", "many", 90_000, 0.5, 6.5),
        run("framed_compiled", "one", 2_000, 0.2, 20.0),
    ]
    text = framed_section({**ABOUT, "settings": {"rounds": 3, "windows": 1}, "runs": runs})
    assert "2026-01-31 10:20 UTC, commit `abc123`, load average of the machine then 0.2" in text
    assert "| 60,000 (50,000–100,000) |" in text
    assert "64 in flight | plain | ≥ 20 x | 15.0 x | 25.0 x | in the best windows only |" in text
    assert "64 in flight | plain | ≥ 10 x | 8.5 x | 8.0 x | **no** |" in text
    assert "one in flight | plain | ≥ 3 x | 1.2 x | 1.2 x | **no** |" in text
    assert "CPU of our server per request | plain | ≤ 10 µs | 9.0 µs | 6.0 µs | yes |" in text
    assert "CPU of our client per request | plain | ≤ 7 µs | 9.0 µs | 6.0 µs | in the best windows only |" in text
    assert "64 in flight | compiled | ≥ 20 x | 22.5 x | 22.5 x | yes |" in text
    assert "one in flight | compiled | ≥ 3 x | 5.0 x | 5.0 x | yes |" in text
    assert "CPU of our client per request | compiled | ≤ 7 µs | 6.5 µs | 6.5 µs | yes |" in text
    assert "| **the same, compiled** | 90,000 | 0.50 |" in text
    direct = next(line for line in text.splitlines() if "no server" in line)
    assert direct.endswith("| 200,000 | 0.10 | 0.1 | – | 5.0 | 5.0 |")


def test_forms_are_lines_and_sizes_columns() -> None:
    form = {"bytes": 1200, "encode_us": 0.254, "decode_us": 1.0}
    call = {"request_bytes": 1300.5, "answer_bytes": 90.0, "both_ends_us": 50.4}
    text = serialization_section(
        {
            **ABOUT,
            "versions": {"msgspec": "1"},
            "requests": {"question": {"JSON": form}, "long": {"JSON": form}},
            "calls": {"100 B": {"frames, json": call}},
        }
    )
    assert "| | question: bytes | write | read | long: bytes | write | read |" in text
    assert "| JSON | 1,200 | 0.25 | 1.00 | 1,200 | 0.25 | 1.00 |" in text
    assert "| frames, json | 1,300 | 90 | 50 |" in text
