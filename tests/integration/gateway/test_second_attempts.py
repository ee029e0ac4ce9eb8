"""A second attempt beside a slow first one, and streams whose upstream fails after the finish reason."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from tests.integration.gateway.test_failover import COST, cheap_first, text_of
from tests.integration.running import RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import DONE, TEXT, delta, finish, speak
from tests.integration.upstreams import Behaviour, Station, Upstream, never, pieces, status

SOON = {"first_token_hedge": "200ms"}
both = pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])


def explained(server: RunningServer, answer: Any) -> list[dict[str, Any]]:
    story = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
    attempts: list[dict[str, Any]] = story["attempts"]
    return attempts


def let_go_when_seen(server: RunningServer, slow: Station, second: Station, stream: bool) -> httpx2.Response:
    """Ask a station that holds its answer back until a second one was asked, and had time to answer."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.chat, slow.name, stream)
        second.wait_seen(1)
        time.sleep(0.3)
        slow.let_go()
        return asked.result()


@both
def test_silence_is_answered_by_another_endpoint(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    silent, good = upstream.station("silent").always(never), upstream.station("good")
    server.apply(*cheap_first(silent.name, silent.url, good.url), routing=COST, timeouts=SOON)
    answer = server.chat(silent.name, stream)
    assert text_of(answer, stream) == TEXT
    assert answer.headers["x-mcp-attempts"] == "2"
    first, second = explained(server, answer)
    assert (first["outcome"], second["outcome"]) == ("cancelled", "ok")
    assert "beside a slow" in second["reason"]
    silent.wait_gone()


@both
def test_a_fallback_may_be_the_second(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    silent, backup = upstream.station("silent").always(never), upstream.station("backup")
    server.apply(
        model(silent.name, silent.url),
        model(backup.name, backup.url),
        routing={"fallbacks": {silent.name: [backup.name]}},
        timeouts=SOON,
    )
    answer = server.chat(silent.name, stream)
    assert text_of(answer, stream) == TEXT
    assert answer.headers["x-mcp-model"] == backup.name


@both
def test_the_first_wins_where_it_is_faster_after_all(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    slow, silent = upstream.station("slow"), upstream.station("silent").always(never)
    slow.always(slow.held(speak))
    server.apply(*cheap_first(slow.name, slow.url, silent.url), routing=COST, timeouts=SOON)
    answer = let_go_when_seen(server, slow, silent, stream)
    assert text_of(answer, stream) == TEXT
    assert [attempt["outcome"] for attempt in explained(server, answer)] == ["ok", "cancelled"]
    silent.wait_gone()


@both
def test_the_first_goes_on_where_the_second_fails(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    slow, bad = upstream.station("slow"), upstream.station("bad").always(status(503))
    slow.always(slow.held(speak))
    server.apply(*cheap_first(slow.name, slow.url, bad.url), routing=COST, timeouts=SOON)
    answer = let_go_when_seen(server, slow, bad, stream)
    assert text_of(answer, stream) == TEXT
    assert [attempt["outcome"] for attempt in explained(server, answer)] == ["ok", "unavailable"]


def test_the_winners_usage_is_counted(server: RunningServer, upstream: Upstream) -> None:
    silent, good = upstream.station("silent").always(never), upstream.station("good")
    server.apply(*cheap_first(silent.name, silent.url, good.url), routing=COST, timeouts=SOON)
    answer = server.chat(silent.name)
    story = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
    told = {name: answer.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    assert story["usage"] == told | {"estimated": False}


def test_a_client_may_forbid_a_second_attempt(server: RunningServer, upstream: Upstream) -> None:
    silent, good = upstream.station("silent").always(never), upstream.station("good")
    server.apply(*cheap_first(silent.name, silent.url, good.url), routing=COST, timeouts=SOON)
    message = {"type": "INFER_REQUEST", "payload": {"model": silent.name, "prompt": "hi"}, "meta": {"retry": False}}
    answer = server.ask(message, "/mcp/v1/messages", **{"x-request-timeout-ms": "900"})
    assert answer.status_code == 504
    assert good.seen == []


def test_hedges_that_were_asked_for_start_at_the_models_own_pace(server: RunningServer, upstream: Upstream) -> None:
    first, second = upstream.station("first"), upstream.station("second")
    server.apply(
        *cheap_first(first.name, first.url, second.url), routing=COST, hedging={"enabled": True, "max_ratio": 0.1}
    )
    for _ in range(30):
        assert text_of(server.chat(first.name), False) == TEXT
    first.always(never)
    answer = server.chat(first.name)
    assert text_of(answer, False) == TEXT
    assert explained(server, answer)[-1]["at_ms"] < 5000.0


AFTER_THE_FINISH: dict[str, Behaviour] = {
    "reset": pieces(delta(TEXT), finish(), end="reset"),
    "cut": pieces(delta(TEXT), finish(), end="cut"),
    "silence": pieces(delta(TEXT), finish(), end="stall"),
    "garbage": pieces(delta(TEXT), finish(), b"data: {nonsense\n\n"),
    "reset after DONE": pieces(delta(TEXT), finish(), DONE, end="reset"),
}


@pytest.mark.parametrize("fault", AFTER_THE_FINISH)
def test_an_answer_with_its_finish_reason_is_whole(server: RunningServer, upstream: Upstream, fault: str) -> None:
    station = upstream.station().always(AFTER_THE_FINISH[fault])
    server.apply(model(station.name, station.url), timeouts={"gap": "300ms"})
    answer = server.ask(chat_body(station.name, stream=True))
    found = events(answer)
    assert streamed_text(found) == TEXT
    assert found.count("[DONE]") == 1
    assert found[-1] == "[DONE]"
    assert [attempt["outcome"] for attempt in explained(server, answer)] == ["ok"]
