"""Where requests are accounted for that clients asked nodes themselves, by what the nodes report of them.

Invariant: these are counted in the same metrics as those that the server relays, with a route of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from open_autoglm.errors import CODES
from open_autoglm.gateway.usage_book import Lease, UsageRow
from open_autoglm.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
ROUTE: Final = "/mcp/v1/direct"
"""Of direct requests, as in metrics; there is no such path."""
_CLIENTS_CODES_BELOW: Final = 500


class DirectAccountant:
    """See the module; implements `gateway.usage_book.UsageAccounts`.

    Args:
        metrics: asked when there is something to count.
    """

    __slots__ = ("_metrics",)

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics

    def used(self, row: UsageRow, node: str, lease: Lease | None) -> None:
        """See `UsageAccounts`."""
        metrics = self._metrics()
        failed = sum(row.errors.values())
        good = max(0, row.requests - failed)
        metrics.requests(ROUTE, row.model).reported(good, row.errors, row.seconds, row.seconds_sum)
        metrics.model(row.model).tokens(row.prompt_tokens, row.completion_tokens)
        if lease is not None:
            series = metrics.endpoint(lease.group, lease.endpoint)
            series.ended_well(good)
            for code, count in row.errors.items():
                for _ in range(count):
                    series.ended(_outcome(code))
        _log.info(
            "direct: ticket %d of key %s, model %s, node %s: %d answered, %d failed%s, %d + %d tokens",
            row.ticket,
            row.key,
            row.model,
            node,
            good,
            failed,
            f" ({', '.join(sorted(row.errors))})" if failed else "",
            row.prompt_tokens,
            row.completion_tokens,
        )


def _outcome(code: str) -> str:
    """How an attempt ended, as `exchange.outcomes` names it."""
    if code == "client_closed":
        return "cancelled"
    known = CODES.get(code)
    return "refused" if known is not None and known.http_status < _CLIENTS_CODES_BELOW else "unavailable"
