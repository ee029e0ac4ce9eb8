"""The names, labels and meanings of every metric, as a table. Names never change: dashboards and alerts rely on them.

Invariant: label values are bounded; whoever fills them in (`metrics.py`) folds the rest into `other`.
Format: Prometheus text exposition 0.0.4.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

BOUNDS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
"""Upper bounds of the buckets of both histograms, seconds: from a local answer to the longest stream.
Twelve, because each bucket is a series of its own and the number of series is limited."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        kind: how it is read: `counter` only grows, `gauge` moves, `histogram` counts seconds in buckets.
        labels: names of its labels, in order.
        help: one line for people.
    """

    kind: Kind
    labels: tuple[str, ...]
    help: str


FAMILIES: dict[str, Family] = {
    "mcp_requests_total": Family(
        "counter", ("route", "model", "status", "code"), "Requests answered, by HTTP status and error code."
    ),
    "mcp_request_seconds": Family(
        "histogram", ("route", "model"), "From the request's head to the answer's last byte."
    ),
    "mcp_first_token_seconds": Family("histogram", ("model",), "From the request's head to the first content sent."),
    "mcp_attempts_total": Family(
        "counter", ("model", "endpoint", "outcome"), "Attempts at endpoints, by how they ended."
    ),
    "mcp_in_flight": Family("gauge", ("model",), "Requests being served."),
    "mcp_queue_depth": Family("gauge", ("class",), "Requests waiting for a slot, by priority class."),
    "mcp_tokens_total": Family("counter", ("model", "kind"), "Tokens, as counted upstream: prompt, completion."),
    "mcp_cost_total": Family("counter", ("model", "kind"), "Money: metered, charged."),
    "mcp_breaker_state": Family("gauge", ("model", "endpoint"), "Circuit breaker: 0 closed, 1 half open, 2 open."),
    "mcp_concurrency_limit": Family("gauge", ("model", "endpoint"), "Attempts that may run at the endpoint at once."),
    "mcp_ejected": Family("gauge", ("model", "endpoint"), "1 while the endpoint is ejected from its group."),
    "mcp_panic": Family("gauge", ("model",), "1 while so few endpoints are left that ejections are ignored."),
    "mcp_throttle_ratio": Family("gauge", ("model", "endpoint"), "Share of requests held back from the endpoint."),
    "mcp_rejected_total": Family("counter", ("reason",), "Requests turned away before any attempt."),
    "mcp_config_revision": Family("gauge", (), "Revision of the active configuration."),
    "mcp_config_reload_total": Family("counter", ("outcome",), "Reloads of the configuration, by outcome."),
    "mcp_draining": Family("gauge", (), "1 while the server is stopping, or was replaced and finishes what it began."),
    "mcp_loop_lag_seconds": Family("gauge", (), "Worst delay of the event loop in the last seconds."),
    "mcp_overload_stage": Family("gauge", (), "Overload stage: 0 none, 1 spare, 2 critical requests only, 3 closed."),
    "mcp_source_flags_total": Family("counter", ("kind",), "Sources flagged for unusual behaviour: address, key."),
    "mcp_graph_runs_in_flight": Family(
        "gauge", (), "Runs of task graphs that go on here; not those that wait for a person."
    ),
    "mcp_audit_records_total": Family("counter", ("outcome",), "Records of what virtual models did: written, lost."),
    "mcp_team_runs_total": Family(
        "counter", ("model", "reason"), "Runs of virtual models, by why they ended: decided, lead, deadline, …"
    ),
    "mcp_team_asks_total": Family(
        "counter",
        ("model", "member", "outcome"),
        "What virtual models asked their members, by what came of it: vote, flagged, failed, cancelled, late.",
    ),
    "mcp_tickets_total": Family("counter", (), "Tickets written for clients that ask nodes themselves."),
    "mcp_nodes": Family("gauge", ("state",), "Members of the cluster, this server included, by state."),
    "mcp_model_version_info": Family("gauge", ("node", "model", "version"), "1 for each version a node serves."),
    "mcp_facts": Family("gauge", ("kind",), "Facts that members share: note, drained, rollout; removed ones apart."),
    "mcp_facts_conflicts_open": Family(
        "gauge", (), "Facts written at once by several that no later write has settled."
    ),
    "mcp_facts_conflicts_total": Family("counter", (), "Pairs of writes at once that were noticed here."),
    "mcp_facts_sent_bytes_total": Family("counter", ("way",), "Bytes of facts told to others: delta, state."),
    "mcp_facts_lost_total": Family("counter", (), "Datagrams of facts taken for lost; what was in them is told again."),
    "mcp_facts_received_total": Family(
        "counter", ("outcome",), "Facts that others told: new, known, stale (replaced here), refused."
    ),
    "mcp_engine_queue": Family("gauge", ("model",), "Requests that wait for a slot of a node's engine."),
    "mcp_engine_running": Family("gauge", ("model",), "Requests that a node's engine computes."),
    "mcp_engine_passes_total": Family("counter", ("model",), "Forward passes of a node's engine."),
    "mcp_engine_memory_bytes": Family(
        "gauge", ("model",), "Bytes of keys and values that a node's engine has reserved or keeps."
    ),
    "mcp_engine_swaps_total": Family("counter", ("model",), "Versions that a node's engine has made current."),
    "mcp_model_updates_total": Family(
        "counter",
        ("model", "step", "reason"),
        "Versions that a node staged, published, rolled_back or refused, and why.",
    ),
    "mcp_engine_swap_pause_seconds": Family(
        "gauge", ("model", "figure"), "Time between two forward passes with a swap between them: max, p99."
    ),
    "mcp_connections": Family("gauge", ("side",), "Open connections: client, upstream_busy, upstream_idle."),
    "mcp_log_dropped_total": Family("counter", (), "Log lines lost: queue full, disk full, file gone."),
    "process_cpu_seconds_total": Family("counter", (), "CPU seconds of this process, user and system."),
    "process_resident_memory_bytes": Family("gauge", (), "Memory of this process that is in RAM, bytes."),
    "process_start_time_seconds": Family("gauge", (), "When this process started, seconds since 1970 UTC."),
}
