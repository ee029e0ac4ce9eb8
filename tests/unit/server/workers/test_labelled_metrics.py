"""The metrics of several workers on one page, read back with Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from open_autoglm.server.workers.labelled_metrics import join_metrics
from open_autoglm.telemetry.metrics import Metrics


def test_every_sample_of_every_worker_is_there_once() -> None:
    pages = {}
    for worker in range(3):
        metrics = Metrics(lambda: ["chat"])
        series = metrics.requests("/v1/chat/completions", "chat")
        for _ in range(worker + 1):
            series.done(200, "", 0.1)
        metrics.gauge("mcp_config_revision", lambda worker=worker: worker)
        pages[worker] = metrics.render()
    page = join_metrics(pages).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    counted = {sample.labels["worker"]: sample.value for sample in families["mcp_requests"].samples}
    assert counted == {"0": 1, "1": 2, "2": 3}
    assert {s.labels["worker"]: s.value for s in families["mcp_config_revision"].samples} == {"0": 0, "1": 1, "2": 2}
    alone = sum(len(page.decode().splitlines()) for page in pages.values())
    comments = sum(line.startswith("# ") for line in page.splitlines())
    assert len(page.splitlines()) == alone - 2 * comments
    assert page.endswith("\n")


def test_values_that_hold_braces_and_blanks_stay_whole() -> None:
    page = b'# HELP a A.\n# TYPE a counter\na{x="{ } \\" 1"} 2\na 3\n'
    told = join_metrics({4: page}).decode().splitlines()
    assert told[2:] == ['a{worker="4",x="{ } \\" 1"} 2', 'a{worker="4"} 3']
