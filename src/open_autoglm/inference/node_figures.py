"""What a node says of itself: its metrics for a scrape, and its models for people and servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from open_autoglm import clock
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.telemetry import exposition, process
from open_autoglm.telemetry.metric_families import FAMILIES

Rows = dict[tuple[str, ...], float]
_ROUTE = "node"


def render(
    models: Sequence[ServedModel],
    connections: int,
    *,
    draining: bool,
    node: str,
    updates: Mapping[tuple[str, str, str], int] | None = None,
) -> bytes:
    """Metrics as Prometheus text.

    Args:
        models: of the node.
        connections: open ones.
        draining: whether the node stops.
        node: its id.
        updates: how many versions went through which step, by model, step and reason.
    """
    rows: dict[str, Rows] = {
        "mcp_requests_total": {
            (_ROUTE, model.name, status, code): count
            for model in models
            for (status, code), count in model.outcomes().items()
        },
        "mcp_in_flight": _each(models, lambda model: model.in_flight),
        "mcp_tokens_total": {
            (model.name, kind): count
            for model in models
            for kind, count in (("prompt", model.prompt_tokens), ("completion", model.completion_tokens))
        },
        "mcp_connections": {("client",): connections},
        "mcp_draining": {(): float(draining)},
        "mcp_model_version_info": {
            (node, model.name, live.version): 1.0 for model in models for live in model.engine.versions()
        },
        "mcp_engine_queue": _each(models, lambda model: model.engine.load().queued),
        "mcp_engine_running": _each(models, lambda model: model.engine.load().running),
        "mcp_engine_passes_total": _each(models, lambda model: model.engine.load().passes_total),
        "mcp_engine_memory_bytes": _each(models, lambda model: model.engine.load().memory_bytes),
        "mcp_engine_swaps_total": _each(models, lambda model: model.engine.swap_figures().swaps_total),
        "mcp_engine_swap_pause_seconds": {
            (model.name, figure): value
            for model in models
            for figure, value in (
                ("max", model.engine.swap_figures().pause_max_s),
                ("p99", model.engine.swap_figures().pause_p99_s),
            )
        },
        "mcp_model_updates_total": {key: float(count) for key, count in (updates or {}).items()},
        "process_cpu_seconds_total": {(): clock.cpu()},
        "process_resident_memory_bytes": {(): process.resident_bytes()},
        "process_start_time_seconds": {(): process.STARTED_WALL_S},
    }
    lines: list[str] = []
    for name, family in FAMILIES.items():
        if name in rows:
            lines += exposition.head_lines(name, family)
            lines += exposition.sample_lines(name, family.labels, rows[name])
    lines.append("")
    return "\n".join(lines).encode()


def describe(model: ServedModel) -> dict[str, Any]:
    """One model in plain values."""
    load = model.engine.load()
    return {
        "name": model.name,
        "source": model.source,
        "version": model.engine.version,
        "versions": [
            {"version": live.version, "state": live.state, "running": live.running} for live in model.engine.versions()
        ],
        "slots": load.slots,
        "running": load.running,
        "queued": load.queued,
        "memory_bytes": load.memory_bytes,
        "memory_max": load.memory_max,
        "tokens_total": load.tokens_total,
        "answered": model.answered,
    }


def _each(models: Sequence[ServedModel], figure: Callable[[ServedModel], float]) -> Rows:
    return {(model.name,): figure(model) for model in models}
