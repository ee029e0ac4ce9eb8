"""A secret in any field of anything that is written down appears nowhere."""

import json
from collections.abc import Callable

import pytest

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.telemetry.explain import draw, explain, summarize
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_line import LineBuilder

CANARIES = [
    "mcp_" + "0123456789abcdef" * 4 + "zz",
    "sk-canary-0123456789abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnkiOjF9.Y2FuYXJ5",
    "Bearer quiet-little-canary",
]

_record = RequestRecord("", 0.0, 0)
TEXTS = [name for name in dir(_record) if name[0] != "_" and isinstance(getattr(_record, name), str)]
_attempt = AttemptRecord("", "", 0, "", 0.0)
ATTEMPT_TEXTS = [name for name in dir(_attempt) if name[0] != "_" and isinstance(getattr(_attempt, name), str)]


def traces(canary: str, shown: str) -> bool:
    """Whether the canary, or what stands behind its prefix, can be read in `shown`."""
    return canary in shown or canary.split(" ")[-1][8:] in shown


def test_the_fields_are_those_that_hold_text() -> None:
    assert {"request_id", "model", "message", "key", "finish_reason"} <= set(TEXTS)
    assert {"endpoint", "reason", "outcome", "detail", "group"} <= set(ATTEMPT_TEXTS)


@pytest.mark.parametrize("canary", CANARIES, ids=["mcp", "sk", "jwt", "bearer"])
@pytest.mark.parametrize("field", [*TEXTS, *[f"attempt.{name}" for name in ATTEMPT_TEXTS]])
def test_no_field_of_a_record_leaks(
    canary: str,
    field: str,
    make_record: Callable[..., RequestRecord],
    attempt_record: Callable[..., AttemptRecord],
) -> None:
    hidden = f"before {canary} after"
    name = field.removeprefix("attempt.")
    failed = {"status": 502, "code": "upstream_error"}
    if field.startswith("attempt."):
        attempts = [attempt_record(outcome="failed"), attempt_record(**{"outcome": "failed", name: hidden})]
        record = make_record(**failed, attempts=attempts)
    else:
        record = make_record(**{**failed, name: hidden})
    told = explain(record, {"chat": [hidden]})
    shown = [
        LineBuilder(as_json=True).build([record]).decode(),
        LineBuilder(as_json=False).build([record]).decode(),
        json.dumps(told),
        json.dumps(summarize(record)),
        draw({**summarize(record), "attempts": [{"endpoint": hidden}]}, 200),
    ]
    assert [traces(canary, text) for text in shown] == [False] * 5
    assert any("***" in text for text in shown)


@pytest.mark.parametrize("canary", CANARIES, ids=["mcp", "sk", "jwt", "bearer"])
def test_no_label_leaks(canary: str) -> None:
    metrics = Metrics(lambda: {canary})
    metrics.requests(canary, canary).done(200, canary, 0.1)
    metrics.endpoint(canary, canary).ended(canary)
    model = metrics.model(canary)
    model.tokens(1, 1)
    model.first_token(0.1)
    metrics.rejected(canary)
    metrics.config_reloaded(canary)
    metrics.gauge("mcp_breaker_state", lambda: {(canary, canary): 1})
    metrics.gauge("mcp_nodes", lambda: {canary: 1})
    shown = metrics.render().decode()
    assert not traces(canary, shown)
    assert shown.count("***") >= 10
