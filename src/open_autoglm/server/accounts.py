"""Where finished requests are accounted for: metrics, log line, explain record. On the request path: it only counts."""

from __future__ import annotations

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.telemetry.series import EndpointSeries, ModelSeries, RequestSeries

_CACHED_MAX = 4096
"""Names are the client's; a cache of them must end somewhere. `Metrics` bounds the series themselves."""


class _Account:
    """The series that requests of one route for one model count in."""

    __slots__ = ("endpoints", "model", "requests")

    def __init__(self, requests: RequestSeries, model: ModelSeries) -> None:
        self.requests = requests
        self.model = model
        self.endpoints: dict[str, EndpointSeries] = {}


class Accountant:
    """See the module; implements `gateway.gateway.Accounts`."""

    def __init__(self, metrics: Metrics, log: RequestLog, explain: ExplainStore) -> None:
        self._metrics = metrics
        self._log = log.put
        self._explain = explain.put
        self._accounts: dict[tuple[str, str], _Account] = {}

    def forget(self) -> None:
        """Drop the cached series; after a reload other names are known."""
        self._accounts.clear()

    def settle(self, record: RequestRecord) -> None:
        """Count a finished request and hand its record on."""
        account = self._accounts.get((record.route, record.model)) or self._open(record)
        account.requests.done(record.status, record.code, record.ended_s - record.received_s)
        if record.attempts:
            model = account.model
            if record.first_s:
                model.first_token(record.first_s - record.received_s)
            if record.prompt_tokens >= 0:
                model.tokens(record.prompt_tokens, record.completion_tokens)
            for attempt in record.attempts:
                series = account.endpoints.get(attempt.endpoint)
                if series is None or series.model != attempt.group:
                    series = account.endpoints[attempt.endpoint] = self._metrics.endpoint(
                        attempt.group, attempt.endpoint
                    )
                series.ended(attempt.outcome)
        elif record.code:
            self._metrics.rejected(record.code)
        elif not record.key:
            # A probe of health: nobody wants to read of it, or to have it push a request out of memory.
            return
        self._log(record)
        self._explain(record)

    def _open(self, record: RequestRecord) -> _Account:
        if len(self._accounts) >= _CACHED_MAX:
            self._accounts.clear()
        account = _Account(self._metrics.requests(record.route, record.model), self._metrics.model(record.model))
        self._accounts[record.route, record.model] = account
        return account
