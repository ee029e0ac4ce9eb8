"""Answers without end: cut where the configuration or the request says how long they may be.

A limit is asked after a block of the socket was read, so an answer may be longer than its limit by one block.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.running import RunningServer, events, model, streamed_text
from tests.integration.speech import DONE, delta, dumps, event, finish
from tests.integration.upstreams import Behaviour, Upstream, Wire

_WORDS = "again and again "
_BLOCK_BYTES = 256 * 1024


def endless(text: str) -> Behaviour:
    """Say the same for ever, until the reader leaves."""

    async def behave(wire: Wire) -> None:
        await wire.start_stream()
        data = event({"text": text}) if wire.seen.path.endswith("/generate") else delta(text)
        while not wire.seen.gone_s:
            await wire.chunk(data * 50)

    return behave


@pytest.mark.parametrize("kind", ["openai", "generate"])
@pytest.mark.parametrize("limit", ["bytes", "tokens", "context"])
def test_an_endless_stream_ends_with_length(server: RunningServer, upstream: Upstream, kind: str, limit: str) -> None:
    station = upstream.station("endless").always(endless(_WORDS))
    url = station.url if kind == "openai" else station.generate_url
    more: dict[str, Any] = {"context_window": 100} if limit == "context" else {}
    limits = {"stream_bytes": "200KiB" if limit == "bytes" else "256MiB"}
    server.apply(model(station.name, url, **more), limits={"requests_per_second": 0, **limits})
    asked = {"max_tokens": 100} if limit == "tokens" else {}
    usage = {"stream_options": {"include_usage": True}}
    answer = server.chat(station.name, stream=True, **asked, **usage)
    *_, cut, last, done = events(answer)
    assert cut["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["estimated"] is True
    assert done == "[DONE]"
    text = streamed_text(events(answer))
    # No event is shorter than this one.
    chars_max = {"bytes": 200 * 1024 * len(_WORDS) // len(event({"text": _WORDS}))}.get(limit, 100 * 32 + 1024)
    block_chars = _BLOCK_BYTES * len(_WORDS) // len(event({"text": _WORDS}))
    assert 1_000 < len(text) <= chars_max + block_chars
    station.wait_gone()
    story = server.admin_get(f"/admin/v1/requests/{answer.headers['x-request-id']}/explain")
    assert story["attempts"][0]["outcome"] == "ok"
    assert "exceeds" in story["attempts"][0]["detail"]
    assert story["finish_reason"] == "length"


def test_a_stream_that_only_talks_after_its_finish_is_whole(server: RunningServer, upstream: Upstream) -> None:
    async def behave(wire: Wire) -> None:
        await wire.start_stream()
        await wire.chunk(delta("whole") + finish())
        while not wire.seen.gone_s:
            await wire.chunk(b": still here\n\n" * 1000)

    station = upstream.station("talkative").always(behave)
    server.apply(model(station.name, station.url), limits={"requests_per_second": 0, "stream_bytes": "100KiB"})
    found = events(server.chat(station.name, stream=True))
    assert (streamed_text(found), found[-1]) == ("whole", "[DONE]")
    station.wait_gone()


def test_an_endless_beginning_is_no_answer(server: RunningServer, upstream: Upstream) -> None:
    async def behave(wire: Wire) -> None:
        await wire.start_stream()
        while not wire.seen.gone_s:
            await wire.chunk(b": not yet\n\n" * 1000)

    bad, good = upstream.station("mute").always(behave), upstream.station("good")
    server.apply(
        model(bad.name, bad.url, max_retries=0),
        model(good.name, good.url),
        routing={"fallbacks": {bad.name: [good.name]}},
        limits={"requests_per_second": 0, "stream_bytes": "100KiB"},
    )
    answer = server.chat(bad.name, stream=True)
    assert answer.headers["x-mcp-model"] == good.name
    assert answer.content.endswith(DONE)
    bad.wait_gone()


def test_a_body_that_is_too_large_is_no_answer(server: RunningServer, upstream: Upstream) -> None:
    async def behave(wire: Wire) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 300_000}, "finish_reason": "stop"}
        await wire.respond(dumps({"id": "1", "choices": [choice]}))

    bad, good = upstream.station("huge").always(behave), upstream.station("good")
    server.apply(
        model(bad.name, bad.url, max_retries=0),
        model(good.name, good.url),
        routing={"fallbacks": {bad.name: [good.name]}},
        limits={"requests_per_second": 0, "response_bytes": "100KiB"},
    )
    answer = server.chat(bad.name)
    assert (answer.status_code, answer.headers["x-mcp-model"]) == (200, good.name)


@pytest.mark.parametrize("most", [0, -1])
def test_no_tokens_at_all_are_refused_for_generate(server: RunningServer, upstream: Upstream, most: int) -> None:
    station = upstream.station("generate")
    server.apply(model(station.name, station.generate_url))
    for stream in (False, True):
        answer = server.chat(station.name, stream, max_tokens=most)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", "max_tokens")
        assert str(most) in error["message"]
    assert station.seen == []
