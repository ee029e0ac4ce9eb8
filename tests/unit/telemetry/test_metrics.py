"""Metrics: what is counted is what a scrape shows, and a scrape is bounded. Read back with the reference parser."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from open_autoglm.telemetry.metric_families import FAMILIES
from open_autoglm.telemetry.metrics import SERIES_MAX, Metrics

Sample = tuple[str, dict[str, str], float]

NORMATIVE = {
    "mcp_requests_total": {"route", "model", "status", "code"},
    "mcp_request_seconds": {"route", "model"},
    "mcp_first_token_seconds": {"model"},
    "mcp_attempts_total": {"model", "endpoint", "outcome"},
    "mcp_in_flight": {"model"},
    "mcp_queue_depth": {"class"},
    "mcp_tokens_total": {"model", "kind"},
    "mcp_cost_total": {"model", "kind"},
    "mcp_breaker_state": {"model", "endpoint"},
    "mcp_rejected_total": {"reason"},
    "mcp_config_revision": set(),
    "mcp_config_reload_total": {"outcome"},
    "mcp_loop_lag_seconds": set(),
    "mcp_nodes": {"state"},
    "mcp_model_version_info": {"node", "model", "version"},
}


def samples(metrics: Metrics) -> list[Sample]:
    text = metrics.render().decode()
    return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = [v for n, have, v in samples(metrics) if n == name and have == labels]
    assert len(found) == 1, f"{name}{labels} has {len(found)} samples"
    return found[0]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: {"chat", "embed"})


@pytest.mark.parametrize("name", NORMATIVE)
def test_every_promised_metric_has_its_labels_and_is_announced(metrics: Metrics, name: str) -> None:
    assert set(FAMILIES[name].labels) == NORMATIVE[name]
    assert f"# TYPE {name} {FAMILIES[name].kind}\n" in metrics.render().decode()


def test_requests_are_counted_by_status_and_code(metrics: Metrics) -> None:
    series = metrics.requests("/v1/chat/completions", "chat")
    for status, code in [(200, ""), (200, ""), (200, "stream_interrupted"), (502, "upstream_error"), (204, "")]:
        series.done(status, code, 0.1)
    labels = {"route": "/v1/chat/completions", "model": "chat"}
    assert value(metrics, "mcp_requests_total", **labels, status="200", code="") == 2
    assert value(metrics, "mcp_requests_total", **labels, status="200", code="stream_interrupted") == 1
    assert value(metrics, "mcp_requests_total", **labels, status="502", code="upstream_error") == 1
    assert value(metrics, "mcp_request_seconds_count", **labels) == 5
    assert value(metrics, "mcp_request_seconds_sum", **labels) == pytest.approx(0.5)


@pytest.mark.parametrize(("seconds", "le", "below"), [(0.005, "0.005", 1), (0.0051, "0.005", 0), (1e6, "300.0", 0)])
def test_a_duration_falls_into_the_bucket_that_includes_it(
    metrics: Metrics, seconds: float, le: str, below: int
) -> None:
    metrics.model("chat").first_token(seconds)
    assert value(metrics, "mcp_first_token_seconds_bucket", model="chat", le=le) == below
    assert value(metrics, "mcp_first_token_seconds_bucket", model="chat", le="+Inf") == 1


def test_attempts_and_tokens(metrics: Metrics) -> None:
    metrics.endpoint("chat", "a").ended("ok")
    metrics.endpoint("chat", "a").ended("connect")
    model = metrics.model("chat")
    model.tokens(12, 40)
    model.tokens(-1, -1)
    assert value(metrics, "mcp_attempts_total", model="chat", endpoint="a", outcome="ok") == 1
    assert value(metrics, "mcp_attempts_total", model="chat", endpoint="a", outcome="connect") == 1
    assert value(metrics, "mcp_tokens_total", model="chat", kind="prompt") == 12
    assert value(metrics, "mcp_tokens_total", model="chat", kind="completion") == 40


def test_words_that_are_not_ours_share_one_label(metrics: Metrics) -> None:
    metrics.requests("/r", "chat").done(200, "made up", 0.1)
    metrics.requests("/r", "chat").done(99_999, "not_found", 0.1)
    metrics.endpoint("chat", "a").ended("exploded")
    assert value(metrics, "mcp_requests_total", route="/r", model="chat", status="200", code="other") == 1
    assert value(metrics, "mcp_requests_total", route="/r", model="chat", status="0", code="not_found") == 1
    assert value(metrics, "mcp_attempts_total", model="chat", endpoint="a", outcome="other") == 1


def test_unknown_models_share_one_series() -> None:
    known = {"chat"}
    metrics = Metrics(lambda: known)
    for n in range(5000):
        metrics.requests("/r", f"random-{n}").done(404, "model_not_found", 0.001)
    assert value(metrics, "mcp_requests_total", route="/r", model="other", status="404", code="model_not_found") == 5000
    known.add("random-7")
    metrics.requests("/r", "random-7").done(200, "", 0.1)
    assert value(metrics, "mcp_requests_total", route="/r", model="random-7", status="200", code="") == 1


def test_a_request_without_a_model_is_not_an_unknown_model(metrics: Metrics) -> None:
    metrics.requests("/v1/models", "").done(200, "", 0.001)
    assert value(metrics, "mcp_requests_total", route="/v1/models", model="", status="200", code="") == 1


def growing(metrics: Metrics, models: list[str]) -> Iterator[None]:
    """Use more and more configured models in every way, far beyond what a scrape may show."""
    for model in models:
        for status, code in [(200, ""), (429, "rate_limit_exceeded"), (502, "upstream_error")]:
            metrics.requests("/v1/chat/completions", model).done(status, code, 0.3)
        metrics.endpoint(model, f"{model}-a").ended("ok")
        metrics.model(model).tokens(3, 4)
        metrics.model(model).first_token(0.2)
        yield


def test_a_scrape_is_bounded_counts_everything_and_never_goes_back() -> None:
    models = [f"model-{n}" for n in range(1500)]
    metrics = Metrics(lambda: models)
    metrics.gauge("mcp_breaker_state", lambda: {(model, "a"): 0 for model in models})
    metrics.gauge("mcp_in_flight", lambda: dict.fromkeys(models, 1))
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for step, _ in enumerate(growing(metrics, models)):
        if step % 50 and step != len(models) - 1:
            continue
        rows = samples(metrics)
        assert len(rows) <= SERIES_MAX
        now = {(name, tuple(sorted(labels.items()))): figure for name, labels, figure in rows}
        counted = {
            key for key in before if key[0].startswith("mcp_") and key[0].endswith(("_total", "_count", "_bucket"))
        }
        assert all(now[key] >= before[key] for key in counted)
        before = now
    rows = samples(metrics)
    assert sum(v for name, _, v in rows if name == "mcp_requests_total") == 3 * len(models)
    assert sum(v for name, _, v in rows if name == "mcp_request_seconds_count") == 3 * len(models)
    assert sum(v for name, _, v in rows if name == "mcp_attempts_total") == len(models)
    assert sum(v for name, _, v in rows if name == "mcp_tokens_total") == 7 * len(models)
    assert any(name == "mcp_breaker_state" for name, _, _ in rows), "gauges keep room of their own"


def test_labels_are_escaped_and_cleaned() -> None:
    strange = 'say "hi"\\\n\x1b[31m'
    metrics = Metrics(lambda: [strange])
    metrics.requests("/r", strange).done(200, "", 0.1)
    shown = [labels["model"] for name, labels, _ in samples(metrics) if name == "mcp_requests_total"]
    assert shown == ['say "hi"\\\\x0a\\x1b[31m']


def test_two_names_that_look_the_same_when_cleaned_are_added_up() -> None:
    names = ["sk-firstsecret", "sk-secondsecret"]
    metrics = Metrics(lambda: names)
    for name in names:
        metrics.requests("/r", name).done(200, "", 0.1)
    assert value(metrics, "mcp_requests_total", route="/r", model="sk-***", status="200", code="") == 2


def test_gauges_are_asked_at_each_scrape(metrics: Metrics) -> None:
    figures = {"revision": 1.0}
    metrics.gauge("mcp_config_revision", lambda: figures["revision"])
    metrics.gauge("mcp_connections", lambda: {"client": 3})
    metrics.gauge("mcp_breaker_state", lambda: {("chat", "a"): 2})
    assert value(metrics, "mcp_config_revision") == 1
    figures["revision"] = 2.0
    assert value(metrics, "mcp_config_revision") == 2
    assert value(metrics, "mcp_connections", side="client") == 3
    assert value(metrics, "mcp_breaker_state", model="chat", endpoint="a") == 2


def test_a_broken_gauge_costs_only_itself(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    metrics.gauge("mcp_config_revision", lambda: 1 / 0)
    metrics.gauge("mcp_breaker_state", lambda: {"chat": 1.0})
    metrics.gauge("mcp_loop_lag_seconds", lambda: 0.25)
    assert value(metrics, "mcp_loop_lag_seconds") == 0.25
    assert not [row for row in samples(metrics) if row[0] in ("mcp_config_revision", "mcp_breaker_state")]
    assert "mcp_config_revision could not be read" in caplog.text
    assert "mcp_breaker_state could not be read" in caplog.text


@pytest.mark.parametrize("name", ["mcp_made_up", "mcp_request_seconds"])
def test_a_gauge_must_be_one_of_the_table(metrics: Metrics, name: str) -> None:
    with pytest.raises(KeyError, match=name):
        metrics.gauge(name, lambda: 1.0)


def test_rejections_and_reloads(metrics: Metrics) -> None:
    metrics.rejected("rate")
    metrics.config_reloaded("refused")
    for n in range(1000):
        metrics.rejected(f"reason-{n}")
    assert value(metrics, "mcp_rejected_total", reason="rate") == 1
    assert value(metrics, "mcp_config_reload_total", outcome="refused") == 1
    reasons = [labels for name, labels, _ in samples(metrics) if name == "mcp_rejected_total"]
    assert len(reasons) <= 65


def test_the_process_is_described(metrics: Metrics) -> None:
    assert value(metrics, "process_resident_memory_bytes") > 1_000_000
    assert value(metrics, "process_cpu_seconds_total") > 0
    assert value(metrics, "process_start_time_seconds") > 1_600_000_000
