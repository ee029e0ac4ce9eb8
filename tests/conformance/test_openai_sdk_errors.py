"""Every class of error that the `openai` SDK knows, as its users meet it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import openai
import pytest
from tests.conformance.matrix import ASKING
from tests.integration.running import KEY, RunningServer, model
from tests.integration.speech import delta, speak
from tests.integration.upstreams import Behaviour, Upstream, closed_url, never, pieces, status, wait_until

MakeSdk = Callable[..., openai.OpenAI]


@pytest.fixture
def make_sdk(server: RunningServer, request: pytest.FixtureRequest) -> MakeSdk:
    """Makes a client that is closed after the test."""

    def make(key: str = KEY, retries: int = 0, **more: Any) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=retries, **more)
        request.addfinalizer(client.close)
        return client

    return make


def ask(client: openai.OpenAI, name: str = "chat", **more: Any) -> Any:
    return client.chat.completions.create(model=name, messages=ASKING, **more)  # type: ignore[call-overload]


def keys(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"api_keys": [{"name": "own", "key": KEY}, *entries]}


def test_authentication(server: RunningServer, upstream: Upstream, make_sdk: MakeSdk) -> None:
    station = upstream.station()
    server.apply(model("chat", station.url))
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(make_sdk("wrong"))
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "authentication_error"
    assert "wrong" not in caught.value.message
    assert station.seen == []


def test_an_unknown_model_is_answered_with_the_names_of_this_key(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk
) -> None:
    station = upstream.station()
    server.apply(
        model("chat", station.url),
        model("secret-plan", station.url),
        auth=keys({"name": "guest", "key": "guest-key", "models": ["chat"]}),
    )
    with pytest.raises(openai.NotFoundError) as caught:
        ask(make_sdk(), "gpt-none")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "chat, secret-plan" in caught.value.message
    guest = make_sdk("guest-key")
    with pytest.raises(openai.NotFoundError) as caught:
        ask(guest, "secret-plan")
    assert "may use: chat" in caught.value.message
    assert "secret-plan" not in caught.value.message.replace("no model 'secret-plan'", "")
    assert [one.id for one in guest.models.list()] == ["chat"]
    with pytest.raises(openai.NotFoundError):
        guest.models.retrieve("secret-plan")
    assert ask(guest).choices
    assert len(station.seen) == 1


def test_rate_limit(server: RunningServer, upstream: Upstream, make_sdk: MakeSdk) -> None:
    slow = {"requests_per_second": 0.01, "burst": 1}
    server.apply(model("chat", upstream.station().url), auth=keys({"name": "once", "key": "once-key", "limits": slow}))
    client = make_sdk("once-key")
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=ASKING)  # type: ignore[arg-type]
    assert raw.headers["x-ratelimit-limit-requests"] == "1"
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.code == "rate_limit_exceeded"
    headers = caught.value.response.headers
    assert 90 <= int(headers["retry-after"]) <= 200  # up to twice the time, so that not all come back at once
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert ask(make_sdk()).choices, "another key is not concerned"


def test_the_sdk_waits_as_long_as_it_is_told(server: RunningServer, upstream: Upstream, make_sdk: MakeSdk) -> None:
    station = upstream.station()
    twice = {"requests_per_second": 1, "burst": 1}
    server.apply(model("chat", station.url), auth=keys({"name": "patient", "key": "patient-key", "limits": twice}))
    client = make_sdk("patient-key", retries=1)
    assert ask(client).choices
    assert ask(client).choices
    assert len(station.seen) == 2
    assert station.seen[1].arrived_s - station.seen[0].arrived_s >= 0.9


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 100}, "n"),
        ({"extra_body": {"api_base": "http://169.254.169.254"}}, "api_base"),
        ({"stream": "yes"}, "stream"),
        ({"messages": "hello"}, "messages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_request(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk, asked: dict[str, Any], param: str
) -> None:
    station = upstream.station()
    server.apply(model("chat", station.generate_url))
    with pytest.raises(openai.BadRequestError) as caught:
        make_sdk().chat.completions.create(**{"model": "chat", "messages": ASKING, **asked})
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)
    assert station.seen == []


def test_what_the_upstream_says_about_the_request_comes_through(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk
) -> None:
    station = upstream.station().then(status(400, "seed must be odd"), status(413, "too much"), status(422, "no"))
    server.apply(model("chat", station.url))
    with pytest.raises(openai.BadRequestError) as caught:
        ask(make_sdk())
    assert "seed must be odd" in caught.value.message
    with pytest.raises(openai.APIStatusError) as other:
        ask(make_sdk())
    assert (other.value.status_code, other.value.code) == (413, "request_too_large")
    with pytest.raises(openai.BadRequestError):
        ask(make_sdk())
    assert len(station.seen) == 3, "none of them is tried again"


CONTEXT = b'{"error":{"message":"maximum context length is 10 tokens","code":"context_length_exceeded"}}'
FILTER = b'{"error":{"message":"the response was filtered","code":"content_filter"}}'


@pytest.mark.parametrize(("body", "code"), [(CONTEXT, "context_length_exceeded"), (FILTER, "content_policy")])
def test_refusals_that_clients_act_on(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk, body: bytes, code: str
) -> None:
    async def refuse(wire: Any) -> None:
        await wire.respond(body, 400)

    first, backup = upstream.station().always(refuse), upstream.station()
    server.apply(
        model("chat", first.url, context_window=100),
        model("other", backup.url, context_window=100),
        routing={"fallbacks": {"chat": ["other"]}},
    )
    with pytest.raises(openai.BadRequestError) as caught:
        ask(make_sdk())
    assert caught.value.code == code
    assert (len(first.seen), len(backup.seen)) == (1, 0)


@pytest.mark.parametrize(
    ("behaviour", "http_status", "code"),
    [
        (status(500), 502, "upstream_error"),
        (status(503), 502, "upstream_error"),
        (status(401), 502, "upstream_error"),
        (status(404, "the model `x` does not exist"), 502, "upstream_error"),
    ],
    ids=["500", "503", "401", "404"],
)
def test_server_errors(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk, behaviour: Behaviour, http_status: int, code: str
) -> None:
    station = upstream.station().always(behaviour)
    server.apply(model("chat", station.url, token="upstream-token", max_retries=0))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(make_sdk())
    assert (caught.value.status_code, caught.value.code) == (http_status, code)
    for word in ("upstream-token", "127.0.0.1", KEY):
        assert word not in caught.value.response.text


def test_nobody_there(server: RunningServer, make_sdk: MakeSdk) -> None:
    server.apply(model("chat", closed_url(), max_retries=0), breaker={"profile": "classic", "failures": 1})
    with pytest.raises(openai.InternalServerError) as caught:
        ask(make_sdk())
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
    wait_until(lambda: _code(make_sdk) == "no_healthy_endpoint", "the breaker opens")


def _code(make_sdk: MakeSdk) -> str | None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(make_sdk())
    if caught.value.code == "no_healthy_endpoint":
        assert caught.value.status_code == 503
        # Up to twice the 10 s for which the breaker is open.
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 20
    return caught.value.code


def test_timeout_of_the_client(server: RunningServer, upstream: Upstream, make_sdk: MakeSdk) -> None:
    station = upstream.station().always(never)
    server.apply(model("chat", station.url))
    with pytest.raises(openai.APITimeoutError):
        ask(make_sdk(timeout=0.3))
    station.wait_gone()


def test_timeout_of_the_server(server: RunningServer, upstream: Upstream, make_sdk: MakeSdk) -> None:
    server.apply(model("chat", upstream.station().always(never).url))
    with pytest.raises(openai.InternalServerError) as caught:
        ask(make_sdk(timeout=10.0), extra_headers={"x-request-timeout-ms": "300"})
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


def test_connection_error(make_sdk: MakeSdk) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        client = make_sdk(retries=0).with_options(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}/v1")
        with pytest.raises(openai.APIConnectionError):
            ask(client)


def test_a_stream_that_breaks_is_an_error_and_not_an_end(
    server: RunningServer, upstream: Upstream, make_sdk: MakeSdk
) -> None:
    station = upstream.station().always(pieces(delta("half"), delta(" an"), end="cut"))
    server.apply(model("chat", station.url))
    text = ""
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012 (the error comes in the middle of the loop)
        for chunk in ask(make_sdk(), stream=True):
            text += chunk.choices[0].delta.content or ""
    assert text == "half an"
    assert caught.value.code == "stream_interrupted"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["delivered_chars"] == len("half an")
    assert caught.value.body["retryable"] is True


async def test_the_same_classes_asynchronously(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().then(speak, status(500)).always(pieces(delta("half"), end="reset"))
    server.apply(model("chat", station.url, max_retries=0))
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        create: Any = client.chat.completions.create
        assert (await create(model="chat", messages=ASKING)).choices
        with pytest.raises(openai.InternalServerError):
            await create(model="chat", messages=ASKING)
        with pytest.raises(openai.NotFoundError):
            await create(model="none", messages=ASKING)
        with pytest.raises(openai.BadRequestError):
            await create(model="chat", messages=[])
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()
        with pytest.raises(openai.APIError) as caught:
            _ = [chunk async for chunk in await create(model="chat", messages=ASKING, stream=True)]
        assert caught.value.code == "stream_interrupted"
