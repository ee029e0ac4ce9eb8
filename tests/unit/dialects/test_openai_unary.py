"""A unary answer is passed on if the stream's relay would take it, and is told of in the same words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.dialects.canonical import Kind
from open_autoglm.dialects.openai_relay import OpenAIRelay
from open_autoglm.dialects.openai_unary import OpenAIUnaryRelay

TEXTS = st.none() | st.text(max_size=3)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2),
        "message": st.none() | st.fixed_dictionaries({}, optional={"content": TEXTS, "role": st.just("assistant")}),
        "text": TEXTS,
        "finish_reason": st.sampled_from([None, "", "stop", "length"]),
    },
)
COUNTS = st.none() | st.integers(-2, 5)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.none() | st.lists(CHOICES, max_size=3),
        "data": st.none() | st.lists(st.just({"embedding": [0.5]}), max_size=2),
        "usage": st.none() | st.fixed_dictionaries({}, optional={"prompt_tokens": COUNTS, "completion_tokens": COUNTS}),
        "error": st.sampled_from([None, {"message": "no", "code": 503}, "no"]),
        "object": st.sampled_from(["error", "chat.completion"]),
    },
)
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["chat", "completion", "embedding"])


@given(ANSWERS, KINDS)
def test_it_takes_what_the_relay_of_streams_takes(answer: dict[str, Any], kind: Kind) -> None:
    body = json.dumps(answer).encode()
    one, other = OpenAIUnaryRelay(kind), OpenAIRelay(kind)
    passed = one.whole(body, "application/json")
    assert passed == other.whole(body, "application/json")
    assert (one.failure is None) == (other.failure is None) == (passed == body)
    if one.failure is None or other.failure is None:
        assert one.stage == other.stage == 4
        for name in ("finish_reason", "prompt_tokens", "completion_tokens", "delivered_chars"):
            assert getattr(one, name) == getattr(other, name)
    else:
        assert one.failure == other.failure
        assert one.stage == 0


@given(st.binary(max_size=20))
def test_what_is_no_answer_fails(body: bytes) -> None:
    relay = OpenAIUnaryRelay("chat")
    assert relay.whole(body, "text/html; charset=utf-8") == b""
    assert relay.failure is not None
    assert relay.failure.outcome == "malformed"


def test_there_is_nothing_in_pieces() -> None:
    relay = OpenAIUnaryRelay("chat")
    assert relay.feed(b"data: {}") + relay.end() + relay.cut() == b""
