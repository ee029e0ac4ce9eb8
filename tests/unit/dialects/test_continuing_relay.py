"""One stream from two endpoints, as the client sees it."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    Face,
    GenerateDialect,
    McpFace,
    OpenAIDialect,
    Relay,
    passes,
)
from open_autoglm.dialects.continuation import Continuation, Delivered
from open_autoglm.dialects.continuing_relay import ContinuingRelay, open_continuing_relay, open_keeping_relay
from open_autoglm.dialects.upstream import UpstreamDialect
from tests.unit.dialects.wire import DONE, body, chat_request, chunk, event, parsed_events, usage_chunk

HEAD = event(chunk({"role": "assistant", "content": ""}))
STOP = event(chunk(finish_reason="stop"))
OPENAI = OpenAIDialect()
GENERATE = GenerateDialect()


def said(*texts: str, **fields: Any) -> bytes:
    return b"".join(event(chunk({"content": text}, **fields)) for text in texts)


class Client:
    """A request whose stream breaks, and what its client got.

    Args:
        request: the body.
        face: of the route.
        dialect: of the endpoint that breaks.
    """

    def __init__(
        self, request: dict[str, Any] | None = None, face: Face | None = None, dialect: UpstreamDialect = OPENAI
    ) -> None:
        self.face = face or ChatFace()
        self.body = body(request or chat_request(stream=True))
        self.view = self.face.read(self.body)
        self.view.stream = True
        self.dialect = dialect
        delivered = Delivered.of(self.view)
        assert delivered is not None
        self.delivered = delivered
        self.got = b""

    def first(self) -> Relay:
        same = passes(self.face.name, self.dialect.name)
        return open_keeping_relay(
            self.delivered,
            self.face,
            self.dialect,
            self.view,
            encoder=None if same else self.face.encoder(self.view, "req-1", "chat", 99),
            request=self.face.infer(self.body, self.view),
        )

    def breaks_after(self, *payloads: bytes, usage: tuple[int, int] = (-1, -1)) -> bool:
        relay = self.first()
        self.got += b"".join(relay.feed(payload) for payload in payloads)
        return self.delivered.broke(self.face.infer(self.body, self.view), "chat#1", *usage)

    def second(self, dialect: UpstreamDialect = OPENAI, continuation: Continuation = "prefill") -> ContinuingRelay:
        relay, _ = open_continuing_relay(self.delivered, self.view, dialect, continuation, to="chat#2")
        return relay

    def goes_on(self, *payloads: bytes, **options: Any) -> ContinuingRelay:
        relay = self.second(**options)
        for payload in payloads:
            self.got += relay.feed(payload)
        if relay.failure is None:
            self.got += relay.end()
        return relay

    def events(self) -> list[Any]:
        return parsed_events(self.got)


def text_of(events: Iterable[Any]) -> str:
    chunks = [value for value in events if value != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for value in chunks for choice in value["choices"])


@pytest.mark.parametrize("split", [1, 7, 10_000])
def test_the_client_sees_one_stream(split: int) -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hel", "lo"))
    second = said(" wor", "ld", id="other", model="another", created=7) + STOP + DONE
    relay = client.goes_on(HEAD, *(second[at : at + split] for at in range(0, len(second), split)))
    events = client.events()
    assert relay.failure is None
    assert events[-1] == "[DONE]"
    assert text_of(events) == "Hello world"
    assert {(value["id"], value["model"], value["created"]) for value in events[:-1]} == {("chatcmpl-1", "m", 1)}
    assert [value["choices"][0]["delta"].get("role") for value in events[:-1]].count("assistant") == 1
    assert [value["choices"][0]["index"] for value in events[:-1]] == [0] * len(events[:-1])
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-2]["x_mcp_failover"] == {"from": "chat#1", "to": "chat#2", "at_char": 5}
    assert not [value for value in events[:-2] if "x_mcp_failover" in value or "usage" in value]
    assert (relay.delivered_chars, relay.finish_reason, relay.stage) == (11, "stop", 4)


def test_a_text_that_is_said_again_is_not_seen_twice() -> None:
    whole = "It was the best of times, it was the worst of times"
    for at in range(4, len(whole)):
        client = Client()
        assert client.breaks_after(HEAD, said(whole[:at]))
        client.goes_on(said(*whole) + STOP)
        assert text_of(client.events()) == whole


def test_what_repeats_the_text_is_no_content_yet() -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hello, you"))
    relay = client.second()
    assert (relay.feed(HEAD), relay.feed(said("Hello")), relay.stage) == (b"", b"", 0)
    assert relay.feed(said(", you there")) != b""
    assert relay.stage == 2


def test_usage_is_that_of_the_whole_answer() -> None:
    asked = chat_request(stream=True, stream_options={"include_usage": True})
    for usage, prompt, completion in (((-1, -1), 30 - 2, 2 + 9), ((12, 5), 12, 5 + 9)):
        client = Client(asked)
        assert client.breaks_after(HEAD, said("Hel", "lo, my friend"), usage=usage)
        relay = client.goes_on(said(" and"), STOP, event(usage_chunk(30, 9)), DONE)
        last = client.events()[-2]
        assert last["usage"]["prompt_tokens"] == prompt
        assert last["usage"]["completion_tokens"] == completion
        assert last["usage"]["estimated"] is True
        assert last["x_mcp_failover"]["at_char"] == 16
        assert (relay.prompt_tokens, relay.completion_tokens, relay.estimated) == (prompt, completion, True)


def test_usage_that_nobody_counted_is_estimated() -> None:
    asked = chat_request(stream=True, stream_options={"include_usage": True})
    client = Client(asked)
    assert client.breaks_after(HEAD, said("Hello"))
    client.goes_on(said(" to you all"), STOP)
    usage = client.events()[-2]["usage"]
    assert usage == {
        "prompt_tokens": (len(body(asked["messages"])) + 3) // 4,
        "completion_tokens": 1 + 3,
        "total_tokens": usage["prompt_tokens"] + 4,
        "estimated": True,
    }


REFUSALS = {
    "thinking": event(chunk({"reasoning_content": "hm"})),
    "a tool": event(chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]})),
    "an error": event({"error": {"message": "no prefill here", "code": 400}}),
    "malformed": b"data: {no\n\n",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_endpoint_that_does_not_go_on_is_never_seen(name: str) -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hello"))
    before = client.got
    for payloads in ((REFUSALS[name],), (HEAD, said("Hel") + REFUSALS[name])):
        relay = client.goes_on(*payloads)
        assert relay.failure is not None
        assert relay.failure.outcome != "interrupted"
        assert relay.stage < 2
        assert client.got == before
        assert (relay.feed(said(" x")), relay.end()) == (b"", b"")
    # The next one can go on all the same.
    client.goes_on(said(" world"), STOP)
    assert text_of(client.events()) == "Hello world"


@pytest.mark.parametrize("name", REFUSALS)
def test_a_continuation_that_breaks_after_content_is_an_interruption(name: str) -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hello"))
    relay = client.goes_on(said(" wor") + REFUSALS[name])
    assert relay.failure is not None
    assert relay.failure.outcome == "interrupted"
    assert text_of(client.events()) == "Hello wor"
    assert relay.delivered_chars == 9


def test_a_continuation_that_ends_early_is_a_failure() -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hello"))
    relay = client.goes_on(said(" wor"))
    assert relay.failure is not None
    assert b"[DONE]" not in client.got


def test_a_text_that_was_complete_ends() -> None:
    client = Client()
    assert client.breaks_after(HEAD, said("Hello"))
    relay = client.goes_on(HEAD, STOP, DONE)
    assert (relay.failure, relay.stage) == (None, 4)
    assert text_of(client.events()) == "Hello"
    assert client.events()[-2]["choices"][0]["finish_reason"] == "stop"


def test_a_continuation_that_reaches_a_limit_is_cut() -> None:
    client = Client(chat_request(stream=True, stream_options={"include_usage": True}))
    assert client.breaks_after(HEAD, said("Hello"))
    relay = client.second()
    client.got += relay.feed(said(" wor")) + relay.cut()
    *_, last, usage, done = client.events()
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 1 + 1
    assert done == "[DONE]"
    assert (relay.feed(said("x")), relay.end()) == (b"", b"")


@pytest.mark.parametrize("ends", [b"\r\n", b"\r", b"\n"])
def test_line_ends_and_cut_characters_do_not_matter(ends: bytes) -> None:
    text = "naïve — 你好 🙂"
    first = (HEAD + said(*text) + said("lost")[:-30]).replace(b"\n", ends)
    second = (said(" und 世界 🙂") + STOP + DONE).replace(b"\n", ends)
    for size in (1, 5, 11, 10_000):
        client = Client()
        assert client.breaks_after(*(first[at : at + size] for at in range(0, len(first), size)))
        assert client.delivered.text == text
        client.goes_on(*(second[at : at + size] for at in range(0, len(second), size)))
        assert text_of(client.events()) == text + " und 世界 🙂"


def test_escaped_characters_are_whole_characters() -> None:
    piece = json.dumps(chunk({"content": "🙂x"})).encode()
    assert b"\\ud83d\\ude42" in piece
    client = Client()
    cut = event(piece)[: event(piece).index(b"\\ude42")]
    assert client.breaks_after(HEAD, said("a"), event(piece), cut)
    assert client.delivered.text == "a🙂x"
    assert client.delivered.chars == 3


def text_chunk(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return event({"id": "cmpl-7", "object": "text_completion", "created": 3, "model": "m", "choices": [choice]})


def test_completions_go_on_too() -> None:
    request = {"model": "chat", "prompt": "Once", "stream": True, "stream_options": {"include_usage": True}}
    client = Client(request, CompletionsFace())
    assert client.breaks_after(text_chunk(" upon"), text_chunk(" a"))
    client.goes_on(text_chunk(" time"), text_chunk("", "stop"), DONE, continuation="none")
    *chunks, last, usage, done = client.events()
    assert "".join(value["choices"][0]["text"] for value in chunks) == " upon a time"
    assert {(value["id"], value["object"]) for value in (*chunks, last, usage)} == {("cmpl-7", "text_completion")}
    assert last["x_mcp_failover"] == usage["x_mcp_failover"] == {"from": "chat#1", "to": "chat#2", "at_char": 7}
    assert done == "[DONE]"


def test_our_own_protocol_goes_on_with_its_count() -> None:
    client = Client({"type": "INFER_REQUEST", "payload": {"prompt": "hi"}}, McpFace())
    assert client.breaks_after(HEAD, said("Hel", "lo"))
    client.goes_on(said(" world"), STOP)
    *chunks, last = client.events()
    assert [value["payload"]["seq"] for value in chunks] == [0, 1, 2]
    assert last["payload"]["text"] == "Hello world"
    assert last["payload"]["x_mcp_failover"] == {"from": "chat#1", "to": "chat#2", "at_char": 5}


@pytest.mark.parametrize("second", [OPENAI, GENERATE])
@pytest.mark.parametrize("first", [OPENAI, GENERATE])
def test_endpoints_of_different_dialects_go_on_with_each_other(first: UpstreamDialect, second: UpstreamDialect) -> None:
    client = Client(dialect=first)
    pieces = {"openai": (HEAD, said("Hel", "lo")), "generate": (event({"text": "Hel"}), event({"text": "lo"}))}
    assert client.breaks_after(*pieces[first.name])
    rest = {"openai": (HEAD, said(" world"), STOP), "generate": (event({"text": " world"}), DONE)}
    client.goes_on(*rest[second.name], dialect=second)
    events = client.events()
    assert text_of(events) == "Hello world"
    assert len({value["id"] for value in events[:-1]}) == 1
    assert [value["choices"][0]["delta"].get("role") for value in events[:-1]].count("assistant") == 1


def test_a_generate_server_that_repeats_its_prompt_goes_on() -> None:
    client = Client(dialect=GENERATE)
    assert client.breaks_after(event({"text": ["hi Hel"]}), event({"text": ["hi Hello"]}))
    assert client.delivered.text == " Hello"
    client.goes_on(event({"text": ["hi Hello wor"]}), event({"text": ["hi Hello world"]}), dialect=GENERATE)
    assert text_of(client.events()) == " Hello world"


def test_a_relay_that_keeps_changes_nothing() -> None:
    client = Client()
    relay = client.first()
    payloads = (HEAD, said("a"), said("b", "c"), STOP)
    assert [relay.feed(payload) for payload in payloads] == list(payloads)
    assert relay.end() == DONE
    assert not client.delivered.broke(client.face.infer(client.body, client.view), "chat#1", -1, -1)
