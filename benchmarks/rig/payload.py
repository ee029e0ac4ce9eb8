"""The bytes every target carries: requests, the answer, and the streamed answer.

All sizes are fixed so that figures of different days compare: a request of 446 bytes, an answer of 629 bytes, stream
events of 188 bytes, a long request of 32 KiB. The texts are made here, from counters, and mean nothing.
"""

from __future__ import annotations

import json
from typing import Any, Final

MODEL: Final = "chat"
KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"
PATH: Final = "/v1/chat/completions"

REQUEST_BYTES: Final = 446
ANSWER_BYTES: Final = 629
LONG_REQUEST_BYTES: Final = 32 * 1024
EVENT_BYTES: Final = 188
STREAM_EVENTS: Final = 64
# One more write than there are content events: the last one carries the finish reason, the usage and the end mark.
STREAM_WRITES: Final = STREAM_EVENTS + 1
STREAM_GAP_S: Final = 0.010
BURST_MARK: Final = b"[burst]"
DONE: Final = b"data: [DONE]\n\n"

_CREATED: Final = 1_700_000_000


def filler(length: int) -> str:
    """Plain words of exactly `length` characters, the same on every call."""
    words = " ".join(f"word{number:05d}" for number in range(length // 10 + 1))
    return words[:length]


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _padded(value: dict[str, Any], size_bytes: int, place: dict[str, Any], key: str) -> bytes:
    """`value` as JSON of exactly `size_bytes`: filler is appended to the string `place[key]` inside `value`."""
    short = size_bytes - len(_compact(value))
    if short < 0:
        raise ValueError(f"the payload is {-short} bytes longer than {size_bytes}; shorten its fixed part")
    place[key] += filler(short)
    return _compact(value)


def request_body(size_bytes: int = REQUEST_BYTES, *, stream: bool = False, burst: bool = False) -> bytes:
    """A chat request of exactly `size_bytes` bytes; `burst` asks the stream upstream for all events at once."""
    question = {"role": "user", "content": (BURST_MARK.decode() if burst else "[paced]") + " "}
    value: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": "You answer briefly and in plain words."}, question],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if stream:
        value |= {"stream": True, "stream_options": {"include_usage": True}}
    return _padded(value, size_bytes, question, "content")


def answer_body() -> bytes:
    """The whole answer of the unary upstream, `ANSWER_BYTES` bytes of JSON."""
    message = {"role": "assistant", "content": "It is so: "}
    value = {
        "id": "chatcmpl-bench0001",
        "object": "chat.completion",
        "created": _CREATED,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 87, "completion_tokens": 64, "total_tokens": 151},
    }
    return _padded(value, ANSWER_BYTES, message, "content")


def models_body() -> bytes:
    """The list of models of an upstream; some routers ask for it before they send anything."""
    return _compact({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]})


def _stream_event(choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
    event: dict[str, Any] = {
        "id": "chatcmpl-bench1",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": MODEL,
    }
    event["choices"] = choices
    if usage is not None:
        event["usage"] = usage
    return event


def content_event(number: int) -> bytes:
    """Event `number` (0..63) of the stream: `EVENT_BYTES` bytes, its number in the text so that order shows."""
    delta = {"content": f"t{number:02d} "}
    event = _stream_event([{"index": 0, "delta": delta, "finish_reason": None}], None)
    frame = len(b"data: \n\n")
    return b"data: " + _padded(event, EVENT_BYTES - frame, delta, "content") + b"\n\n"


def last_events() -> bytes:
    """The event with finish reason and usage, and the end mark."""
    usage = {"prompt_tokens": 87, "completion_tokens": STREAM_EVENTS, "total_tokens": 87 + STREAM_EVENTS}
    event = _stream_event([{"index": 0, "delta": {}, "finish_reason": "stop"}], usage)
    return b"data: " + _compact(event) + b"\n\n" + DONE


def stream_writes() -> list[bytes]:
    """The `STREAM_WRITES` pieces of a stream, in order; their join is the whole body."""
    return [content_event(number) for number in range(STREAM_EVENTS)] + [last_events()]


def answer_fault(body: bytes) -> str:
    """What is wrong with a unary answer, or an empty string. Re-encoded JSON is right when text and usage are."""
    expected = answer_body()
    if body == expected:
        return ""
    try:
        got, want = json.loads(body), json.loads(expected)
        same = got["choices"][0]["message"]["content"] == want["choices"][0]["message"]["content"]
        counted = got["usage"]["total_tokens"] == want["usage"]["total_tokens"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"answer of {len(body)} bytes cannot be read: {error!r}"
    if not same:
        return "the answer's text was changed"
    return "" if counted else "the answer's usage was changed"


def stream_fault(body: bytes) -> str:
    """What is wrong with a streamed answer's body (after de-chunking), or an empty string.

    A target may re-encode the events; every content event must be there, once and in order, and finish reason, usage
    and `[DONE]` too.
    """
    events = [part[5:].strip() for part in body.replace(b"\r\n", b"\n").split(b"\n\n") if part.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        return f"the stream of {len(body)} bytes does not end with [DONE]"
    text, finished, counted = "", False, False
    try:
        for raw in events[:-1]:
            event = json.loads(raw)
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                finished = finished or choice.get("finish_reason") == "stop"
            counted = counted or (event.get("usage") or {}).get("completion_tokens") == STREAM_EVENTS
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"an event of the stream cannot be read: {error!r}"
    if text != _STREAM_TEXT:
        return f"the stream's text is {len(text)} characters, not the {len(_STREAM_TEXT)} sent, or in another order"
    if not finished:
        return "the stream has no finish reason"
    return "" if counted else "the stream has no usage, or a wrong one"


def _stream_text() -> str:
    events = [json.loads(content_event(number)[6:]) for number in range(STREAM_EVENTS)]
    return "".join(event["choices"][0]["delta"]["content"] for event in events)


_STREAM_TEXT: Final = _stream_text()
