"""What can go wrong at a server of models, each a behaviour with a name. `autoglm drill --list` prints them.

A behaviour takes a `Reply`, so one that needs a number has it as a keyword: `partial(cut, at=7)`. "Half" of an answer
is 40 of its 60 tokens in a stream, and half of the body otherwise. Where a fault exists in streams only, other
requests are answered well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from open_autoglm.testing.reply import FOREVER, Behaviour, Reply, Steps
from open_autoglm.testing.upstream import answer

HALF: Final = 40
"""Tokens of a stream before it goes wrong."""
_PIECE: Final = b"x" * 65_536

FILTER_REASON: Final = "the prompt was filtered by the policy on harmful content"
TOO_LONG_REASON: Final = "This model's maximum context length is 4096 tokens. Please reduce the length of the messages."
PREFILL_REASON: Final = "the last message must be the user's: this model does not support assistant message prefill"


@dataclass(frozen=True, slots=True)
class Fault:
    """A behaviour with its name.

    Attributes:
        name: for scripts and lists.
        behaviour: what is done.
        summary: one line.
    """

    name: str
    behaviour: Behaviour
    summary: str


FAULTS: Final[dict[str, Fault]] = {}
"""By name."""


def _fault(name: str) -> Callable[[Callable[..., Steps]], Callable[..., Steps]]:
    def enter(behaviour: Callable[..., Steps]) -> Callable[..., Steps]:
        summary = (behaviour.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        FAULTS[name] = Fault(name, behaviour, summary)
        return behaviour

    return enter


_fault("none")(answer)

# Refusals.


@_fault("rate-limited")
def rate_limited(reply: Reply, retry_after_s: float | None = 2.0) -> Steps:
    """429 with Retry-After: 2."""
    reply.refuse(429, "Rate limit reached for requests", "rate_limit_exceeded", retry_after_s)
    yield 0.0


@_fault("rate-limited-bare")
def rate_limited_bare(reply: Reply) -> Steps:
    """429 that does not say when to come back."""
    return rate_limited(reply, None)


@_fault("error-500")
def error_500(reply: Reply) -> Steps:
    """500."""
    reply.refuse(500, "The server had an error while processing your request")
    yield 0.0


@_fault("bad-gateway")
def bad_gateway(reply: Reply) -> Steps:
    """502 with a page in HTML, as a proxy before the server gives it."""
    reply.send(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", kind="text/html")
    yield 0.0


@_fault("unavailable")
def unavailable(reply: Reply) -> Steps:
    """503."""
    reply.refuse(503, "The engine is currently overloaded, please try again later")
    yield 0.0


@_fault("overloaded-529")
def overloaded(reply: Reply) -> Steps:
    """529."""
    reply.refuse(529, "Overloaded", "overloaded_error")
    yield 0.0


@_fault("unauthorized")
def unauthorized(reply: Reply) -> Steps:
    """401: the gateway's own key is wrong here."""
    reply.refuse(401, "Incorrect API key provided", "invalid_api_key")
    yield 0.0


@_fault("context-length")
def context_length(reply: Reply) -> Steps:
    """400: the prompt is longer than the model's context."""
    reply.refuse(400, TOO_LONG_REASON, "context_length_exceeded")
    yield 0.0


@_fault("content-filter")
def content_filter(reply: Reply) -> Steps:
    """400: the prompt is refused by a policy on content."""
    reply.refuse(400, FILTER_REASON, "content_filter")
    yield 0.0


@_fault("prefill-refused")
def prefill_refused(reply: Reply) -> Steps:
    """400 to requests that end with the beginning of an answer; others are answered well."""
    if not reply.asked.said:
        yield from answer(reply)
        return
    reply.refuse(400, PREFILL_REASON, "invalid_request_error")
    yield 0.0


# Silence and slowness.


@_fault("silent")
def silent(reply: Reply) -> Steps:
    """The request is taken and never answered."""
    yield FOREVER


@_fault("head-only")
def head_only(reply: Reply) -> Steps:
    """The head of an answer, and nothing after it."""
    if reply.asked.stream:
        reply.begin()
    else:
        reply.send(200, b"", length=1000)
    yield FOREVER


