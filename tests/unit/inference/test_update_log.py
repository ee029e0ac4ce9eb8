"""What the log says of a model's steps: with model, version and reason, so that it can be searched by them."""

from __future__ import annotations

import json
import logging

import pytest

from open_autoglm.inference.publisher import UpdateEvent, log_event
from open_autoglm.telemetry.logs import json_line


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (UpdateEvent("sums", "a" * 64, "published"), "INFO"),
        (UpdateEvent("sums", "b" * 64, "refused", "golden", "it answers otherwise"), "WARNING"),
    ],
)
def test_a_step_is_logged_with_its_model_version_and_reason(
    event: UpdateEvent, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_event(event)
    line = json.loads(json_line(caplog.records[-1]))
    assert line["level"] == level
    assert line["fields"] == {
        "model": event.model,
        "version": event.version,
        "step": event.step,
        "reason": event.reason,
    }
