"""The server's counters: ints in slots that accounts are kept in, read and formatted only when somebody scrapes.

Invariant: a scrape never shows more than `SERIES_MAX` samples, whatever clients send. A model that no
configuration names shares `other`; so does every series that comes when the room is used up. What was folded
into `other` once stays there, so counters never go back. Nothing here is shared between threads.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from open_autoglm import clock
from open_autoglm.telemetry import exposition, process
from open_autoglm.telemetry.metric_families import FAMILIES
from open_autoglm.telemetry.redact import cap, clean
from open_autoglm.telemetry.series import OTHER, EndpointSeries, Histogram, ModelSeries, RequestSeries

__all__ = ["EndpointSeries", "Metrics", "ModelSeries", "RequestSeries"]

SERIES_MAX = 2000
"""Samples of one scrape at most. Each costs the scraper memory for as long as it remembers."""

COUNTED_MAX = 1600
"""Samples of counters and histograms at most; the rest is left to gauges, whose series may come and go."""

_OBJECTS_MAX = 1000
"""Series objects kept at most, so that reloads that always bring new names cannot fill the memory."""

GAUGE_ROWS_MAX = 120
"""Samples that each gauge may have even when little room is left; a third of what counters leave."""

_LABEL_BYTES_MAX = 200
_REASONS_MAX = 64

Labels = tuple[str, ...]
Rows = Iterable[tuple[Labels, float]]
Answer = float | Mapping[str, float] | Mapping[tuple[str, str], float] | Mapping[tuple[str, str, str], float]
Gauge = Callable[[], Answer]

_log = logging.getLogger(__name__)


class Metrics:
    """All metrics of one process.

    Args:
        known_models: the model names of the active configuration; asked when a series is first wanted.

    Attributes:
        catch_up: called before a scrape; whoever counts in batches counts what it still has.
    """

    def __init__(self, known_models: Callable[[], Collection[str]]) -> None:
        self._known_models = known_models
        self._requests: dict[tuple[str, str], RequestSeries] = {}
        self._endpoints: dict[tuple[str, str], EndpointSeries] = {}
        self._models: dict[str, ModelSeries] = {}
        self._rejected: dict[str, int] = {}
        self._reloads: dict[str, int] = {}
        self._gauges: dict[str, Gauge] = {}
        self._admitted: dict[str, set[Labels]] = {}
        self._used = 0
        self.catch_up: Callable[[], None] = _nothing
        self.gauge("process_cpu_seconds_total", clock.cpu)
        self.gauge("process_resident_memory_bytes", process.resident_bytes)
        self.gauge("process_start_time_seconds", lambda: process.STARTED_WALL_S)

    # -- what accounts are kept in ---------------------------------------------------------------------------

    def requests(self, route: str, model: str) -> RequestSeries:
        """Return the series of a route and a model, to be kept by the caller.

        Args:
            route: the route's pattern; bounded by the caller.
            model: the name that the client sent, known or not; empty when it named none.
        """
        known = self._label_of(model)
        series = self._requests.get((route, known))
        if series is None:
            key = (route, known) if len(self._requests) < _OBJECTS_MAX else (OTHER, OTHER)
            series = self._requests.setdefault(key, RequestSeries(_label(key[0]), _label(key[1])))
        return series

    def endpoint(self, model: str, endpoint: str) -> EndpointSeries:
        """Return the series of a configured endpoint, to be kept by the caller."""
        series = self._endpoints.get((model, endpoint))
        if series is None:
            key = (model, endpoint) if len(self._endpoints) < _OBJECTS_MAX else (OTHER, OTHER)
            series = self._endpoints.setdefault(key, EndpointSeries(_label(key[0]), _label(key[1])))
        return series

    def model(self, model: str) -> ModelSeries:
        """Return the series of a model, to be kept by the caller; unknown names share one."""
        known = self._label_of(model)
        series = self._models.get(known)
        if series is None:
            key = known if len(self._models) < _OBJECTS_MAX else OTHER
            series = self._models.setdefault(key, ModelSeries(_label(key)))
        return series

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count requests turned away before any attempt; `reason` is a fixed word, as `rate` or `concurrency`."""
        _count(self._rejected, _label(reason), count)

    def config_reloaded(self, outcome: str) -> None:
        """Count a reload of the configuration; `outcome` is a fixed word, as `applied` or `refused`."""
        _count(self._reloads, _label(outcome))

    def gauge(self, name: str, callback: Gauge) -> None:
        """Have `callback` asked for a figure at each scrape; a second callback of one name replaces the first.

        Args:
            name: a gauge or counter of `FAMILIES`.
            callback: returns the figure, or one for each value of the family's label, or one for each tuple of
                its label values. Called on the event loop: it must be quick.

        Raises:
            KeyError: there is no such metric.
        """
        if FAMILIES[name].kind == "histogram":
            raise KeyError(name)
        self._gauges[name] = callback

    def _label_of(self, model: str) -> str:
        return model if not model or model in self._known_models() else OTHER

    # -- the scrape --------------------------------------------------------------------------------------------

    def render(self) -> bytes:
        """Return all metrics as Prometheus text (`exposition.CONTENT_TYPE`); about 2 ms for 2,000 samples."""
        self.catch_up()
        blocks = {
            "mcp_requests_total": self._counted_lines("mcp_requests_total", self._request_rows()),
            "mcp_attempts_total": self._counted_lines("mcp_attempts_total", self._attempt_rows()),
            "mcp_tokens_total": self._counted_lines("mcp_tokens_total", self._token_rows()),
            "mcp_rejected_total": self._counted_lines("mcp_rejected_total", _word_rows(self._rejected)),
            "mcp_config_reload_total": self._counted_lines("mcp_config_reload_total", _word_rows(self._reloads)),
            "mcp_request_seconds": self._timed_lines(
                "mcp_request_seconds", (((s.route, s.model), s.seconds) for s in self._requests.values())
            ),
            "mcp_first_token_seconds": self._timed_lines(
                "mcp_first_token_seconds", (((s.model,), s.first_token_seconds) for s in self._models.values())
            ),
        }
        room = SERIES_MAX - sum(map(len, blocks.values()))
        lines: list[str] = []
        for name, family in FAMILIES.items():
            block = blocks.get(name)
            if block is None:
                block = exposition.sample_lines(name, family.labels, _summed(self._gauge_rows(name)))
                block = block[: min(room, max(GAUGE_ROWS_MAX, room // 2))]
                room -= len(block)
            lines += exposition.head_lines(name, family)
            lines += block
        lines.append("")
        return "\n".join(lines).encode()

    def _request_rows(self) -> Rows:
        for series in self._requests.values():
            for (status, code), count in series.counts().items():
                yield (series.route, series.model, str(status), code), count

    def _attempt_rows(self) -> Rows:
        for series in self._endpoints.values():
            for outcome, count in series.counts.items():
                if count:
                    yield (series.model, series.endpoint, outcome), count

    def _token_rows(self) -> Rows:
        for series in self._models.values():
            if series.prompt_tokens or series.completion_tokens:
                yield (series.model, "prompt"), series.prompt_tokens
                yield (series.model, "completion"), series.completion_tokens

    def _gauge_rows(self, name: str) -> list[tuple[Labels, float]]:
        callback = self._gauges.get(name)
        if callback is None:
            return []
        try:
            return _answer_rows(callback(), len(FAMILIES[name].labels))
        except Exception:  # a broken gauge must not take the whole scrape with it
            _log.exception("metric %s could not be read and is left out of this scrape", name)
            return []

    def _counted_lines(self, name: str, rows: Rows) -> list[str]:
        labels = FAMILIES[name].labels
        other = (OTHER,) * len(labels)
        placed = ((key if self._admit(name, key, 1) else other, value) for key, value in rows)
        return exposition.sample_lines(name, labels, _summed(placed))

    def _timed_lines(self, name: str, rows: Iterable[tuple[Labels, Histogram]]) -> list[str]:
        labels = FAMILIES[name].labels
        other = (OTHER,) * len(labels)
        shown: dict[Labels, Histogram] = {}
        for key, histogram in rows:
            if any(histogram.buckets):
                place = key if self._admit(name, key, exposition.HISTOGRAM_LINES) else other
                shown.setdefault(place, Histogram()).add(histogram)
        return [
            line
            for key, total in shown.items()
            for line in exposition.histogram_lines(name, labels, key, total.buckets, total.sum_s)
        ]

    def _admit(self, name: str, key: Labels, lines: int) -> bool:
        """Whether a counted series may stand under its own name. What is used only grows, so the answer stays."""
        admitted = self._admitted.setdefault(name, set())
        if key in admitted:
            return True
        if self._used + lines > COUNTED_MAX:
            return False
        self._used += lines
        admitted.add(key)
        return True


def _nothing() -> None:
    """Nobody counts in batches."""


def _answer_rows(answer: Answer, width: int) -> list[tuple[Labels, float]]:
    """Turn what a gauge's callback returned into rows of `width` label values each."""
    rows: list[tuple[Labels, float]] = []
    for labels, value in answer.items() if isinstance(answer, Mapping) else [((), answer)]:
        key = (_label(labels),) if isinstance(labels, str) else tuple(map(_label, labels))
        if len(key) != width:
            raise ValueError(f"{width} label values are needed, the callback gave {key!r}")
        rows.append((key, value))
    return rows


def _summed(rows: Rows) -> dict[Labels, float]:
    sums: dict[Labels, float] = {}
    for key, value in rows:
        sums[key] = sums.get(key, 0) + value
    return sums


def _word_rows(counts: dict[str, int]) -> Rows:
    return [((word,), count) for word, count in counts.items()]


def _label(value: str) -> str:
    return cap(clean(value), _LABEL_BYTES_MAX)


def _count(counts: dict[str, int], word: str, count: int = 1) -> None:
    known = word if word in counts or len(counts) < _REASONS_MAX else OTHER
    counts[known] = counts.get(known, 0) + count