@_fault("slow-first-token")
def slow_first_token(reply: Reply, wait_s: float = 20.0) -> Steps:
    """20 s of nothing, then the whole answer."""
    yield wait_s
    yield from answer(reply)


@_fault("stall")
def stall(reply: Reply, at: int = HALF) -> Steps:
    """Half of the answer, then silence on an open connection."""
    yield from _half(reply, at)
    yield FOREVER


@_fault("drip")
def drip(reply: Reply, gap_s: float = 20.0) -> Steps:
    """A token each 20 s."""
    reply.pace_s = gap_s
    return answer(reply)


# Breaks.


@_fault("reset")
def reset(reply: Reply) -> Steps:
    """The connection is reset before the head of the answer."""
    reply.reset()
    yield 0.0


@_fault("cut")
def cut(reply: Reply, at: int = HALF) -> Steps:
    """Half of the answer, then the connection closes in the middle of its framing."""
    yield from _half(reply, at)
    reply.close()


@_fault("cut-by-reset")
def cut_by_reset(reply: Reply, at: int = HALF) -> Steps:
    """Half of the answer, then the connection is reset."""
    yield from _half(reply, at)
    yield 0.02  # a reset at once would take back what is on its way
    reply.reset()


@_fault("cut-cleanly")
def cut_cleanly(reply: Reply, at: int = HALF) -> Steps:
    """Half of a stream, which then ends in order: last chunk, but no finish reason and no [DONE]."""
    if not reply.asked.stream:
        yield from cut(reply)
        return
    yield from _half(reply, at)
    reply.line.write(b"0\r\n\r\n")


@_fault("no-done")
def no_done(reply: Reply) -> Steps:
    """A stream with everything but [DONE]."""
    if not reply.asked.stream:
        yield from answer(reply)
        return
    reply.begin()
    yield from reply.say()
    reply.end(done=False)


@_fault("empty-stream")
def empty_stream(reply: Reply) -> Steps:
    """200, and a stream without content that ends with [DONE]; an empty body otherwise."""
    if reply.asked.stream:
        reply.begin()
        reply.raw(b"data: [DONE]\n\n")
        reply.line.write(b"0\r\n\r\n")
    else:
        reply.send(200, b"")
    yield 0.0


@_fault("wrong-length")
def wrong_length(reply: Reply) -> Steps:
    """A body shorter than its content length, then the connection closes; a stream in a chunk that is cut short."""
    if reply.asked.stream:
        reply.begin()
        yield from reply.say(0, HALF)
        reply.line.write(b'1000\r\ndata: {"choices": [')
    else:
        body = reply.body()
        reply.send(200, body, length=len(body) + 100)
    reply.close()


# Answers that are none.


@_fault("malformed-event")
def malformed_event(reply: Reply, at: int = HALF) -> Steps:
    """A broken event between two tokens, and the rest as if nothing had been; a body that is cut JSON otherwise."""
    if not reply.asked.stream:
        reply.send(200, reply.body()[:-40])
        yield 0.0
        return
    reply.begin()
    yield from reply.say(0, at)
    reply.raw(b'data: {"choices": [{"index": 0, "delta": {"cont\n\n')
    yield from reply.say(at)
    reply.end()


@_fault("html-200")
def html_200(reply: Reply) -> Steps:
    """200 with a page in HTML."""
    reply.send(200, b"<!doctype html><html><body>Please sign in</body></html>", kind="text/html")
    yield 0.0


@_fault("error-200")
def error_200(reply: Reply) -> Steps:
    """200 with an error in JSON, as a body or as the first event."""
    error = {"error": {"message": "the engine is overloaded", "type": "server_error", "code": 503}}
    if reply.asked.stream:
        reply.begin()
        reply.event(error)
        reply.line.write(b"0\r\n\r\n")
    else:
        reply.send(200, json.dumps(error).encode())
    yield 0.0


