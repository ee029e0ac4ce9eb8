"""Explanations: stages without gaps, and the store behind them."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.telemetry.explain import ExplainStore, RequestFilter, explain, summarize

MakeRecord = Callable[..., RequestRecord]
MakeAttempt = Callable[..., AttemptRecord]


def test_a_success_is_cut_into_its_stages(make_record: MakeRecord) -> None:
    told = explain(make_record(), {"chat": ["local:8001", "local:8002"], "unrelated": ["x"]})
    assert told["stages"] == [
        {"name": "admit", "at_ms": 0.0, "ms": pytest.approx(0.1)},
        {"name": "read", "at_ms": pytest.approx(0.1), "ms": pytest.approx(0.1)},
        {"name": "route", "at_ms": pytest.approx(0.2), "ms": pytest.approx(0.1)},
        {"name": "upstream", "at_ms": pytest.approx(0.3), "ms": pytest.approx(1.8)},
        {"name": "answer", "at_ms": pytest.approx(2.1), "ms": pytest.approx(0.05)},
    ]
    assert told["candidates"] == [
        {"group": "chat", "endpoint": "local:8001", "tried": True},
        {"group": "chat", "endpoint": "local:8002", "tried": False},
    ]
    assert told["attempts"] == [
        {
            "number": 0,
            "group": "chat",
            "endpoint": "local:8001",
            "reason": "least_connections of 2",
            "outcome": "ok",
            "status": 200,
            "detail": "",
            "reused": False,
            "at_ms": pytest.approx(0.3),
            "ms": pytest.approx(1.8),
            "send_ms": pytest.approx(0.1),
            "head_ms": pytest.approx(1.6),
            "first_ms": pytest.approx(1.7),
        }
    ]
    assert told["usage"] == {"prompt_tokens": 12, "completion_tokens": 40, "estimated": False}
    assert told["received_at"] == "2001-09-09T01:46:40.125Z"


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"admitted_s": 0.0, "read_s": 0.0, "first_s": 0.0, "attempts": []}, ["admit"]),
        ({"read_s": 0.0, "first_s": 0.0, "attempts": []}, ["admit", "read"]),
        ({"first_s": 0.0, "attempts": []}, ["admit", "read", "route"]),
        ({"first_s": 0.0}, ["admit", "read", "route", "upstream"]),
        ({"attempts": []}, ["admit", "read", "upstream", "answer"]),
    ],
)
def test_a_request_that_ends_early_ends_in_the_stage_it_was_in(
    make_record: MakeRecord, changes: dict[str, object], stages: list[str]
) -> None:
    told = explain(make_record(**changes))
    assert [stage["name"] for stage in told["stages"]] == stages
    assert sum(stage["ms"] for stage in told["stages"]) == pytest.approx(told["total_ms"])


def test_who_waited_and_who_was_turned_away_is_told(make_record: MakeRecord) -> None:
    told = explain(make_record(queue_position=3, queued_s=0.25, rejected="shed_in_queue", attempts=[]))
    assert (told["rejected"], told["queue"]) == ("shed_in_queue", {"position": 3, "ms": 250.0})
    told = explain(make_record())
    assert (told["rejected"], told["queue"]) == ("", None)


def test_what_was_not_told_is_null(make_record: MakeRecord) -> None:
    told = summarize(make_record(first_s=0.0, prompt_tokens=-1, completion_tokens=-1))
    assert told["first_byte_ms"] is None
    assert told["usage"] == {"prompt_tokens": None, "completion_tokens": None, "estimated": False}


def test_every_attempt_is_told_with_its_fallback(make_record: MakeRecord, attempt_record: MakeAttempt) -> None:
    attempts = [
        attempt_record(outcome="connect", head_s=0.0, first_s=0.0, status=0),
        attempt_record(number=1, group="spare", endpoint="b", reason="fallback of chat", reused=True),
    ]
    told = explain(make_record(attempts=attempts, served_by="spare"), {"chat": ["local:8001"], "spare": ["b", "c"]})
    assert [(c["group"], c["endpoint"], c["tried"]) for c in told["candidates"]] == [
        ("chat", "local:8001", True),
        ("spare", "b", True),
        ("spare", "c", False),
    ]
    assert told["attempts"][0]["head_ms"] is None
    assert told["attempts"][1]["reused"] is True
    assert told["attempt_count"] == 2


TIME_S = st.just(0.0) | st.floats(99.0, 200.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixtures are functions without state
@given(st.tuples(TIME_S, TIME_S, TIME_S, TIME_S, TIME_S))
def test_stages_follow_each_other_and_add_up(
    make_record: MakeRecord, attempt_record: MakeAttempt, times: tuple[float, ...]
) -> None:
    admitted_s, read_s, started_s, first_s, ended_s = times
    attempts = [attempt_record(started_s=started_s)] if started_s else []
    record = make_record(
        admitted_s=admitted_s, read_s=read_s, first_s=first_s, ended_s=max(ended_s, 100.0), attempts=attempts
    )
    told = explain(record)
    at_ms = 0.0
    for stage in told["stages"]:
        assert stage["at_ms"] == pytest.approx(at_ms, abs=0.01)
        at_ms += stage["ms"]
    assert at_ms == pytest.approx(told["total_ms"], abs=0.01)
    assert len({stage["name"] for stage in told["stages"]}) == len(told["stages"])


def test_the_store_keeps_the_newest(make_record: MakeRecord) -> None:
    store = ExplainStore(3)
    for n in range(5):
        store.put(make_record(request_id=f"r{n}"))
    assert len(store) == 3
    assert store.get("r1") is None
    assert store.get("r2") is not None
    assert [record.request_id for record in store.newest(2)] == ["r4", "r3"]


def test_the_newest_of_two_with_one_id_is_found(make_record: MakeRecord) -> None:
    store = ExplainStore(3)
    store.put(make_record(request_id="same", status=500))
    store.put(make_record(request_id="same", status=200))
    found = store.get("same")
    assert found is not None
    assert found.status == 200


def test_a_store_of_none_keeps_none(make_record: MakeRecord) -> None:
    store = ExplainStore(0)
    store.put(make_record())
    assert store.newest(10) == []


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (RequestFilter(), ["d", "c", "b", "a"]),
        (RequestFilter(model="chat"), ["c", "b", "a"]),
        (RequestFilter(model="spare"), ["b"]),
        (RequestFilter(status=502), ["c"]),
        (RequestFilter(code=""), ["d", "b"]),
        (RequestFilter(failed=True), ["c", "a"]),
        (RequestFilter(failed=False), ["d", "b"]),
        (RequestFilter(key="ops"), ["d"]),
        (RequestFilter(endpoint="local:8001"), ["c", "b", "a"]),
        (RequestFilter(model="chat", failed=False), ["b"]),
    ],
)
def test_filters(make_record: MakeRecord, where: RequestFilter, found: list[str]) -> None:
    store = ExplainStore(10)
    store.put(make_record(request_id="a", code="stream_interrupted"))
    store.put(make_record(request_id="b", served_by="spare"))
    store.put(make_record(request_id="c", status=502, code="upstream_error"))
    store.put(make_record(request_id="d", model="embed", served_by="embed", key="ops", attempts=[]))
    assert [record.request_id for record in store.newest(10, where)] == found
