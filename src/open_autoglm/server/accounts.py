"""Where finished requests are accounted for: metrics, log line, explain record.

On the request path a record is only put aside. A batch of records is counted together, when it is full or soon after
its first one, while the counters are at hand. Invariant: every record is counted once and in
order; who reads figures or explanations makes the accountant catch up first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import CHUNK, RequestLog
from open_autoglm.telemetry.series import EndpointSeries, ModelSeries, RequestSeries

if TYPE_CHECKING:
    import asyncio

_CACHED_MAX: Final = 4096
"""Names are the client's; a cache of them must end somewhere. `Metrics` bounds the series themselves."""
_BATCH: Final = CHUNK
_DELAY_S: Final = 0.05
"""How long a record waits for others at most."""


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
        self._endpoints: dict[tuple[str, str], EndpointSeries] = {}
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
        self._endpoints.clear()

    def catch_up(self) -> None:
        """Count what has been put aside, and hand it on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        told: list[RequestRecord] = []
        for record in ended:
            self._count(record)
            # Nobody wants to read of a probe of health, or to have it push a request out of memory.
            if record.attempts or record.key or record.code:
                told.append(record)
        self._log.put_all(told)
        self._explain.extend(told)

    def _count(self, record: RequestRecord) -> None:
        code = record.code
        series = self._series.get((record.route, record.model))
        if series is None:
            series = self._open(record.route, record.model)
        requests, answers = series
        received_s = record.received_s
        requests.done(record.status, code, record.ended_s - received_s)
        attempts = record.attempts
        if not attempts:
            if code:
                self._metrics.rejected(record.rejected or code)
            return
        if record.first_s:
            answers.first_token(record.first_s - received_s)
        answers.tokens(record.prompt_tokens, record.completion_tokens)
        for attempt in attempts:
            endpoint = self._endpoints.get((attempt.group, attempt.endpoint))
            if endpoint is None:
                endpoint = self._open_endpoint(attempt.group, attempt.endpoint)
            endpoint.ended(attempt.outcome)

    def _open(self, route: str, model: str) -> tuple[RequestSeries, ModelSeries]:
        if len(self._series) >= _CACHED_MAX:
            self._series.clear()
        series = self._series[route, model] = self._metrics.requests(route, model), self._metrics.model(model)
        return series

    def _open_endpoint(self, group: str, endpoint: str) -> EndpointSeries:
        if len(self._endpoints) >= _CACHED_MAX:
            self._endpoints.clear()
        series = self._endpoints[group, endpoint] = self._metrics.endpoint(group, endpoint)
        return series
