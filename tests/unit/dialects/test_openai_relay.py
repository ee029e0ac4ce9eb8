"""The relay of the same dialect: good streams pass as they came, bad ones never do."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import ChatFace, OpenAIRelay
from open_autoglm.dialects.relay import open_stream_relay
from open_autoglm.dialects.sse import LINE_BYTES_MAX
from tests.unit.dialects.wire import DONE, body, chat_request, chunk, event, parsed_events, stream, usage_chunk

HEAD = event(chunk({"role": "assistant", "content": ""}))
HI = event(chunk({"content": "Hi"}))
STOP = event(chunk(finish_reason="stop"))
USAGE = event(usage_chunk())


def relayed(*payloads: bytes, **options: Any) -> tuple[OpenAIRelay, bytes]:
    """Feed payloads, and end when nothing failed."""
    relay = OpenAIRelay("chat", **options)
    out = b"".join(relay.feed(payload) for payload in payloads)
    return relay, out + relay.end()


def test_events_one_by_one_pass_as_they_came() -> None:
    relay = OpenAIRelay("chat")
    stages = []
    for piece in (HEAD, HI, STOP, USAGE, DONE):
        assert relay.feed(piece) == piece
        stages.append(relay.stage)
    assert stages == [1, 2, 4, 4, 4]
    assert relay.end() == b""
    assert (relay.failure, relay.finish_reason, relay.delivered_chars) == (None, "stop", 2)
    assert (relay.prompt_tokens, relay.completion_tokens) == (3, 2)


def test_a_burst_passes_as_it_came() -> None:
    payload = stream("Hel", "lo", " 中文", usage=True)
    relay, out = relayed(payload)
    assert out == payload
    assert (relay.failure, relay.stage, relay.delivered_chars, relay.prompt_tokens) == (None, 4, 8, 3)


def test_numbers_and_unknown_fields_pass_unchanged() -> None:
    odd = event(b'{"id": 9007199254740993000000, "zz":[1.50 ], "choices":[{"delta":{"content":"a","x":{}},"index":0}]}')
    relay, out = relayed(odd, STOP, DONE)
    assert out == odd + STOP + DONE
    assert relay.failure is None


def test_a_missing_done_is_supplied() -> None:
    relay, out = relayed(stream("a", done=False))
    assert out == stream("a")
    assert relay.failure is None


@pytest.mark.parametrize("cut", [b"\n", b"\n\n", DONE[:-1], b"\n\n" + DONE, b""])
def test_the_last_blank_line_may_be_missing(cut: bytes) -> None:
    payload = HEAD + HI + STOP.removesuffix(b"\n\n") + b"\n\n"
    payload = payload[: -len(b"\n\n")] + (cut if cut.startswith(b"\n") or not cut else b"\n\n" + cut)
    relay, out = relayed(payload)
    assert relay.failure is None
    assert parsed_events(out) == parsed_events(HEAD + HI + STOP + DONE)


def test_usage_that_was_not_asked_for_is_kept_back() -> None:
    payload = stream("a", "b", usage=True)
    for payloads in (
        (payload,),
        tuple(payload[at : at + 1] for at in range(len(payload))),
        (HEAD, HI, STOP, USAGE, DONE),
    ):
        relay, out = relayed(*payloads, drop_usage=True)
        assert b"usage" not in out
        assert parsed_events(out)[-1] == "[DONE]"
        assert (relay.failure, relay.prompt_tokens, relay.completion_tokens) == (None, 3, 2)


def test_usage_beside_choices_passes_though_it_was_not_asked_for() -> None:
    last = event(chunk(finish_reason="stop", usage={"prompt_tokens": 7, "completion_tokens": 8}))
    relay, out = relayed(HI, last, DONE, drop_usage=True)
    assert out == HI + last + DONE
    assert (relay.prompt_tokens, relay.completion_tokens) == (7, 8)


@pytest.mark.parametrize(
    "payload",
    [
        b"".join([HEAD, HI, STOP, DONE]).replace(b"\n", b"\r\n"),
        b"".join([HEAD, HI, STOP, DONE]).replace(b"\n", b"\r"),
        b"".join([HEAD, HI, STOP, DONE]).replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf" + HEAD + HI + STOP + DONE,
        b": ping\n\n" + HEAD + b": ping\n\n" * 50 + HI + STOP + b"\n\n\n" + DONE,
        HEAD + b"id: 1\nevent: message\nretry: 3\n" + HI + STOP + DONE,
        HEAD + HI.replace(b',"choices"', b',\ndata: "choices"') + STOP + DONE,
    ],
    ids=["crlf", "cr", "no space", "bom", "comments", "fields", "data lines"],
)
def test_odd_streams_are_passed_in_the_common_form(payload: bytes) -> None:
    expected = parsed_events(HEAD + HI + STOP + DONE)
    for size in (len(payload), 1, 7, 64):
        relay, out = relayed(*(payload[at : at + size] for at in range(0, len(payload), size)))
        assert relay.failure is None
        assert parsed_events(out) == expected
        assert relay.delivered_chars == 2


BAD = {
    "not json": b"data: {not json}\n\n",
    "half": b'data: {"choices":[{"index":0,\n\n',
    "split by a line feed": b'data: {"choices":[{"index":0,"delta":{"content":\n"a"}}]}\n\n',
    "two in one": b"data: " + body(chunk({"content": "a"})) + b" " + body(chunk({"content": "b"})) + b"\n\n",
    "wrong types": event({"choices": [{"index": 0, "delta": {"content": 5}}]}),
    "choices is text": event({"choices": "x"}),
    "no choices": event({"id": "x"}),
    "a list": event([chunk()]),
    "a number": event(5),
    "not utf-8": event(body(chunk({"content": "a"})).replace(b'"a"', b'"\xff"')),
    "not utf-8 aside": event(body(chunk({"content": "a"}, x="y")).replace(b'"y"', b'"\xed\xa0\x80"')),
    "half a character": event(body(chunk({"content": "a"})).replace(b'"a"', b'"\\ud83d"')),
    "a zero byte": b"data: \0\n\n",
    "impossible index": event({"choices": [{"index": 10**9, "delta": {"content": "a"}}]}),
    "too deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "html": b"data: <html></html>\n\n",
    "long line": b"data: " + b"x" * (LINE_BYTES_MAX + 2),
    "not a number": event(body(chunk({"content": "a"}, x=1)).replace(b'"x":1', b'"x":NaN')),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_before_content_is_a_failure_and_nothing_of_it_is_seen(name: str) -> None:
    for payloads in ((BAD[name],), (HEAD, BAD[name], HI), (HEAD + BAD[name] + HI + STOP + DONE,), (BAD[name] + HI,)):
        relay, out = relayed(*payloads)
        assert relay.failure is not None
        assert relay.failure.outcome == "malformed"
        assert out in (b"", HEAD)
        assert (relay.feed(HI), relay.end()) == (b"", b"")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_after_content_is_an_interruption(name: str) -> None:
    for payloads in ((HEAD, HI, BAD[name], HI), (HEAD + HI + BAD[name] + HI + STOP + DONE,), (HI + HI, BAD[name] + HI)):
        relay, out = relayed(*payloads)
        assert relay.failure is not None
        assert relay.failure.outcome == "interrupted"
        assert out in (HEAD + HI, HI + HI)
        assert relay.delivered_chars == out.count(b'"Hi"') * 2


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_after_the_finish_ends_a_whole_answer(name: str) -> None:
    relay, out = relayed(HI, STOP, BAD[name], HI)
    assert relay.failure is None
    assert out == HI + STOP + DONE


def test_events_that_only_look_whole_line_by_line_do_not_pass() -> None:
    # As many values as lines, but not one in each: two in the first line, one over the next two.
    first = b"data: " + body(chunk({"content": "a"})) + b" " + body(chunk({"content": "b"})) + b"\n\n"
    halves = body(chunk({"content": "c"})).split(b'"choices"')
    payload = first + b"data: " + halves[0] + b"\n\n" + b'data: "choices"' + halves[1] + b"\n\n"
    relay, out = relayed(HEAD + payload + STOP + DONE)
    assert out == HEAD
    assert relay.failure is not None


@pytest.mark.parametrize(
    "payloads", [(), (b"",), (b": ping\n\n",), (HEAD,), (b"<html>no</html>",), (DONE,), (HEAD, DONE)]
)
def test_an_end_before_content_is_malformed(payloads: tuple[bytes, ...]) -> None:
    relay, out = relayed(*payloads)
    assert relay.failure is not None
    assert relay.failure.outcome == "malformed"
    assert b"[DONE]" not in out


@pytest.mark.parametrize("payloads", [(HI,), (HI, HI[:-20]), (HEAD + HI, DONE), (HEAD + HI + HI + DONE,)])
def test_an_end_without_a_finish_reason_is_an_interruption(payloads: tuple[bytes, ...]) -> None:
    relay, out = relayed(*payloads)
    assert relay.failure is not None
    assert relay.failure.outcome == "interrupted"
    assert b"[DONE]" not in out


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        ({"error": {"message": "The server is overloaded", "type": "server_error"}}, "unavailable", ""),
        ({"error": {"message": "x", "code": 503}}, "unavailable", ""),
        ({"error": {"message": "x", "code": "429"}}, "throttled", ""),
        ({"error": {"message": "boom"}}, "failed", ""),
        ({"error": "boom"}, "failed", ""),
        (
            {"object": "error", "message": "maximum context length is 10", "code": 400},
            "too_long",
            "context_length_exceeded",
        ),
        ({"error": {"message": "blocked", "code": "content_filter"}}, "refused", "content_policy"),
        ({"error": {"message": "bad field", "code": 400, "param": "seed"}}, "refused", "invalid_request"),
    ],
)
def test_errors_inside_a_stream(error: dict[str, Any], outcome: str, code: str) -> None:
    for payloads in ((event(error),), (HEAD + event(error) + HI,), (b"event: error\n" + event(error),), (body(error),)):
        relay, out = relayed(*payloads)
        assert relay.failure is not None
        assert (relay.failure.outcome, relay.failure.code) == (outcome, code)
        assert b"error" not in out
    relay, out = relayed(HI, event(error))
    assert relay.failure is not None
    assert (relay.failure.outcome, out) == ("interrupted", HI)


def test_an_error_that_is_null_is_none() -> None:
    payload = event(chunk({"content": "a"}, error=None))
    assert OpenAIRelay("chat").feed(payload) == payload


def test_a_json_object_for_a_stream_is_said_to_be_one() -> None:
    relay, out = relayed(body({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}))
    assert relay.failure is not None
    assert "one JSON object" in relay.failure.message
    assert out == b""


@pytest.mark.parametrize(
    ("delta", "stage"),
    [
        ({"role": "assistant"}, 1),
        ({"content": None}, 1),
        ({"content": "a"}, 2),
        ({"reasoning_content": "a"}, 2),
        ({"reasoning": "a"}, 2),
        ({"refusal": "a"}, 2),
        ({"audio": {"id": "x"}}, 2),
        ({"audio": None, "function_call": None}, 1),
        ({"content": "a", "tool_calls": []}, 2),
        ({"tool_calls": [{"index": 0}]}, 3),
        ({"content": "a", "tool_calls": [{"index": 0}]}, 3),
        ({"function_call": {"name": "f"}}, 3),
        ({"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": [{"text": "b"}]}]}, 2),
    ],
)
def test_stages(delta: dict[str, Any], stage: int) -> None:
    payload = event(chunk(delta))
    alone, burst = OpenAIRelay("chat"), OpenAIRelay("chat")
    assert (alone.feed(payload), alone.stage) == (payload, stage)
    assert (burst.feed(payload + payload), burst.stage) == (payload + payload, stage)


def test_a_structured_answer_has_begun_with_its_first_piece() -> None:
    relay = OpenAIRelay("chat", structured=True)
    relay.feed(HI)
    assert relay.stage == 3


def test_content_of_an_unknown_kind_is_not_held_back_for_ever() -> None:
    relay = OpenAIRelay("chat")
    for _ in range(20):
        relay.feed(event(chunk({"hologram": "x"})))
    assert relay.stage == 2


def choice(index: int, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": None, **fields}


def test_several_choices_are_whole_when_each_is() -> None:
    first = event(chunk() | {"choices": [choice(0, delta={"content": "a"}), choice(1, delta={"content": "bc"})]})
    stops = [event(chunk() | {"choices": [choice(index, finish_reason="stop")]}) for index in (0, 1)]
    relay = OpenAIRelay("chat", choices=2)
    relay.feed(first + stops[1])
    assert relay.stage == 2
    relay.feed(stops[0])
    assert (relay.stage, relay.delivered_chars) == (4, 3)
    assert relay.end() == DONE
    relay, _ = relayed(first + stops[0] + DONE, choices=2)
    assert relay.failure is not None
    relay, _ = relayed(HI + STOP, choices=2)  # a server that gives fewer answers than asked for
    assert relay.failure is None


def test_completions_are_counted_by_their_text() -> None:
    def piece(text: str, reason: str | None) -> bytes:
        return event(
            {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": reason}]}
        )

    relay = OpenAIRelay("completion")
    payload = piece("ab", None) + piece("c", None) + piece("", "length") + DONE
    assert relay.feed(payload) == payload
    assert (relay.stage, relay.delivered_chars, relay.finish_reason, relay.failure) == (4, 3, "length", None)


WHOLE = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_a_whole_answer_passes_as_it_came() -> None:
    relay = OpenAIRelay("chat")
    data = json.dumps(WHOLE).encode() + b"\n"
    assert relay.whole(data, "application/json") is data
    assert (relay.failure, relay.stage, relay.finish_reason, relay.delivered_chars) == (None, 4, "stop", 5)
    assert (relay.prompt_tokens, relay.completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"<html>502</html>", "malformed"),
        (b"", "malformed"),
        (b"null", "malformed"),
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (body({"choices": []}), "malformed"),
        (body({"choices": [{"index": 0, "text": "a"}]}), "malformed"),
        (body({"choices": [{"index": 0, "message": {"content": 5}}]}), "malformed"),
        (body(WHOLE)[:-1], "malformed"),
        (body(WHOLE).replace(b"Hello", b"\xff"), "malformed"),
        (stream("a"), "malformed"),
        (body({"error": {"message": "overloaded"}}), "unavailable"),
        (body({"error": {"message": "boom"}, "choices": []}), "failed"),
        (body({"object": "error", "message": "boom", "code": 500}), "failed"),
    ],
)
def test_a_200_that_is_no_answer_is_a_failure(data: bytes, outcome: str) -> None:
    relay = OpenAIRelay("chat")
    assert relay.whole(data, "text/html; charset=utf-8") == b""
    assert relay.failure is not None
    assert relay.failure.outcome == outcome
    assert "Hello" not in relay.failure.message


def test_whole_answers_of_the_other_kinds() -> None:
    completion = body({"choices": [{"index": 0, "text": "ab", "finish_reason": "stop"}]})
    embedding = body({"data": [{"index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 4}})
    relay = OpenAIRelay("completion")
    assert relay.whole(completion, "") == completion
    assert relay.delivered_chars == 2
    relay = OpenAIRelay("embedding")
    assert relay.whole(embedding, "") == embedding
    assert relay.prompt_tokens == 4
    relay = OpenAIRelay("embedding")
    assert (relay.whole(completion, ""), relay.failure is None) == (b"", False)


def test_an_answer_that_is_cut_ends_with_length() -> None:
    relay = OpenAIRelay("chat")
    relay.feed(HEAD + HI)
    last, done = parsed_events(relay.cut())
    assert done == "[DONE]"
    assert (last["id"], last["model"]) == ("chatcmpl-1", "m")
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert (relay.stage, relay.finish_reason, relay.feed(HI), relay.end()) == (4, "length", b"", b"")


def test_usage_that_was_asked_for_is_estimated_where_we_close_the_stream() -> None:
    relay, out = relayed(HEAD, HI, STOP, prompt_bytes=41)
    assert out.startswith(HEAD + HI + STOP)
    usage = {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12, "estimated": True}
    assert parsed_events(out)[-2] == {**chunk(), "choices": [], "usage": usage}
    assert parsed_events(out)[-1] == "[DONE]"
    relay, out = relayed(HEAD, HI, STOP, USAGE, prompt_bytes=41)
    assert out == HEAD + HI + STOP + USAGE + DONE
    relay = OpenAIRelay("chat", prompt_bytes=41)
    relay.feed(HEAD + HI)
    cut, last, done = parsed_events(relay.cut())
    assert (cut["choices"][0]["finish_reason"], last["usage"], done) == ("length", usage, "[DONE]")
    assert relay.end() == b""


def test_a_client_that_asks_for_usage_gets_it_from_its_relay() -> None:
    data = body(chat_request(stream=True, stream_options={"include_usage": True}))
    relay = open_stream_relay(ChatFace(), ChatFace().read(data))
    out = relay.feed(HEAD + HI + STOP) + relay.end()
    assert parsed_events(out)[-2]["usage"]["estimated"] is True
    relay = open_stream_relay(ChatFace(), ChatFace().read(body(chat_request(stream=True))))
    assert b"usage" not in relay.feed(HEAD + HI + STOP) + relay.end()
