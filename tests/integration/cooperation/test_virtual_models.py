"""A virtual model through a whole server: its answers in every dialect, its members' failures, its limits."""

from __future__ import annotations

import json
import time
from math import exp, log
from typing import Any

import httpx2
import openai
import pytest
from tests.integration.cooperation.members import DEAD, Cast, broken, say, silence
from tests.integration.running import KEY, RunningServer, chat_body, events, model, streamed_text
from tests.integration.upstreams import Upstream, wait_until

from open_autoglm.client import AsyncClient

MESSAGE = {"mcp_version": "1.0", "type": "INFER_REQUEST", "trace_id": "t-1"}
EQUAL = {"weighting": "equal", "early_exit": "none"}


def message(**payload: Any) -> dict[str, Any]:
    return {**MESSAGE, "payload": {"model_hint": "team", "data_chunk": "hello", **payload}}


def told(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The typed events of a stream."""
    found = []
    for block in text.split("\n\n"):
        name, _, data = block.partition("\n")
        if name.startswith("event: mcp."):
            found.append((name.removeprefix("event: mcp."), json.loads(data.removeprefix("data: "))))
    return found


def until_cut(server: RunningServer, body: dict[str, Any]) -> str:
    """What comes of a stream that is cut."""
    pieces: list[str] = []
    try:
        with server.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            for piece in answer.iter_text():
                pieces.append(piece)  # noqa: PERF402 - what came before the cut counts
    except httpx2.RemoteProtocolError:
        return "".join(pieces)
    raise AssertionError("the stream was not cut")


def test_the_majority_answers_in_every_dialect(server: RunningServer, upstream: Upstream) -> None:
    Cast(server, upstream, say("41"), say("42"), say("42")).apply(team=EQUAL)
    answer = server.chat("team")
    assert answer.headers["x-mcp-model"] == "team"
    body = answer.json()
    assert body["model"] == "team"
    assert body["choices"][0]["message"]["content"] == "42"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert {name: body["usage"][name] for name in ("prompt_tokens", "completion_tokens")} == {
        "prompt_tokens": 21,
        "completion_tokens": 9,
    }
    assert body["usage"]["cost"] == pytest.approx(3 * (7 * 1000 + 3 * 2000) / 1e6)
    streamed = server.chat("team", stream=True, stream_options={"include_usage": True})
    assert streamed_text(events(streamed)) == "42"
    assert events(streamed)[-1] == "[DONE]"
    assert events(streamed)[-2]["usage"]["completion_tokens"] == 9
    completion = server.ask({"model": "team", "prompt": "hello"}, "/v1/completions").json()
    assert completion["choices"][0]["text"] == "42"
    reply = server.ask(message(), "/mcp/v1/messages").json()
    assert (reply["type"], reply["payload"]["text"], reply["payload"]["model"]) == ("INFER_RESPONSE", "42", "team")
    pieces = events(server.ask(message(), "/mcp/v1/messages", accept="text/event-stream"))
    assert [piece["type"] for piece in pieces] == ["INFER_CHUNK", "INFER_RESPONSE"]
    assert pieces[-1]["payload"]["text"] == "42"


async def test_the_framed_client_and_the_openai_sdk(server: RunningServer, upstream: Upstream) -> None:
    Cast(server, upstream, say("42"), say("41"), say("42")).apply(team=EQUAL)
    async with AsyncClient(server.url, KEY) as client:
        answer = await client.infer("team", "hello")
        assert (answer.text, answer.model) == ("42", "team")
        assert (await client.stream("team", "hello").whole()).text == "42"
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as sdk:
        ask: Any = {"model": "team", "messages": [{"role": "user", "content": "hello"}]}
        whole = await sdk.chat.completions.create(**ask)
        assert whole.choices[0].message.content == "42"
        assert "team" in [listed.id async for listed in sdk.models.list()]
        stream = await sdk.chat.completions.create(**ask, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "42"


def test_the_shipped_models_as_a_team(server: RunningServer) -> None:
    names = ("glm-calc-m", "glm-calc-s", "glm-nano")
    models = [model(name, f"embedded:{name}") for name in names]
    server.apply(*models, cooperation={"team": {"strategy": "dynamic_voting", "members": list(names), **EQUAL}})
    body = chat_body("team", temperature=0) | {"messages": [{"role": "user", "content": "What is 274 + 658?"}]}
    assert server.ask(body).json()["choices"][0]["message"]["content"] == "932"
    assert streamed_text(events(server.ask(body | {"stream": True}))) == "932"


@pytest.mark.parametrize("strategy", ["self_consistency", "ahead_by_k", "best_of_n", "mixture", "hedged", "cascade"])
def test_every_strategy_answers(server: RunningServer, upstream: Upstream, strategy: str) -> None:
    Cast(server, upstream, say("42"), say("42"), say("42")).apply(team={"strategy": strategy})
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"


def test_typed_events_are_told_as_they_happen(server: RunningServer, upstream: Upstream) -> None:
    Cast(server, upstream, say("42"), say("42"), broken()).apply(team=EQUAL)
    by_header = server.ask(chat_body("team", stream=True), x_mcp_events="true").text
    by_field = server.ask(chat_body("team", stream=True, mcp_events=True)).text
    for text in (by_header, by_field):
        kinds = [kind for kind, _ in told(text)]
        assert kinds[:3] == ["asked"] * 3
        assert kinds.count("candidate") == 3
        assert kinds[-1] == "decided"
        [failed] = [data for kind, data in told(text) if kind == "candidate" and data.get("failure")]
        assert failed["member"] == "c"
        assert text.endswith("data: [DONE]\n\n")
        assert text.index("mcp.decided") < text.index('"content":"42"')
    pieces = events(server.ask(message(mcp_events=True), "/mcp/v1/messages", accept="text/event-stream"))
    assert [piece["type"] for piece in pieces][-3:] == ["INFER_EVENT", "INFER_CHUNK", "INFER_RESPONSE"]
    assert pieces[0]["payload"]["kind"] == "asked"
    assert "mcp." not in server.chat("team", stream=True).text, "nobody asked for them"
    assert "mcp_events" not in server.chat("team", mcp_events=True).text


def test_slow_dead_and_wrong_members_neither_hold_up_nor_spoil_an_answer(
    server: RunningServer, upstream: Upstream
) -> None:
    cast = Cast(server, upstream, say("42"), silence, say("41"), say("42"), say("42"))
    cast.apply(model("dead", DEAD), team={"members": [*"abcde", "dead"], "timeout": "20s", "weighting": "equal"})
    begun_s = time.monotonic()
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"
    assert time.monotonic() - begun_s < 10.0, "three of five that can still answer have decided"
    cast[1].wait_gone()


def test_at_its_timeout_a_team_answers_by_what_is_there(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), silence, silence)
    cast.apply(team={"timeout": "300ms"})
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"
    cast[1].wait_gone()
    cast[2].wait_gone()
    assert 'mcp_team_runs_total{model="team",reason="deadline"}' in server.admin_get("/metrics")


def test_the_clients_own_time_is_the_members_too(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), silence, silence)
    cast.apply(team={"timeout": "60s"})
    answer = server.ask(chat_body("team"), x_request_timeout_ms="600")
    assert answer.json()["choices"][0]["message"]["content"] == "42"
    assert int(cast[1].wait_seen()[0].headers["x-request-timeout-ms"]) <= 600 + 250


def test_a_client_that_leaves_ends_everything(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, silence, silence, silence)
    cast.apply(team={"timeout": "60s"})
    for stream in (False, True):
        before = cast.seen
        with pytest.raises(httpx2.ReadTimeout):
            server.http.post("/v1/chat/completions", json=chat_body("team", stream), timeout=0.5)
        for station, count in zip(cast.stations, before, strict=True):
            station.wait_seen(count + 1)
            station.wait_gone(count)
    wait_until(lambda: server.admin_get("/admin/v1/status")["in_flight"] == 0, "nothing is left in flight")


def test_without_an_answer_the_fallback_answers(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, broken(), broken(), say(""), say("alone"))
    cast.apply(team={"members": ["a", "b", "c"], "fallback": "d"})
    answer = server.chat("team")
    assert answer.json()["choices"][0]["message"]["content"] == "alone"
    assert (answer.headers["x-mcp-model"], answer.headers["x-mcp-attempts"]) == ("d", "2")
    live = server.ask(chat_body("team", stream=True), x_mcp_events="true").text
    assert '"content":"alone"' in live, "whoever hears events gets it as well"
    assert live.endswith("data: [DONE]\n\n")


def test_without_an_answer_or_a_fallback_the_client_hears_why(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, broken(), say("42", reason="length"))
    cast.apply()
    answer = server.chat("team")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_quorum")
    cast.apply(team={"budget": {"tokens": 100}})
    before = cast.seen
    answer = server.chat("team")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert cast.seen == before, "nobody was asked"


def test_a_stream_of_events_without_an_answer_ends_with_an_error(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, broken(), broken(), broken())
    for fallback in ({}, {"fallback": "c"}):
        cast.apply(team={"members": ["a", "b"], **fallback})
        text = until_cut(server, chat_body("team", stream=True, mcp_events=True))
        assert told(text)[-1][0] == "decided"
        assert '"code":"stream_interrupted"' in text
        assert "[DONE]" not in text


def test_a_quorum_that_is_not_reached_is_no_answer(server: RunningServer, upstream: Upstream) -> None:
    Cast(server, upstream, say("42"), broken(), broken()).apply(team={"quorum": 2})
    answer = server.chat("team")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_quorum")


def test_what_one_model_alone_can_do_goes_to_the_fallback(server: RunningServer, upstream: Upstream) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    cast = Cast(server, upstream, say("team"), say("team"), say("alone"))
    cast.apply(team={"members": ["a", "b"], "fallback": "c"})
    assert server.chat("team", tools=tools).json()["choices"][0]["message"]["content"] == "alone"
    cast.apply(team={"members": ["a", "b"]})
    answer = server.chat("team", tools=tools)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
    assert cast.seen[:2] == [0, 0]


def test_members_are_asked_as_the_client_asked(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), say("42"))
    cast.apply(team={"early_exit": "none"})
    server.chat("team", temperature=0.3, max_tokens=9, stop=["\n"], seed=4, top_p=0.5)
    for station in cast.stations:
        [seen] = station.seen
        asked = seen.json
        assert asked["messages"] == chat_body()["messages"]
        assert (asked["temperature"], asked["max_tokens"], asked["stop"], asked["seed"], asked["top_p"]) == (
            0.3, 9, ["\n"], 4, 0.5
        )  # fmt: skip


def test_confidence_comes_from_log_probabilities_where_they_are_wanted(
    server: RunningServer, upstream: Upstream
) -> None:
    scores = {"content": [{"token": "4", "logprob": log(0.5)}, {"token": "2", "logprob": log(0.9)}]}
    cast = Cast(server, upstream, say("42", logprobs=scores))
    cast.apply(team={"logprobs": True})
    text = server.ask(chat_body("team", stream=True), x_mcp_events="true").text
    [candidate] = [data for kind, data in told(text) if kind == "candidate"]
    assert candidate["confidence"] == pytest.approx((0.5 + exp(log(0.9))) / 2)
    assert cast[0].seen[0].json["logprobs"] is True


def test_member_calls_are_requests_of_their_own_with_the_same_trace(server: RunningServer, upstream: Upstream) -> None:
    Cast(server, upstream, say("42"), say("42")).apply(team={"early_exit": "none"})
    trace = "0af7651916cd43dd8448eb211c80319c"
    server.ask(chat_body("team"), traceparent=f"00-{trace}-b7ad6b7169203331-01")
    rows = [row for row in server.admin_get("/admin/v1/requests")["requests"] if row["trace_id"] == trace]
    assert sorted(row["model"] for row in rows) == ["a", "b", "team"]
    assert {row["route"] for row in rows} == {"member", "/v1/chat/completions"}
    metrics = server.admin_get("/metrics")
    assert 'mcp_team_asks_total{model="team",member="a",outcome="vote"}' in metrics
    assert 'mcp_requests_total{route="member",model="a",status="200",code=""}' in metrics


def test_a_key_for_the_team_alone_may_have_its_members_asked(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), say("42"))
    keys = [{"name": "one", "key": KEY, "models": ["team"]}]
    cast.apply(auth={"api_keys": keys})
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"
    assert server.chat("a").status_code == 404
    assert [listed["id"] for listed in server.http.get("/v1/models").json()["data"]] == ["team"]


def test_a_team_of_teams(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, say("42"), say("42"), say("41"))
    inner = {"strategy": "dynamic_voting", "members": ["a", "b"], **EQUAL}
    outer = {"strategy": "dynamic_voting", "members": ["inner", "c", "a"], **EQUAL}
    cast.apply(cooperation={"inner": inner, "team": outer})
    body = server.chat("team").json()
    assert body["choices"][0]["message"]["content"] == "42"
    assert body["usage"]["prompt_tokens"] == 4 * 7
    assert body["usage"]["cost"] == pytest.approx(4 * (7 * 1000 + 3 * 2000) / 1e6)


def test_a_virtual_model_is_asked_again_as_soon_as_its_members_are_back(
    server: RunningServer, upstream: Upstream
) -> None:
    cast = Cast(server, upstream, broken(), broken())
    cast.apply(breaker={"profile": "classic", "failures": 3, "open": "1ms"})
    for _ in range(6):
        until_cut(server, chat_body("team", stream=True, mcp_events=True))
    rows = {row["name"]: row["breaker"] for row in server.admin_get("/admin/v1/models")["models"]}
    assert rows["team"] == "closed"
    for station in cast.stations:
        station.always(say("42"))
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "42"


def test_a_server_whose_members_are_all_away_is_not_ready(server: RunningServer, upstream: Upstream) -> None:
    cast = Cast(server, upstream, broken(), broken())
    cast.apply(breaker={"profile": "classic", "failures": 1, "open": "60s"}, health={"enabled": False})
    assert server.http.get("/readyz").status_code == 200
    assert server.chat("team").status_code == 502, "what all members say is what the client hears"
    assert server.http.get("/readyz").status_code == 503