@_fault("error-in-stream")
def error_in_stream(reply: Reply, at: int = HALF) -> Steps:
    """Half of a stream, then an error as an event, and [DONE]; 500 otherwise."""
    if not reply.asked.stream:
        yield from error_500(reply)
        return
    yield from _half(reply, at)
    reply.event({"error": {"message": "CUDA out of memory", "type": "server_error", "code": 500}})
    reply.raw(b"data: [DONE]\n\n")
    reply.line.write(b"0\r\n\r\n")


@_fault("wrong-types")
def wrong_types(reply: Reply) -> Steps:
    """JSON of another shape: choices are a text, the message is a number."""
    value = {"id": 7, "object": None, "choices": "none", "message": 3}
    if reply.asked.stream:
        reply.begin()
        reply.event(value)
        reply.end()
    else:
        reply.send(200, json.dumps(value).encode())
    yield 0.0


@_fault("nul")
def nul(reply: Reply) -> Steps:
    """Zero bytes and bytes that are no UTF-8 in the place of the first event, or of the body."""
    garbage = b"\x00\x00\xff\xfe{\xc3\x28}"
    if reply.asked.stream:
        reply.begin()
        reply.raw(b"data: " + garbage + b"\n\n")
        reply.end()
    else:
        reply.send(200, garbage)
    yield 0.0


@_fault("two-in-one")
def two_in_one(reply: Reply) -> Steps:
    """Two objects in one event, before any content."""
    if not reply.asked.stream:
        reply.send(200, reply.body() * 2)
        yield 0.0
        return
    reply.begin()
    reply.raw(b'data: {"choices": []}{"choices": []}\n\n')
    yield from reply.say()
    reply.end()


# Sizes.


@_fault("long-line")
def long_line(reply: Reply) -> Steps:
    """An event of 10 MB before any content; a body of 100 MB otherwise."""
    if not reply.asked.stream:
        yield from huge_body(reply)
        return
    reply.begin()
    reply.raw(b"data: ")
    for _ in range(160):
        reply.raw(_PIECE)
        yield 0.0
    reply.raw(b"\n\n")
    yield from reply.say()
    reply.end()


@_fault("huge-body")
def huge_body(reply: Reply) -> Steps:
    """A body of 100 MB; a stream is answered well."""
    if reply.asked.stream:
        yield from answer(reply)
        return
    reply.send(200, b'{"choices": [{"message": {"content": "', length=100 * 2**20)
    for _ in range(1600):
        reply.line.write(_PIECE)
        yield 0.0
    reply.close()


@_fault("endless")
def endless(reply: Reply) -> Steps:
    """A stream that never ends, as fast as it is read; an endless body otherwise."""
    if not reply.asked.stream:
        yield from huge_body(reply)
        return
    reply.begin()
    while True:
        yield from reply.say()


# Odd, but right: these must be read as they are meant.


@_fault("odd-events")
def odd_events(reply: Reply) -> Steps:
    """A right stream in every form that the standard allows: BOM, CR, LF and CRLF, no space after data:, comments."""
    if not reply.asked.stream:
        yield from answer(reply)
        return
    reply.raw_head()
    endings = (b"\r\r", b"\n\n", b"\r\n\r\n")
    for number, token in enumerate(reply.tokens):
        data = json.dumps(reply.piece({"content": token}), ensure_ascii=False).encode()
        before = b"\xef\xbb\xbf" if number == 0 else b": comment\r\nid: 1\nevent: message\r"
        reply.raw(before, b"data:", data, endings[number % 3])
        reply.asked.sent_tokens += 1
        yield reply.pace_s
    reply.end()


@_fault("comment-flood")
def comment_flood(reply: Reply) -> Steps:
    """Ten thousand comments before each tenth token, then the whole answer."""
    if not reply.asked.stream:
        yield from answer(reply)
        return
    reply.begin()
    for start in range(0, len(reply.tokens), 10):
        reply.raw(b": keep-alive\n\n" * 10_000)
        yield from reply.say(start, start + 10)
    reply.end()


def _half(reply: Reply, at: int = HALF) -> Steps:
    """The beginning of the answer."""
    if reply.asked.stream:
        reply.begin()
        yield from reply.say(0, at)
        return
    body = reply.body()
    yield reply.pace_s
    reply.send(200, body[: len(body) // 2], length=len(body))
    yield 0.0
