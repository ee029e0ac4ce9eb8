"""Streams that break and go on at another endpoint: the client sees one answer, exact to the character."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import openai
import pytest
from tests.integration.gateway.raw_client import RawClient
from tests.integration.running import KEY, RunningServer, chat_body, events, model, streamed_text
from tests.integration.speech import DONE, delta, dumps, event, finish
from tests.integration.upstreams import Behaviour, Station, Upstream, Wire

SEEDS = 200
WORDS = (
    "the",
    "of",
    "answer",
    "again",
    "1,024",
    '"said"',
    "\\back",
    "naïve",
    "groß",
    "привет",
    "你好",
    "世界",
    "🙂",
    "\n",
)
# Every first attempt fails here, which no breaker and no budget is made for.
PATIENT = {
    "stream_failure": "continue",
    "retries": {"max": 2, "budget_ratio": 1},
    "breaker": {"failures": 1000, "min_calls": 10000},
    "outliers": {"enabled": False},
    "throttling": {"enabled": False},
}


def tokens_of(seed: int) -> list[str]:
    """The tokens of an answer."""
    rng = random.Random(seed)
    words = [rng.choice(WORDS) for _ in range(40)]
    return [words[0], *(f" {word}" for word in words[1:])]


def given_to(body: dict[str, Any]) -> str | None:
    """The beginning of the answer that a request carries."""
    if "prompt" in body:
        return str(body["prompt"]).partition("|")[2] or None
    last = body["messages"][-1]
    return str(last["content"]) if last["role"] == "assistant" else None


def piece(wire: Wire, text: str, **more: Any) -> bytes:
    """One event of a stream on whatever route."""
    if wire.seen.path.endswith("/chat/completions"):
        return delta(text, **more)
    if wire.seen.path.endswith("/generate"):
        return event({"text": text})
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    return event({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})


async def end_well(wire: Wire) -> None:
    """Finish a stream on whatever route."""
    usage = {"prompt_tokens": 50, "completion_tokens": 4, "total_tokens": 54}
    if wire.seen.path.endswith("/chat/completions"):
        await wire.chunk(finish())
        await wire.chunk(event({"id": "z", "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    elif not wire.seen.path.endswith("/generate"):
        await wire.chunk(event({"id": "z", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}))
    await wire.chunk(DONE)
    await wire.end_stream()


def breaking(seed_of: Callable[[dict[str, Any]], int]) -> Behaviour:
    """Break at a random token in a random way; go on exactly with what is given, or after having said it again."""

    async def behave(wire: Wire) -> None:
        body = wire.seen.json
        seed = seed_of(body)
        rng = random.Random(seed)
        tokens = tokens_of(seed)
        given = given_to(body)
        await wire.start_stream()
        if given is not None:
            text = "".join(tokens)
            assert text.startswith(given), (given, text)
            again = rng.choice(("", "", given)) if len(given) >= 4 else ""
            rest = again + text[len(given) :]
            for at in range(0, len(rest), 5):
                await wire.chunk(piece(wire, rest[at : at + 5]))
            await end_well(wire)
            return
        for token in tokens[: rng.randrange(1, len(tokens))]:
            await wire.chunk(piece(wire, token))
        match rng.randrange(4):
            case 0:
                wire.close()
            case 1:
                await asyncio.sleep(0.005)
                wire.reset()
            case 2:
                await wire.chunk(piece(wire, "🙂 lost")[: rng.randrange(1, 18)])
                wire.close()
            case _:
                await wire.chunk(event({"error": {"message": "the engine died"}}))
                await wire.end_stream()

    return behave


def seed_in_question(body: dict[str, Any]) -> int:
    """The seed, which the question consists of."""
    question = str(body["prompt"]) if "prompt" in body else str(body["messages"][0]["content"])
    return int(question.partition("|")[0])


def two_stations(upstream: Upstream, name: str, behave: Behaviour) -> tuple[Station, Station]:
    return upstream.station(name).always(behave), upstream.station(name).always(behave)


def test_cut_anywhere_the_text_is_exact(server: RunningServer, upstream: Upstream) -> None:
    first, second = two_stations(upstream, "exact", breaking(seed_in_question))
    server.apply(
        model("exact", first.url, upstream_model="m", continuation="prefill"),
        model("exact", second.url, upstream_model="m", continuation="vllm"),
        **PATIENT,
    )
    went_on = 0
    for seed in range(SEEDS):
        body = {"model": "exact", "messages": [{"role": "user", "content": str(seed)}], "stream": True}
        found = events(server.ask(body))
        assert found[-1] == "[DONE]", (seed, found[-1])
        assert streamed_text(found) == "".join(tokens_of(seed)), seed
        assert len({one["id"] for one in found[:-1]}) == 1
        failover = found[-2]["x_mcp_failover"]
        went_on += sorted((failover["from"], failover["to"])) == ["exact#1", "exact#2"]
        assert "".join(tokens_of(seed))[: failover["at_char"]], seed
    assert went_on == SEEDS
    assert len(first.seen) + len(second.seen) == 2 * SEEDS
    for seen in second.seen:
        if given_to(seen.json) is not None:
            assert (seen.json["continue_final_message"], seen.json["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_plain_prompts_go_on_without_a_word(server: RunningServer, upstream: Upstream, path: str) -> None:
    first, second = two_stations(upstream, "plain", breaking(seed_in_question))
    urls = [first.url, second.url] if path == "completions" else [first.generate_url, second.generate_url]
    server.apply(*(model("plain", url, upstream_model="m") for url in urls), **PATIENT)
    for seed in range(20):
        messages = [{"role": "user", "content": f"{seed}|"}]
        question = {"prompt": f"{seed}|"} if path == "completions" else {"messages": messages}
        found = events(server.ask({"model": "plain", "stream": True} | question, f"/v1/{path}"))
        assert found[-1] == "[DONE]", (seed, found[-1])
        chunks = [choice for one in found[:-1] for choice in one["choices"]]
        text = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in chunks)
        assert text == "".join(tokens_of(seed)), seed


def test_usage_and_record_tell_of_both(server: RunningServer, upstream: Upstream) -> None:
    first, second = two_stations(upstream, "usage", breaking(seed_in_question))
    server.apply(
        *(model("usage", one.url, upstream_model="m", continuation="prefill") for one in (first, second)), **PATIENT
    )
    options = {"stream_options": {"include_usage": True}, "max_tokens": 100}
    body = {"model": "usage", "messages": [{"role": "user", "content": "3"}], "stream": True, **options}
    answer = server.ask(body)
    *_, last, done = events(answer)
    assert done == "[DONE]"
    assert last["usage"]["estimated"] is True
    assert last["usage"]["completion_tokens"] > 4
    asked = [seen.json for seen in (*first.seen, *second.seen)]
    assert sorted(one["max_tokens"] for one in asked)[1] == 100
    assert sorted(one["max_tokens"] for one in asked)[0] < 100
    story = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
    assert [attempt["outcome"] for attempt in story["attempts"]] == ["interrupted", "ok"]
    told = {name: last["usage"][name] for name in ("prompt_tokens", "completion_tokens", "estimated")}
    assert story["usage"] == told


def refuses(wire: Wire) -> Any:
    message = "the last message must be the user's: this model does not support assistant message prefill"
    return wire.respond(dumps({"error": {"message": message, "code": "bad_prefill"}}), 400)


@pytest.mark.parametrize("kind", ["refuses", "begins anew with thinking", "none"])
def test_an_endpoint_that_does_not_go_on_is_never_shown(server: RunningServer, upstream: Upstream, kind: str) -> None:
    async def behave(wire: Wire) -> None:
        if given_to(wire.seen.json) is None:
            await wire.start_stream()
            await wire.chunk(delta("half") + delta(" an"))
            wire.close()
        elif kind == "refuses":
            await refuses(wire)
        else:
            await wire.start_stream()
            thought = {"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}
            await wire.chunk(event({"id": "1", "choices": [thought]}))
            await wire.chunk(delta("Something else") + finish() + DONE)
            await wire.end_stream()

    first, second = two_stations(upstream, "stubborn", behave)
    more = {} if kind == "none" else {"continuation": "prefill"}
    server.apply(*(model("stubborn", one.url, upstream_model="m", **more) for one in (first, second)), **PATIENT)
    with RawClient(server) as client:
        client.send(chat_body("stubborn", stream=True))
        *chunks, last = client.broken_events()
    assert streamed_text(chunks) == "half an"
    error = last["error"]
    assert (error["code"], error["delivered_chars"], error["retryable"]) == ("stream_interrupted", 7, True)
    assert "prefill" not in json.dumps(last)
    assert ([s.json for s in (*first.seen, *second.seen) if given_to(s.json)] == []) is (kind == "none")


def test_another_model_does_not_go_on(server: RunningServer, upstream: Upstream) -> None:
    broken = upstream.station().always(breaking(seed_in_question))
    other = upstream.station()
    server.apply(
        model(broken.name, broken.url, upstream_model="m", continuation="none"),
        model(broken.name, other.url, upstream_model="m-2", continuation="prefill", weight=0.000001),
        model(other.name, other.url),
        routing={"strategy": "weighted", "fallbacks": {broken.name: [other.name]}},
        **PATIENT,
    )
    with RawClient(server) as client:
        client.send({"model": broken.name, "messages": [{"role": "user", "content": "5"}], "stream": True})
        *_, last = client.broken_events()
    assert last["error"]["code"] == "stream_interrupted"
    assert other.seen == []


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}])
def test_what_is_not_plain_text_is_cut(server: RunningServer, upstream: Upstream, fields: dict[str, Any]) -> None:
    first, second = two_stations(upstream, "plain-only", breaking(seed_in_question))
    server.apply(
        *(model("plain-only", one.url, upstream_model="m", continuation="prefill") for one in (first, second)),
        **PATIENT,
    )
    with RawClient(server) as client:
        question = {"messages": [{"role": "user", "content": "7"}]}
        client.send({"model": "plain-only", "stream": True, **question, **fields})
        *_, last = client.broken_events()
    assert last["error"]["code"] == "stream_interrupted"
    assert len(first.seen) + len(second.seen) == 1


def test_without_the_key_a_stream_ends(server: RunningServer, upstream: Upstream) -> None:
    first, second = two_stations(upstream, "default", breaking(seed_in_question))
    patient = {**PATIENT, "stream_failure": "terminate"}
    for per_model in (False, True):
        more: dict[str, Any] = {"stream_failure": "terminate"} if per_model else {}
        server.apply(
            *(model("default", one.url, upstream_model="m", continuation="vllm", **more) for one in (first, second)),
            **(PATIENT if per_model else patient),
        )
        with RawClient(server) as client:
            client.send({"model": "default", "messages": [{"role": "user", "content": "9"}], "stream": True})
            *_, last = client.broken_events()
        assert last["error"]["code"] == "stream_interrupted"
    assert len(first.seen) + len(second.seen) == 2


def test_the_sdk_of_openai_takes_it(server: RunningServer, upstream: Upstream) -> None:
    first, second = two_stations(upstream, "sdk", breaking(seed_in_question))
    server.apply(
        *(model("sdk", one.url, upstream_model="m", continuation="prefill") for one in (first, second)), **PATIENT
    )
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="sdk",
                messages=[{"role": "user", "content": "11"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == "".join(tokens_of(11))
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["x_mcp_failover"]["at_char"] > 0


def test_messages_of_our_own_go_on(server: RunningServer, upstream: Upstream) -> None:
    first, second = two_stations(upstream, "ours", breaking(seed_in_question))
    server.apply(
        *(model("ours", one.url, upstream_model="m", continuation="prefill") for one in (first, second)), **PATIENT
    )
    message = {"type": "INFER_REQUEST", "payload": {"model": "ours", "prompt": "13"}}
    *chunks, last = events(server.ask(message, "/mcp/v1/messages", accept="text/event-stream"))
    assert "".join(chunk["payload"]["text"] for chunk in chunks) == last["payload"]["text"] == "".join(tokens_of(13))
    assert last["payload"]["x_mcp_failover"]["at_char"] > 0
