"""Relays that translate, and which relay a request gets."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    EventRelay,
    Face,
    Finish,
    GenerateDialect,
    McpFace,
    OpenAIDialect,
    OpenAIRelay,
    ReasoningDelta,
    Relay,
    TextDelta,
    ToolCallDelta,
    TranslatingRelay,
    UpstreamDialect,
    Usage,
    open_relay,
    passes,
)
from open_autoglm.dialects.openai_unary import OpenAIUnaryRelay
from tests.unit.dialects.wire import DONE, body, chat_request, chunk, event, parsed_events, stream

MESSAGE = {"type": "INFER_REQUEST", "payload": {"prompt": "hi"}}


def relay_for(face: Face, dialect: UpstreamDialect, value: Any, *, streamed: bool = False) -> Relay:
    data = body(value)
    view = face.read(data)
    if streamed:
        view.stream = True
    request = None if passes(face.name, dialect.name) else face.infer(data, view)
    return open_relay(face, dialect, view, "req-1", "chat", 99, request=request)


def test_the_same_dialect_passes_and_others_translate() -> None:
    assert isinstance(relay_for(ChatFace(), OpenAIDialect(), chat_request()), OpenAIUnaryRelay)
    assert isinstance(relay_for(ChatFace(), OpenAIDialect(), chat_request(stream=True)), OpenAIRelay)
    assert isinstance(relay_for(ChatFace(), GenerateDialect(), chat_request()), TranslatingRelay)
    assert isinstance(relay_for(McpFace(), OpenAIDialect(), MESSAGE), TranslatingRelay)
    assert not passes("mcp", "openai")
    assert not passes("chat", "embedded")
    for name in ("chat", "completions", "embeddings"):
        assert passes(name, "openai")


def test_what_the_view_says_reaches_the_relay() -> None:
    value = chat_request(stream=True, response_format={"type": "json_object"})
    relay = relay_for(ChatFace(), OpenAIDialect(), value)
    out = relay.feed(stream("{", usage=True))
    assert b"usage" not in out
    assert relay.prompt_tokens == 3
    relay = relay_for(ChatFace(), OpenAIDialect(), value)
    relay.feed(event(chunk({"content": "{"})))
    assert relay.stage == 3


def test_generate_to_chat() -> None:
    relay = relay_for(ChatFace(), GenerateDialect(), chat_request(stream=True))
    first = relay.feed(event({"text": "Hel"}))
    assert parsed_events(first)[0]["choices"][0]["delta"] == {"role": "assistant", "content": "Hel"}
    assert (relay.stage, relay.delivered_chars) == (2, 3)
    relay.feed(event({"text": "lo"}) + DONE)
    last, done = parsed_events(relay.end())
    assert (last["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")
    assert (relay.stage, relay.failure, relay.finish_reason) == (4, None, "stop")
    assert (relay.prompt_tokens, relay.completion_tokens) == (1, 2)


def test_generate_to_completions_and_to_our_own_protocol() -> None:
    relay = relay_for(CompletionsFace(), GenerateDialect(), {"model": "m", "prompt": "hi"})
    assert json.loads(relay.whole(b'{"text":["hiyo"]}', ""))["choices"][0]["text"] == "yo"
    relay = relay_for(McpFace(), GenerateDialect(), MESSAGE, streamed=True)
    chunks = parsed_events(relay.feed(event({"text": "a"}) + event({"text": "b"})) + relay.end())
    assert [value["payload"]["text"] for value in chunks] == ["a", "b", "ab"]


def test_openai_to_our_own_protocol() -> None:
    relay = relay_for(McpFace(), OpenAIDialect(), MESSAGE, streamed=True)
    payload = stream("Hel", "lo", usage=True)
    out = b"".join(relay.feed(payload[at : at + 10]) for at in range(0, len(payload), 10)) + relay.end()
    *chunks, last = parsed_events(out)
    assert [value["payload"] for value in chunks] == [{"seq": 0, "text": "Hel"}, {"seq": 1, "text": "lo"}]
    assert last["payload"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert relay.prompt_tokens == 3


@pytest.mark.parametrize(
    ("payload", "outcome", "shown"),
    [
        (b"", "malformed", 0),
        (b"<html>", "malformed", 0),
        (event({"text": "a"}) + b"data: {\n\n", "interrupted", 1),
        (event({"error": "overloaded"}), "unavailable", 0),
    ],
)
def test_failures_of_a_translated_stream(payload: bytes, outcome: str, shown: int) -> None:
    relay = relay_for(ChatFace(), GenerateDialect(), chat_request(stream=True))
    events = parsed_events(relay.feed(payload) + relay.end())
    assert len(events) == shown
    assert relay.failure is not None
    assert relay.failure.outcome == outcome
    assert (relay.feed(event({"text": "b"})), relay.end()) == (b"", b"")


def test_failures_of_a_translated_answer() -> None:
    relay = relay_for(ChatFace(), GenerateDialect(), chat_request())
    assert relay.whole(b"<html>", "text/html") == b""
    assert relay.failure is not None
    assert relay.stage == 0


def test_a_translated_answer_that_is_cut() -> None:
    relay = relay_for(ChatFace(), GenerateDialect(), chat_request(stream=True))
    relay.feed(event({"text": "a"}))
    last, done = parsed_events(relay.cut())
    assert (last["choices"][0]["finish_reason"], done, relay.finish_reason) == ("length", "[DONE]", "length")


def test_events_of_this_process() -> None:
    face = ChatFace()
    view = face.read(body(chat_request(stream=True)))
    relay = EventRelay(face.encoder(view, "req-1", "chat", 99))
    stages = []
    out = b""
    for given in (ReasoningDelta("x"), TextDelta("ab"), ToolCallDelta(0, "c", "f"), Finish("stop"), Usage(1, 2)):
        out += relay.deliver([given])
        stages.append(relay.stage)
    assert stages == [2, 2, 3, 4, 4]
    assert len(parsed_events(out + relay.finish())) == 5
    assert (relay.finish_reason, relay.prompt_tokens, relay.completion_tokens, relay.estimated) == ("stop", 1, 2, False)
    whole = EventRelay(face.encoder(view, "req-1", "chat", 99), structured=True)
    assert json.loads(whole.deliver_whole([TextDelta("ab")]))["choices"][0]["message"]["content"] == "ab"
    assert (whole.stage, whole.delivered_chars) == (3, 2)


def test_what_goes_wrong_after_the_finish_reason_does_not_make_the_answer_less_whole() -> None:
    relay = relay_for(McpFace(), OpenAIDialect(), MESSAGE, streamed=True)
    out = relay.feed(event(chunk({"content": "whole"})) + event(chunk({}, "stop")) + b"data: {nonsense\n\n")
    assert (relay.stage, relay.failure) == (4, None)
    out += relay.feed(b"data: {nonsense\n\n") + relay.end()
    assert parsed_events(out)[-1]["payload"]["text"] == "whole"
    assert relay.failure is None
    assert relay.end() == b""
