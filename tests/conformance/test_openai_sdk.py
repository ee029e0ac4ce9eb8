"""The `openai` SDK, synchronous and asynchronous, against each kind of upstream: the matrix, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.conformance.matrix import ASKING, CHAT, COMPLETIONS, DIALECTS, FEATURES, TOOL, Feature
from tests.integration.running import RunningServer, model
from tests.integration.speech import JSON_TEXT, TEXT, TOOL_ARGUMENTS, VECTOR
from tests.integration.upstreams import Station

CELLS = [
    pytest.param(feature, dialect, id=f"{feature.name.replace(' ', '_')}-{dialect}")
    for feature in FEATURES
    for dialect in DIALECTS
]
MakeAsync = Callable[[], openai.AsyncOpenAI]


def arguments(feature: Feature, dialect: str) -> dict[str, Any]:
    """What to give to the SDK's method."""
    match feature.route:
        case "/v1/chat/completions":
            prompt: dict[str, Any] = {"messages": ASKING}
        case "/v1/completions":
            prompt = {"prompt": "hello"}
        case _:
            prompt = {"input": "hello"}
    return {"model": dialect, **prompt, **feature.asked}


def method(client: Any, feature: Feature) -> Any:
    """The SDK's method for a route."""
    match feature.route:
        case "/v1/chat/completions":
            return client.chat.completions.create
        case "/v1/completions":
            return client.completions.create
        case _:
            return client.embeddings.create


@pytest.mark.parametrize(("feature", "dialect"), CELLS)
def test_sync(models: RunningServer, sdk: openai.OpenAI, feature: Feature, dialect: str) -> None:
    create = method(sdk, feature)
    if dialect in feature.refused:
        with pytest.raises(openai.BadRequestError) as caught:
            create(**arguments(feature, dialect))
        check_refused(caught.value, feature, dialect)
        return
    answer = create(**arguments(feature, dialect))
    check(list(answer) if feature.asked.get("stream") else answer, feature, dialect)


@pytest.mark.parametrize(("feature", "dialect"), CELLS)
async def test_async(models: RunningServer, make_async_sdk: MakeAsync, feature: Feature, dialect: str) -> None:
    async with make_async_sdk() as client:
        create = method(client, feature)
        if dialect in feature.refused:
            with pytest.raises(openai.BadRequestError) as caught:
                await create(**arguments(feature, dialect))
            check_refused(caught.value, feature, dialect)
            return
        answer = await create(**arguments(feature, dialect))
        check([chunk async for chunk in answer] if feature.asked.get("stream") else answer, feature, dialect)


def check_refused(error: openai.BadRequestError, feature: Feature, dialect: str) -> None:
    assert (error.code, error.param) == ("unsupported_parameter", feature.refused[dialect])
    assert error.request_id


def check(answer: Any, feature: Feature, dialect: str) -> None:
    """That an answer is what was asked for."""
    if feature.route == COMPLETIONS:
        (check_text_stream if isinstance(answer, list) else check_completion)(answer, feature, dialect)
    elif feature.route == CHAT:
        (check_chat_stream if isinstance(answer, list) else check_chat)(answer, feature, dialect)
    else:
        check_embeddings(answer, feature)


def check_chat(answer: ChatCompletion, feature: Feature, dialect: str) -> None:
    assert answer.object == "chat.completion"
    assert len(answer.choices) == feature.asked.get("n", 1)
    message = answer.choices[0].message
    assert message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    if dialect == "embedded":
        assert message.content or message.tool_calls
        assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
        if feature.asked.get("logprobs"):
            logprobs = answer.choices[0].logprobs
            assert logprobs is not None
            assert "".join(entry.token for entry in logprobs.content or []) == message.content
        return
    if "tools" in feature.asked:
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.tool_calls is not None
        call = message.tool_calls[0]
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("weather", TOOL_ARGUMENTS)
        return
    assert answer.choices[0].finish_reason == "stop"
    assert message.content == expected_text(feature)
    if feature.asked.get("logprobs"):
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert (logprobs.content[0].token, logprobs.content[0].logprob) == (TEXT, -0.5)


def expected_text(feature: Feature) -> str:
    if "response_format" in feature.asked:
        return JSON_TEXT
    return "1 image" if feature.name == "images" else TEXT


