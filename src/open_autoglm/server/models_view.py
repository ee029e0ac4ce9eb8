"""The models as people see them: the table at the start, the admin API, `autoglm models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend

if TYPE_CHECKING:
    from open_autoglm.server.server import Server


def models_view(server: Server) -> list[dict[str, object]]:
    """One row for each endpoint, unavailable ones included; no secrets."""
    now_s = clock.monotonic()
    strategy = server.config.routing.strategy
    rows: list[dict[str, object]] = []
    for part in server.assembly.parts.values():
        endpoint = part.endpoint
        state = part.breaker.state
        reason = ""
        if isinstance(part.backend, NodeBackend) and not part.backend.is_linked:
            outcome, reason = part.backend.absence()
            shown = "misconfigured" if outcome == "misconfigured" else "unreachable"
        elif endpoint.misconfigured_until_s > now_s:
            shown = "misconfigured"
        elif endpoint.throttled_until_s > now_s:
            shown = "throttled"
        elif state == "closed" and endpoint in server.health.unreachable and part.backend.dialect_name != "mcp":
            shown = "unreachable"
        elif endpoint.ejected_until_s > now_s:
            shown = "ejected"
        else:
            shown = {"closed": "ready"}.get(state, state)
        rows.append(
            {
                "name": endpoint.model,
                "dialect": part.backend.dialect_name,
                "endpoint": endpoint.name,
                "upstream_model": endpoint.upstream_model,
                "state": shown,
                "reason": reason,
                "breaker": state,
                "in_flight": endpoint.in_flight,
                "limit": endpoint.limit if part.pace is not None else None,
                "first_token_ms": round(endpoint.latency_s * 1000, 3),
                "weight": endpoint.weight,
                "strategy": strategy,
            }
        )
    rows.extend(
        {
            "name": entry.name,
            "dialect": entry.dialect,
            "endpoint": entry.endpoint,
            "state": "not available in this version",
        }
        for entry in server.config.models_unavailable
    )
    return rows
