"""Records of requests, as the request path leaves them."""

from collections.abc import Callable

import pytest

from open_autoglm.exchange.record import AttemptRecord, RequestRecord

MakeRecord = Callable[..., RequestRecord]


def make(**changes: object) -> RequestRecord:
    """Return the record of a successful request of 2.15 ms, with some of its fields changed."""
    record = RequestRecord("/v1/chat/completions", 100.0, 1)
    fields: dict[str, object] = {
        "request_id": "req-0123456789abcdef00000001",
        "trace_id": "0123456789abcdef0123456789abcdef",
        "model": "chat",
        "served_by": "chat",
        "key": "default",
        "client": "127.0.0.1",
        "received_wall_s": 1_000_000_000.125,
        "admitted_s": 100.0001,
        "read_s": 100.0002,
        "first_s": 100.0021,
        "ended_s": 100.00215,
        "status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 40,
        "bytes_in": 446,
        "bytes_out": 629,
        "attempts": [make_attempt()],
        **changes,
    }
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def make_attempt(**changes: object) -> AttemptRecord:
    """Return the record of a successful attempt, with some of its fields changed."""
    attempt = AttemptRecord("local:8001", "chat", 0, "least_connections of 2", 100.0003)
    fields: dict[str, object] = {
        "sent_s": 100.0004,
        "head_s": 100.0019,
        "first_s": 100.002,
        "ended_s": 100.0021,
        "status": 200,
        "outcome": "ok",
        **changes,
    }
    for name, value in fields.items():
        setattr(attempt, name, value)
    return attempt


@pytest.fixture
def make_record() -> MakeRecord:
    return make


@pytest.fixture
def attempt_record() -> Callable[..., AttemptRecord]:
    return make_attempt
