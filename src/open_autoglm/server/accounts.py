"""Where finished requests are accounted for: metrics, log line, explain record. On the request path: it only counts."""

from __future__ import annotations

from typing import TypeVar

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.telemetry.series import EndpointSeries, ModelSeries, RequestSeries

_K = TypeVar("_K")
_V = TypeVar("_V")
_CACHED_MAX = 4096
"""Names are the client's; a cache of them must end somewhere. `Metrics` bounds the series themselves."""


class Accountant:
    """See the module; implements `gateway.gateway.Accounts`."""

    def __init__(self, metrics: Metrics, log: RequestLog, explain: ExplainStore) -> None:
        self._metrics = metrics
        self._log = log.put
        self._explain = explain.put
        self._requests: dict[tuple[str, str], RequestSeries] = {}
        self._models: dict[str, ModelSeries] = {}
        self._endpoints: dict[tuple[str, str], EndpointSeries] = {}

    def forget(self) -> None:
        """Drop the cached series; after a reload other names are known."""
        self._requests.clear()
        self._models.clear()
        self._endpoints.clear()

    def started(self, model: str) -> None:
        """A request for a model has begun."""
        self._model(model).started()

    def settle(self, record: RequestRecord) -> None:
        """Count a finished request and hand its record on."""
        key = (record.route, record.model)
        series = self._requests.get(key)
        if series is None:
            series = self._metrics.requests(*key)
            self._keep(self._requests, key, series)
        series.done(record.status, record.code, record.ended_s - record.received_s)
        if record.attempts:
            self._settle_attempts(record)
        elif record.code:
            self._metrics.rejected(record.code)
        self._log(record)
        self._explain(record)

    def _settle_attempts(self, record: RequestRecord) -> None:
        model = self._model(record.model)
        model.finished()
        if record.first_s:
            model.first_token(record.first_s - record.received_s)
        if record.prompt_tokens >= 0:
            model.tokens(record.prompt_tokens, max(record.completion_tokens, 0))
        for attempt in record.attempts:
            key = (attempt.group, attempt.endpoint)
            series = self._endpoints.get(key)
            if series is None:
                series = self._metrics.endpoint(*key)
                self._keep(self._endpoints, key, series)
            series.ended(attempt.outcome)

    def _model(self, name: str) -> ModelSeries:
        series = self._models.get(name)
        if series is None:
            series = self._metrics.model(name)
            self._keep(self._models, name, series)
        return series

    @staticmethod
    def _keep(cache: dict[_K, _V], key: _K, value: _V) -> None:
        if len(cache) >= _CACHED_MAX:
            cache.clear()
        cache[key] = value
