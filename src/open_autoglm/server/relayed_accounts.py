"""Where requests are accounted for that were relayed in frames and went well at once: figures now, records by sample.

Invariant: who reads figures has those of every relayed request that is over, because the tallies are collected first.
"""

from __future__ import annotations

from collections.abc import Callable

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.framed_tally import ROUTE, Tally
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import RequestLog


class RelayedAccountant:
    """See the module; implements `gateway.framed_tally.PlainAccounts`. Made after the `Accountant`.

    Attributes:
        collect: has the tallies counted; whoever keeps them sets it.
    """

    __slots__ = ("_explain", "_log", "_metrics", "_others", "collect")

    def __init__(self, metrics: Metrics, log: RequestLog, explain: ExplainStore) -> None:
        self._metrics = metrics
        self._log = log
        self._explain = explain
        self._others = metrics.catch_up
        self.collect: Callable[[], None] = _nothing
        metrics.catch_up = explain.catch_up = log.catch_up = self.catch_up

    def count(self, tally: Tally) -> None:
        """See `PlainAccounts.count`."""
        metrics = self._metrics
        metrics.requests(ROUTE, tally.model).done_well(tally.whole_s + tally.stream_s)
        answers = metrics.model(tally.model)
        answers.first_tokens(tally.whole_s + tally.first_s)
        answers.tokens(tally.prompt_tokens, tally.completion_tokens)
        metrics.endpoint(tally.group, tally.endpoint).ended_well(len(tally))

    def keep(self, record: RequestRecord) -> None:
        """See `PlainAccounts.keep`."""
        self._log.put(record)
        self._explain.put(record)

    def catch_up(self) -> None:
        """Count everything that is over, here and elsewhere."""
        self.collect()
        self._others()


def _nothing() -> None:
    """Nobody relays anything yet."""
