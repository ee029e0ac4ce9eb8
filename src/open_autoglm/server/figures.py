"""What a server shows of itself in its metrics beside counters: gauges that are asked when somebody scrapes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from open_autoglm.server.server import Server

_BREAKER_FIGURES: Final = {"closed": 0, "disabled": 0, "half_open": 1}
"""`mcp_breaker_state`; open, by itself or by an operator, is 2."""


def register_figures(server: Server) -> None:
    """Register every gauge of a server that is composed."""
    gauge = server.metrics.gauge
    gauge("mcp_in_flight", lambda: _in_flight(server))
    gauge("mcp_connections", lambda: _connections(server))
    gauge("mcp_log_dropped_total", lambda: server.request_log.dropped)
    gauge("mcp_breaker_state", lambda: _breaker_states(server))
    server.health.gauges(gauge)
    gauge("mcp_config_revision", lambda: server.revision.number)
    if server.discovery is not None:
        server.discovery.gauges(gauge)
    gauge("mcp_tickets_total", lambda: server.tickets.issued)
    gauge("mcp_draining", lambda: int(server.leaving))
    gauge("mcp_loop_lag_seconds", server.lag.max_s)
    gauge("mcp_queue_depth", server.gateway.queue_depths)
    gauge("mcp_overload_stage", lambda: server.overload.stage)
    gauge("mcp_graph_runs_in_flight", lambda: server.runs.in_flight if server.runs is not None else 0)
    gauge("mcp_audit_records_total", server.audit.records)
    gauge("mcp_team_runs_total", lambda: dict(server.teams.figures.runs))
    gauge("mcp_team_asks_total", lambda: dict(server.teams.figures.asks))
    gauge("mcp_source_flags_total", lambda: server.sources.flags)


def _in_flight(server: Server) -> dict[str, float]:
    return dict(Counter(call.model for call in server.gateway.active) + server.framed.in_flight())


def _connections(server: Server) -> dict[str, float]:
    return {
        "client": server.data.connections,
        "upstream": sum(part.backend.connections for part in server.assembly.parts.values()),
    }


def _breaker_states(server: Server) -> dict[tuple[str, str], float]:
    parts = server.assembly.parts.values()
    return {(part.endpoint.model, part.endpoint.name): _BREAKER_FIGURES.get(part.breaker.state, 2) for part in parts}