def check_chat_stream(chunks: list[ChatCompletionChunk], feature: Feature, dialect: str) -> None:
    wants_usage = "stream_options" in feature.asked
    assert (chunks[-1].usage is not None) == wants_usage
    if wants_usage:
        assert chunks[-1].choices == []
        assert chunks[-1].usage.total_tokens > 0  # type: ignore[union-attr]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for index in range(feature.asked.get("n", 1)):
        mine = [choice for choice in choices if choice.index == index]
        text = "".join(choice.delta.content or "" for choice in mine)
        assert mine[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == [mine[-1].finish_reason]
        calls = [call for choice in mine for call in choice.delta.tool_calls or []]
        if dialect == "embedded":
            assert text or calls
        elif "tools" in feature.asked:
            assert calls[0].function is not None
            assert (calls[0].id, calls[0].function.name) == ("call_1", "weather")
            assert "".join((call.function and call.function.arguments) or "" for call in calls) == TOOL_ARGUMENTS
            assert mine[-1].finish_reason == "tool_calls"
        else:
            assert text == TEXT
            assert mine[-1].finish_reason == "stop"
        if feature.asked.get("logprobs"):
            tokens = [p.token for choice in mine if choice.logprobs for p in choice.logprobs.content or []]
            assert "".join(tokens) == text


def check_completion(answer: Completion, feature: Feature, dialect: str) -> None:
    assert answer.object == "text_completion"
    assert len(answer.choices) == feature.asked.get("n", 1)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert answer.choices[0].text if dialect == "embedded" else answer.choices[0].text == TEXT


def check_text_stream(chunks: list[Completion], feature: Feature, dialect: str) -> None:
    assert (chunks[-1].usage is not None) == ("stream_options" in feature.asked)
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text if dialect == "embedded" else text == TEXT
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == ["stop"] or (dialect == "embedded" and reasons == ["length"])


def check_embeddings(answer: CreateEmbeddingResponse, feature: Feature) -> None:
    count = len(feature.asked["input"]) if "input" in feature.asked else 1
    assert [one.embedding for one in answer.data] == [VECTOR] * count
    assert answer.usage.prompt_tokens > 0


class TestModels:
    def test_list_and_retrieve(self, models: RunningServer, sdk: openai.OpenAI) -> None:
        assert [one.id for one in sdk.models.list()] == list(DIALECTS)
        one = sdk.models.retrieve("generate")
        assert (one.id, one.object) == ("generate", "model")
        assert one.created > 1_700_000_000
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve("gpt-none")
        assert caught.value.code == "model_not_found"

    async def test_async_too(self, models: RunningServer, make_async_sdk: MakeAsync) -> None:
        async with make_async_sdk() as client:
            assert [one.id async for one in client.models.list()] == list(DIALECTS)
            assert (await client.models.retrieve("embedded")).id == "embedded"


def test_names_with_all_sorts_of_characters(
    server: RunningServer, sdk: openai.OpenAI, stations: dict[str, Station]
) -> None:
    name = "vendor/模型 4:7b"
    server.apply(model(name, stations["openai"].url), model("*", stations["openai"].url))
    assert sdk.models.retrieve(name).id == name
    assert [one.id for one in sdk.models.list()] == [name]
    raw = sdk.chat.completions.with_raw_response.create(model=name, messages=ASKING)  # type: ignore[arg-type]
    assert raw.parse().model == name
    assert raw.headers["x-mcp-model"] == "vendor/%E6%A8%A1%E5%9E%8B 4:7b"


class TestConversationsWithTools:
    def test_the_result_of_a_tool_goes_back(
        self, models: RunningServer, sdk: openai.OpenAI, stations: dict[str, Station]
    ) -> None:
        asked: list[Any] = [{"role": "user", "content": "北京天气?"}]
        first = sdk.chat.completions.create(model="openai", messages=asked, tools=[TOOL])  # type: ignore[list-item]
        call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
        asked += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "晴"}]
        second = sdk.chat.completions.create(model="openai", messages=asked)
        assert second.choices[0].message.content == TEXT
        sent = stations["openai"].seen[-1].json["messages"]
        assert sent[1]["tool_calls"][0]["function"]["arguments"] == TOOL_ARGUMENTS
        assert sent[2] == asked[2]
        assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "北京"}

    def test_generate_names_the_message_that_it_cannot_express(self, models: RunningServer, sdk: openai.OpenAI) -> None:
        asked: list[Any] = [*ASKING, {"role": "tool", "tool_call_id": "call_1", "content": "晴"}]
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model="generate", messages=asked)
        assert caught.value.param == "messages[1].role"

    def test_streams_with_the_helper_of_the_sdk(self, models: RunningServer, sdk: openai.OpenAI) -> None:
        with sdk.chat.completions.stream(model="openai", messages=ASKING) as stream:  # type: ignore[arg-type]
            kinds = [event.type for event in stream]
            assert stream.get_final_completion().choices[0].message.content == TEXT
        assert {"content.delta", "content.done"} <= set(kinds)
