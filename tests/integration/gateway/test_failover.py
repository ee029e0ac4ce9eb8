"""What happens before the first content of an answer: other endpoints, fallbacks, retries, breakers, deadlines."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.integration.running import RunningServer, events, model, streamed_text
from tests.integration.speech import DONE, TEXT, event, speak
from tests.integration.upstreams import Behaviour, Upstream, closed_url, never, pieces, raw, reset, status, whole

UNARY: dict[str, tuple[Behaviour, str]] = {
    "RST before the head": (reset, "connect"),
    "close before the head": (raw(b""), "connect"),
    "500": (status(500), "failed"),
    "502": (status(502), "unavailable"),
    "503": (status(503), "unavailable"),
    "529": (status(529), "unavailable"),
    "503 in HTML": (whole(b"<html>down</html>", 503, "text/html"), "unavailable"),
    "429": (status(429, retry_after="30"), "throttled"),
    "429 without a time": (status(429), "throttled"),
    "401": (status(401), "misconfigured"),
    "404 of the model": (status(404, "The model `x` does not exist"), "unknown_model"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "malformed"),
    "garbage 200": (whole(b"\x00\xffgarbage"), "malformed"),
    "HTML 200": (whole(b"<html><body>welcome</body></html>", 200, "text/html"), "malformed"),
    "JSON 200 that is no answer": (whole(b'{"status":"ok"}'), "malformed"),
    "empty 200": (whole(b""), "malformed"),
    "cut body": (raw(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"choices":'), "malformed"),
    "error in a 200": (whole(b'{"error":{"message":"the server is overloaded"}}'), "unavailable"),
    "302": (whole(b"", 302, location="http://169.254.169.254/"), "malformed"),
}
STREAMED: dict[str, tuple[Behaviour, str]] = {
    **UNARY,
    "empty stream": (pieces(), "malformed"),
    "only DONE": (pieces(DONE), "malformed"),
    "only a role, then cut": (
        pieces(event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}), end="cut"),
        "",
    ),
    "error event before content": (pieces(event({"error": {"message": "overloaded", "code": 503}})), "unavailable"),
    "broken JSON first": (pieces(b"data: {nonsense\n\n"), "malformed"),
    "HTML in a stream": (pieces(b"<html></html>", kind="text/html"), "malformed"),
}
CASES = [pytest.param(False, name, id=name) for name in UNARY] + [
    pytest.param(True, name, id=f"{name}, streamed") for name in STREAMED
]


def text_of(answer: Any, stream: bool) -> str:
    """The text of an answer that must be whole."""
    assert answer.status_code == 200, answer.text
    if not stream:
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said
    found = events(answer)
    assert found[-1] == "[DONE]"
    return streamed_text(found)


def cheap_first(name: str, *endpoints: str, **more: Any) -> list[dict[str, Any]]:
    """Entries of one group that the strategy `cost` tries in this order."""
    return [
        model(name, endpoint, price={"input_per_million": number + 1}, **more)
        for number, endpoint in enumerate(endpoints)
    ]


COST = {"strategy": "cost"}


@pytest.mark.parametrize(("stream", "fault"), CASES)
def test_another_endpoint_takes_over(server: RunningServer, upstream: Upstream, stream: bool, fault: str) -> None:
    behaviour, outcome = (STREAMED if stream else UNARY)[fault]
    bad, good = upstream.station("bad").always(behaviour), upstream.station("good")
    server.apply(*cheap_first(bad.name, bad.url, good.url), routing=COST)
    answer = server.chat(bad.name, stream)
    assert text_of(answer, stream) == TEXT
    assert answer.headers["x-mcp-attempts"] == "2"
    assert answer.headers["x-mcp-model"] == bad.name
    assert (len(bad.seen), len(good.seen)) == (1, 1)
    assert [one.headers["x-mcp-attempt"] for one in (*bad.seen, *good.seen)] == ["0", "1"]
    story = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
    outcomes = [attempt["outcome"] for attempt in story["attempts"]]
    assert outcomes == [outcome or "malformed", "ok"]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
def test_nobody_listens(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    good = upstream.station()
    server.apply(*cheap_first(good.name, closed_url(), good.url), routing=COST)
    answer = server.chat(good.name, stream)
    assert text_of(answer, stream) == TEXT
    assert answer.headers["x-mcp-attempts"] == "2"


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
def test_fallback_chains_are_gone_through_in_order(server: RunningServer, upstream: Upstream, stream: bool) -> None:
    first, second, third = (upstream.station(name) for name in ("first", "second", "third"))
    first.always(status(503))
    second.always(status(503))
    server.apply(
        model(first.name, first.url, max_retries=0),
        model(second.name, second.url, max_retries=1),
        model(third.name, third.generate_url),
        routing={"fallbacks": {first.name: [second.name, third.name]}},
    )
    answer = server.chat(first.name, stream)
    assert text_of(answer, stream) == TEXT
    assert [len(one.seen) for one in (first, second, third)] == [1, 2, 1]
    assert answer.headers["x-mcp-model"] == third.name
    assert second.seen[0].json["model"] == second.name


def test_a_fallback_of_another_dialect_takes_what_the_first_cannot_express(
    server: RunningServer, upstream: Upstream
) -> None:
    plain, able = upstream.station("plain"), upstream.station("able")
    server.apply(
        model(plain.name, plain.generate_url),
        model(able.name, able.url),
        routing={"fallbacks": {plain.name: [able.name]}},
    )
    answer = server.chat(plain.name, logprobs=True)
    assert text_of(answer, False) == TEXT
    assert answer.headers["x-mcp-model"] == able.name
    assert (len(plain.seen), len(able.seen)) == (0, 1)


def test_a_fallback_with_a_larger_context_takes_what_is_too_long(server: RunningServer, upstream: Upstream) -> None:
    small, same, large = (upstream.station(name) for name in ("small", "same", "large"))
    refusal = b'{"error":{"message":"maximum context length is 10","code":"context_length_exceeded"}}'
    small.always(whole(refusal, 400))
    server.apply(
        model(small.name, small.url, context_window=1000),
        model(same.name, same.url, context_window=1000),
        model(large.name, large.url, context_window=9000),
        routing={"fallbacks": {small.name: [same.name, large.name]}},
    )
    assert text_of(server.chat(small.name), False) == TEXT
    assert [len(one.seen) for one in (small, same, large)] == [1, 0, 1]


@pytest.mark.parametrize(("fault", "retries", "attempts"), [(503, 3, 4), (503, 0, 1), (500, 3, 2), (400, 3, 1)])
def test_max_retries(server: RunningServer, upstream: Upstream, fault: int, retries: int, attempts: int) -> None:
    station = upstream.station().always(status(fault))
    server.apply(model(station.name, station.url, max_retries=retries))
    answer = server.chat(station.name)
    assert answer.status_code == (400 if fault == 400 else 502)
    assert len(station.seen) == attempts
    assert answer.headers["x-mcp-attempts"] == str(attempts)


def test_an_endpoint_is_used_again_after_backoff(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().then(status(503), status(503), reset)
    server.apply(model(station.name, station.url, max_retries=3))
    assert text_of(server.chat(station.name), False) == TEXT
    assert len(station.seen) == 4


def test_one_429_with_a_time_is_waited_for(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().then(status(429, retry_after="1"))
    server.apply(model(station.name, station.url))
    assert text_of(server.chat(station.name), False) == TEXT
    assert station.seen[1].arrived_s - station.seen[0].arrived_s >= 0.95


def test_endless_429_falls_back(server: RunningServer, upstream: Upstream) -> None:
    busy, backup = upstream.station("busy").always(status(429, retry_after="1")), upstream.station("backup")
    server.apply(
        model(busy.name, busy.url), model(backup.name, backup.url), routing={"fallbacks": {busy.name: [backup.name]}}
    )
    for _ in range(3):
        assert text_of(server.chat(busy.name), False) == TEXT
    assert len(busy.seen) <= 4


def test_a_429_reaches_the_client_with_its_time(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(status(429, retry_after="17"))
    server.apply(model(station.name, station.url))
    answer = server.chat(station.name)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "17"
    assert len(station.seen) == 1


def test_a_pooled_connection_that_was_closed_is_replaced_unseen(server: RunningServer, upstream: Upstream) -> None:
    async def close_after(wire: Any) -> None:
        await speak(wire)
        wire.seen.headers["closing"] = "yes"

    async def closed_meanwhile(wire: Any) -> None:
        wire.reset()

    station = upstream.station().then(close_after, closed_meanwhile)
    server.apply(model(station.name, station.url, max_retries=0))
    assert text_of(server.chat(station.name), False) == TEXT
    answer = server.chat(station.name)
    assert text_of(answer, False) == TEXT
    assert [one.connection for one in station.seen[:2]] == [station.seen[0].connection] * 2
    assert station.seen[2].connection != station.seen[1].connection


class TestBreaker:
    def test_classic(self, server: RunningServer, upstream: Upstream) -> None:
        station = upstream.station().always(status(503))
        server.apply(
            model(station.name, station.url, max_retries=0),
            breaker={"profile": "classic", "failures": 3, "open": "700ms"},
        )
        for _ in range(3):
            assert server.chat(station.name).status_code == 502
        opened_s = time.monotonic()
        refused = [server.chat(station.name) for _ in range(10)]
        codes = [answer.json()["error"]["code"] for answer in refused if answer.status_code == 503]
        assert codes == ["no_healthy_endpoint"] * len(codes)
        assert len(station.seen) <= 4, "one trial at most while it is open"
        assert all("retry-after" in answer.headers for answer in refused if answer.status_code == 503)
        station.always(speak)
        time.sleep(max(0.0, opened_s + 0.8 - time.monotonic()))
        assert text_of(server.chat(station.name), False) == TEXT
        assert [text_of(server.chat(station.name), False) for _ in range(5)] == [TEXT] * 5

    def test_adaptive(self, server: RunningServer, upstream: Upstream) -> None:
        bad, good = upstream.station("bad").always(status(503)), upstream.station("good")
        server.apply(*cheap_first(bad.name, bad.url, good.url), routing=COST, breaker={"profile": "adaptive"})
        for _ in range(5):
            assert text_of(server.chat(bad.name), False) == TEXT
        answers = [server.chat(bad.name) for _ in range(20)]
        assert [text_of(answer, False) for answer in answers] == [TEXT] * 20
        assert len(bad.seen) == 5, "five failures in a row open it"
        assert answers[-1].headers["x-mcp-attempts"] == "1"
        assert f'mcp_breaker_state{{model="{bad.name}",endpoint="{bad.url}"}} 2' in server.admin_get("/metrics")


class TestDeadline:
    @pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
    def test_the_client_says_how_long(self, server: RunningServer, upstream: Upstream, stream: bool) -> None:
        station = upstream.station().always(never)
        server.apply(model(station.name, station.url))
        begun_s = time.monotonic()
        answer = server.ask(
            {"model": station.name, "messages": [{"role": "user", "content": "x"}], "stream": stream},
            x_request_timeout_ms="400",
        )
        took_s = time.monotonic() - begun_s
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert 0.3 <= took_s < 5.0
        assert int(station.seen[0].headers["x-request-timeout-ms"]) <= 400
        station.wait_gone()
        assert all(one.gone_s for one in station.seen)

    def test_a_silent_endpoint_leaves_time_for_another(self, server: RunningServer, upstream: Upstream) -> None:
        silent, good = upstream.station("silent").always(never), upstream.station("good")
        server.apply(*cheap_first(silent.name, silent.url, good.url), routing=COST)
        body = {"model": silent.name, "messages": [{"role": "user", "content": "x"}]}
        answer = server.ask(body, x_request_timeout_ms="1000")
        assert text_of(answer, False) == TEXT
        assert silent.wait_gone() > silent.seen[0].arrived_s

    def test_no_first_token(self, server: RunningServer, upstream: Upstream) -> None:
        silent, good = upstream.station("silent").always(never), upstream.station("good")
        server.apply(*cheap_first(silent.name, silent.url, good.url, timeouts={"first_token": "300ms"}), routing=COST)
        assert text_of(server.chat(silent.name, stream=True), True) == TEXT
        assert (len(silent.seen), len(good.seen)) == (1, 1)

    @pytest.mark.parametrize("value", ["0", "-5", "soon", "1e3", "99999999999"])
    def test_nonsense_is_refused(self, server: RunningServer, upstream: Upstream, value: str) -> None:
        station = upstream.station()
        server.apply(model(station.name, station.url))
        answer = server.ask({"model": station.name, "messages": []}, x_request_timeout_ms=value)
        assert answer.status_code == 400
        assert station.seen == []


def test_the_share_of_retries_follows_a_reload(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()

    def retried() -> int:
        """How many of 30 failing requests are tried again, each after a request that succeeds."""
        count = 0
        for _ in range(30):
            assert server.chat(station.name).status_code == 200
            station.then(status(503))
            count += server.chat(station.name).headers["x-mcp-attempts"] == "2"
            station.script.clear()
        return count

    entry = model(station.name, station.url, max_retries=1)
    quiet = {"profile": "classic", "failures": 1000}
    server.apply(entry, breaker=quiet, retries={"budget_ratio": 0.0})
    assert retried() == 19, "25 tokens, and none below six"
    server.apply(entry, breaker=quiet, retries={"budget_ratio": 1.0})
    for _ in range(10):
        server.chat(station.name)
    assert retried() == 30
