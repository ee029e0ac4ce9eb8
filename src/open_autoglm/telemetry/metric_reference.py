"""Writes `docs/metrics.md` from `metric_families`: `python -m open_autoglm.telemetry.metric_reference`.

Invariant: every metric that a scrape shows is on the page, with the labels that it has; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from open_autoglm.telemetry.metric_families import BOUNDS_S, FAMILIES, Family
from open_autoglm.telemetry.metrics import SERIES_MAX

PAGE: Final = Path(__file__).parents[3] / "docs" / "metrics.md"

PLANNED: Final[dict[str, str]] = {
    "mcp_cost_total": "the ledger",
}
"""Metrics of parts that are not in this version: known by name, without a sample."""

_HEAD: Final = """\
# Metrics

<!-- Written by `python -m open_autoglm.telemetry.metric_reference`; change the code, not the page. -->

`GET /metrics` of the admin listener, in Prometheus' text format. It needs no key on loopback:

```
curl -s http://127.0.0.1:8081/metrics
```

```yaml
# prometheus.yml
scrape_configs:
  - job_name: open-autoglm
    static_configs: [{targets: ["127.0.0.1:8081"]}]
```

- Labels are bounded. A model name that is not configured counts under `model="other"`; beyond SERIES_MAX series in all,
  whatever is new counts under `other` too, so nobody can fill the memory with names.
- `endpoint` is an address without anything secret, `code` a word of [errors](errors.md), `outcome` a word of
  [what becomes of one attempt](errors.md#what-becomes-of-one-attempt).
- Histograms have the bounds BOUNDS s, the same for both.
- Counters begin at 0 with each start of the server.

| metric | kind | labels | means |
|---|---|---|---|
"""

_QUERIES: Final = (
    ("Requests per second, by model", "sum by (model) (rate(mcp_requests_total[5m]))"),
    (
        "Share that failed for reasons of the server's or a model's",
        'sum(rate(mcp_requests_total{status=~"5.."}[5m])) / sum(rate(mcp_requests_total[5m]))',
    ),
    (
        "Time to the first token, 95th percentile, by model",
        "histogram_quantile(0.95, sum by (le, model) (rate(mcp_first_token_seconds_bucket[5m])))",
    ),
    (
        "Attempts per answered request; above 1: retries and fallbacks",
        "sum(rate(mcp_attempts_total[5m])) / sum(rate(mcp_first_token_seconds_count[5m]))",
    ),
    (
        "Endpoints that fail, and how",
        'sum by (endpoint, outcome) (rate(mcp_attempts_total{outcome!="ok"}[5m])) > 0',
    ),
    ("Tokens per second, by model", "sum by (model, kind) (rate(mcp_tokens_total[5m]))"),
    ("Turned away before any attempt", "sum by (reason) (rate(mcp_rejected_total[5m]))"),
    ("A reload that was refused", 'increase(mcp_config_reload_total{outcome="refused"}[10m]) > 0'),
    ("The server itself is too busy", "mcp_loop_lag_seconds > 0.1"),
)
"""What people ask, and how Prometheus is asked."""


def page() -> str:
    """Return the page."""
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS_S)
    head = _HEAD.replace("BOUNDS", bounds).replace("SERIES_MAX", f"{SERIES_MAX:,}")
    rows = [_row(name, family) for name, family in FAMILIES.items() if name not in PLANNED]
    planned = ", ".join(f"`{name}` ({part})" for name, part in PLANNED.items())
    without = f"\n\nWithout a sample in this version: {planned}.\n"
    queries = [f"| {question} | `{query}` |" for question, query in _QUERIES]
    asked = ["", "## Questions and their queries", "", "| question | query |", "|---|---|", *queries, ""]
    return head + "\n".join(rows) + without + "\n".join(asked)


def _row(name: str, family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
    return f"| `{name}` | {family.kind} | {labels} | {family.help} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
