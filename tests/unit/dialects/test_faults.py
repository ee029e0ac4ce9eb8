"""What upstreams do wrong, on every way from an upstream to a client: judged alike before and after content."""

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
    UpstreamDialect,
    open_relay,
)
from open_autoglm.dialects.sse import LINE_BYTES_MAX
from tests.unit.dialects.wire import body, chat_request, chunk, event, parsed_events

REQUESTS: dict[str, dict[str, Any]] = {
    "chat": chat_request(stream=True),
    "completions": {"model": "chat", "prompt": "hi", "stream": True},
    "mcp": {"type": "INFER_REQUEST", "payload": {"prompt": "hi"}},
}
FACES: dict[str, Face] = {"chat": ChatFace(), "completions": CompletionsFace(), "mcp": McpFace()}
DIALECTS: dict[str, UpstreamDialect] = {"openai": OpenAIDialect(), "generate": GenerateDialect()}
WAYS = [(face, dialect) for face in FACES for dialect in DIALECTS]

FAULTS: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"data: {not json}\n\n", "malformed"),
    "half an event": (b'data: {"choices": [{"index": 0,\n\n', "malformed"),
    "a wrong type": (event({"choices": [{"index": 0, "delta": {"content": 5}, "text": 5}], "text": 5}), "malformed"),
    "a list": (event([1, 2]), "malformed"),
    "a number": (event(5), "malformed"),
    "not UTF-8": (b'data: {"text": "\xff", "choices": [{"text": "\xff", "delta": {}}]}\n\n', "malformed"),
    "half a character": (b'data: {"text": "\\ud83d", "choices": [{"text": "\\ud83d"}]}\n\n', "malformed"),
    "a zero byte": (b"data: \0\n\n", "malformed"),
    "HTML": (b"data: <html>bad gateway</html>\n\n", "malformed"),
    "a line without end": (b"data: " + b"x" * (LINE_BYTES_MAX + 2), "malformed"),
    "an error": (event({"error": {"message": "boom", "type": "server_error"}}), "failed"),
    "an error as text": (event({"error": "boom"}), "failed"),
    "overload": (event({"error": {"message": "The engine is overloaded"}}), "unavailable"),
    "a rate limit": (event({"error": {"message": "x", "code": 429}}), "throttled"),
    "too long": (event({"error": {"message": "maximum context length is 10"}}), "too_long"),
    "a policy": (event({"error": {"message": "x", "code": "content_filter"}}), "refused"),
}


def relay_for(face_name: str, dialect_name: str) -> Relay:
    face, dialect = FACES[face_name], DIALECTS[dialect_name]
    data = body(REQUESTS[face_name])
    view = face.read(data)
    view.stream = True
    return open_relay(face, dialect, view, "req-1", "chat", 99, request=face.infer(data, view))


def said(face_name: str, dialect_name: str, text: str) -> bytes:
    """A piece of text as the upstream sends it."""
    if dialect_name == "generate":
        return event({"text": text})
    if face_name == "completions":
        return event({"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}]})
    return event(chunk({"content": text}))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("face", "dialect"), WAYS)
def test_before_content_nothing_is_shown_and_the_fault_is_named(face: str, dialect: str, fault: str) -> None:
    data, outcome = FAULTS[fault]
    for size in (len(data), 7):
        relay = relay_for(face, dialect)
        out = b"".join(relay.feed(data[at : at + size]) for at in range(0, len(data), size))
        assert relay.failure is not None
        assert (relay.failure.outcome, relay.stage, out) == (outcome, 0, b"")
        assert (relay.feed(said(face, dialect, "x")), relay.end()) == (b"", b"")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("face", "dialect"), WAYS)
def test_after_content_it_is_an_interruption_and_only_whole_events_are_shown(
    face: str, dialect: str, fault: str
) -> None:
    data = said(face, dialect, "half") + said(face, dialect, " an") + FAULTS[fault][0] + said(face, dialect, " answer")
    for size in (len(data), 11):
        relay = relay_for(face, dialect)
        out = b"".join(relay.feed(data[at : at + size]) for at in range(0, len(data), size))
        assert relay.failure is not None
        assert relay.failure.outcome == "interrupted"
        assert len(parsed_events(out)) == 2
        assert b"answer" not in out
        assert relay.delivered_chars == len("half an")
        assert (relay.feed(said(face, dialect, "x")), relay.end()) == (b"", b"")


@pytest.mark.parametrize(("face", "dialect"), WAYS)
def test_an_end_in_the_middle(face: str, dialect: str) -> None:
    relay = relay_for(face, dialect)
    assert relay.end() == b""
    assert relay.failure is not None
    assert relay.failure.outcome == "malformed"
    relay = relay_for(face, dialect)
    relay.feed(said(face, dialect, "half"))
    relay.end()
    if dialect == "generate":
        # The dialect has no other sign of an end than the end of the stream.
        assert (relay.failure, relay.finish_reason) == (None, "stop")
    else:
        assert relay.failure is not None
        assert relay.failure.outcome == "interrupted"


@pytest.mark.parametrize(("face", "dialect"), WAYS)
def test_one_answer_where_a_stream_was_asked_for(face: str, dialect: str) -> None:
    for data, outcome in ((b'{"error": {"message": "overloaded"}}', "unavailable"), (b"<html>no</html>", "malformed")):
        relay = relay_for(face, dialect)
        assert relay.feed(data) + relay.end() == b""
        assert relay.failure is not None
        assert relay.failure.outcome == outcome
