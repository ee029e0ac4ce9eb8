"""Where finished requests are accounted for: metrics, log line, explain record.

On the request path a record is only put aside. A batch of records is counted together, when it is full or soon after
its first one: what each of them costs then is a place in a few lists. Invariant: every record is counted once and in
order; who reads figures or explanations makes the accountant catch up first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import CHUNK, RequestLog
from open_autoglm.telemetry.series import ModelSeries, RequestSeries

if TYPE_CHECKING:
    import asyncio

_CACHED_MAX: Final = 4096
"""Names are the client's; a cache of them must end somewhere. `Metrics` bounds the series themselves."""
_BATCH: Final = CHUNK
_DELAY_S: Final = 0.05
"""How long a record waits for others at most."""

_ending: Final = attrgetter("route", "model", "status", "code")
_outcome: Final = attrgetter("group", "endpoint", "outcome")
_attempts: Final = attrgetter("attempts")
_prompt_tokens: Final = attrgetter("prompt_tokens")
_completion_tokens: Final = attrgetter("completion_tokens")


class Accountant:
    """See the module; implements `gateway.gateway.Accounts`."""

    def __init__(
        self, metrics: Metrics, log: RequestLog, explain: ExplainStore, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._metrics = metrics
        self._log = log
        self._explain = explain
        self._loop = loop
        self._ended: list[RequestRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._series: dict[tuple[str, str], tuple[RequestSeries, ModelSeries]] = {}
        metrics.catch_up = explain.catch_up = log.catch_up = self.catch_up

    def settle(self, record: RequestRecord) -> None:
        """Take a finished request; its record must not be changed any more."""
        ended = self._ended
        ended.append(record)
        if len(ended) >= _BATCH:
            self.catch_up()
        elif self._timer is None:
            self._timer = self._loop.call_later(_DELAY_S, self.catch_up)

    def forget(self) -> None:
        """Drop the cached series; after a reload other names are known."""
        self.catch_up()
        self._series.clear()

    def catch_up(self) -> None:
        """Count what has been put aside, and hand it on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        for (route, model, status, code), records in groupby(ended, _ending):
            self._count(route, model, status, code, list(records))
        if not all(map(_attempts, ended)):
            # Nobody wants to read of a probe of health, or to have it push a request out of memory.
            ended = [record for record in ended if record.key or record.attempts or record.code]
        self._log.put_all(ended)
        self._explain.extend(ended)

    def _count(self, route: str, model: str, status: int, code: str, records: list[RequestRecord]) -> None:
        """Count requests that ended alike. What is done for each of them is left to C as far as it goes."""
        requests, answers = self._series.get((route, model)) or self._open(route, model)
        requests.done(status, code, *[record.ended_s - record.received_s for record in records])
        tried = [record for record in records if record.attempts]
        if code and len(tried) < len(records):
            reasons = Counter(record.rejected or code for record in records if not record.attempts)
            for reason, count in reasons.items():
                self._metrics.rejected(reason, count)
        answers.first_token(*[record.first_s - record.received_s for record in tried if record.first_s])
        answers.tokens(_sum_told(map(_prompt_tokens, tried)), _sum_told(map(_completion_tokens, tried)))
        attempts = Counter(map(_outcome, chain.from_iterable(map(_attempts, tried))))
        for (group, endpoint, outcome), count in attempts.items():
            self._metrics.endpoint(group, endpoint).ended(outcome, count)

    def _open(self, route: str, model: str) -> tuple[RequestSeries, ModelSeries]:
        if len(self._series) >= _CACHED_MAX:
            self._series.clear()
        series = self._series[route, model] = self._metrics.requests(route, model), self._metrics.model(model)
        return series


def _sum_told(counts: Iterable[int]) -> int:
    """The sum of those counts that were told; others are -1."""
    told = list(counts)
    return sum(told) + told.count(-1)
