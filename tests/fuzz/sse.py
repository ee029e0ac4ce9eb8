"""Feeds upstream streams, in two different splits, to every reader of them: both must come to the same end.

The first byte chooses splits and options, the rest is what the upstream sends. The characters in `SHORTHAND` stand for
good events, so that damage after them is found as well.
Without a driver: `python -m tests.fuzz.sse FILE…`.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any, Final

from open_autoglm.dialects import ChatFace, GenerateDialect, McpFace, OpenAIDialect, OpenAIRelay, Relay, open_relay
from open_autoglm.dialects.face import Face
from open_autoglm.dialects.generate_answer import GenerateDecoder
from open_autoglm.dialects.sse import EventReader
from open_autoglm.dialects.upstream import UpstreamDialect
from open_autoglm.exchange.outcomes import RULES

SHORTHAND: Final = {
    b"@": b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\xe4\xb8\xad"},"finish_reason":null}]}\n\n',
    b"#": b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"$": b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    b"%": b"data: [DONE]\n\n",
    b"&": b'{"text":"a"}\n',
    b"~": b'data: {"text":["ab"]}\r\n\r\n',
}
TOKENS = [
    *SHORTHAND, b"data: ", b"data:", b"\n", b"\r", b"\r\n", b"\n\n", b"{", b"}", b",", b"]", b" ", b"\0", b"\xff",
    b": c", b"event: error\n", b"id: 1\n", b"\xef\xbb\xbf", b"[DONE]", b'"choices":[', b'"a"', b'"index":5',
    b'{"error":{"message":"x"}}', b'{"choices":[{"index":1,"delta":{"content":"x"}}]}', b'{"text":"b"}',
    b'{"text":["b"]}', b'{"response":"b","done":true}', b'"tool_calls":[{"index":0,"function":{"arguments":"{"}}]',
    b'"finish_reason":"length"', b'"usage":{"prompt_tokens":5}', b'{"object":"error","message":"too many tokens"}',
]  # fmt: skip
CHAT = ChatFace()
MCP = McpFace()
CHAT_BODY = b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true}'
MCP_BODY = b'{"opcode":10,"payload":{"prompt":"a"}}'


def fuzz_one(data: bytes) -> None:
    """Read one stream.

    Raises:
        AssertionError: a reader broke a promise; any other exception is a defect of it as well.
    """
    if not data:
        return
    choice, payload = data[0], data[1:]
    for token, text in SHORTHAND.items():
        payload = payload.replace(token, text)
    splits = [[payload], _split(payload, random.Random(choice))]
    _same([_read(parts) for parts in splits])
    options: dict[str, Any] = {"choices": 1 + choice % 2, "drop_usage": bool(choice & 2)}
    _same([_relayed(OpenAIRelay("chat", **options), parts) for parts in splits])
    pairs: list[tuple[Face, bytes, UpstreamDialect]] = [
        (MCP, MCP_BODY, OpenAIDialect()),
        (CHAT, CHAT_BODY, GenerateDialect()),
    ]
    for face, body, dialect in pairs:
        view = face.read(body)
        view.stream = True
        _same([_relayed(open_relay(face, dialect, view, "r", "m", 1), parts) for parts in splits])
    GenerateDecoder("a").whole(payload, "")
    whole = OpenAIRelay("chat")
    assert bool(whole.whole(payload, "")) is (whole.failure is None), "an answer or a failure"


def _split(payload: bytes, rng: random.Random) -> list[bytes]:
    parts = []
    at = 0
    while at < len(payload):
        size = rng.choice((1, 1, 2, 3, 7, 30, 200))
        parts.append(payload[at : at + size])
        at += size
    return parts


def _same(results: list[Any]) -> None:
    assert results[0] == results[1], "how a stream is cut changes nothing"


def _read(parts: list[bytes]) -> Any:
    reader = EventReader()
    events = [event for part in parts for event in reader.feed(part)]
    return [*events, *reader.end()], reader.failure


def _relayed(relay: Relay, parts: list[bytes]) -> Any:
    stage = 0
    out = b""
    for part in parts:
        out += relay.feed(part)
        assert stage <= relay.stage <= 4, "stages never fall"
        stage = relay.stage
    out += relay.end()
    assert relay.feed(b'data: {"text":"x"}\n\n') == b"", "after the end nothing comes"
    failure = relay.failure
    if failure is not None:
        assert failure.outcome in RULES
        assert (failure.outcome == "interrupted") is (relay.stage >= 2)
    values = []
    for event in out.replace(b"\r\n", b"\n").split(b"\n\n"):
        text = event.removeprefix(b"data:").strip()
        if text:
            values.append("[DONE]" if text == b"[DONE]" else json.loads(text))
    assert failure is None or "[DONE]" not in values, "what failed is not shown as whole"
    figures = (relay.stage, relay.finish_reason, relay.prompt_tokens, relay.completion_tokens, relay.delivered_chars)
    # Of two things that are wrong, the cut decides which is met first, and so what is said of it.
    return values, figures, failure and (failure.outcome, failure.code)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
