"""Where the metrics of facts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from open_autoglm.cluster.facts import ClusterFacts
from open_autoglm.telemetry.metrics import Answer

FactFigure = Callable[[ClusterFacts], Answer]
FACT_KINDS: Final = ("note", "drained", "rollout", "removed")


def _by_kind(facts: ClusterFacts) -> dict[str, float]:
    """Facts by kind; what this version knows nothing of is told in one."""
    counted = facts.kinds()
    known = {kind: float(counted.get(kind, 0)) for kind in FACT_KINDS}
    return known | {"other": float(sum(counted.values())) - sum(known.values())}


def _received(facts: ClusterFacts) -> dict[str, float]:
    told = facts.map
    return {"new": told.taken, "known": told.known, "stale": told.stale, "refused": told.refused}


FACT_FIGURES: Final[dict[str, FactFigure]] = {
    "mcp_facts": _by_kind,
    "mcp_facts_conflicts_open": lambda facts: len(facts.map.conflicts.open()),
    "mcp_facts_conflicts_total": lambda facts: facts.map.conflicts.noted,
    "mcp_facts_sent_bytes_total": lambda facts: {way: float(count) for way, count in facts.sent_bytes.items()},
    "mcp_facts_lost_total": lambda facts: facts.lost,
    "mcp_facts_received_total": _received,
}
