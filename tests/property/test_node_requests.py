"""Whatever a request's body holds, its stream gets one ending, and connection and counts stay as they should."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engines.counting_model import CountingModel
from tests.unit.inference.wired import Wired, greeting

from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.model_engine import ModelEngine
from open_autoglm.protocol.preambles import write_request

TURNS_MAX = 2000
NANO = catalog.open_model("glm-nano")
KINDS = ("count", "echo", "nano")

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "tool", "assistant"])},
        optional={"content": st.sampled_from(["1 2", "12 + 30", ""]) | values, "tool_calls": values},
    ),
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(["1 2 3", "What is 12 + 30?"]) | values,
        "data_chunk": values,
        "messages": messages | values,
        "temperature": st.sampled_from([0, 0.7]) | values,
        "top_p": st.just(0.5) | values,
        "max_tokens": st.integers(1, 5) | values,
        "stop": st.just(["x"]) | values,
        "seed": st.integers(0, 9) | values,
        "tools": st.lists(values, max_size=2) | values,
        "tool_choice": values,
        "n": st.just(1) | values,
        "strange": values,
    },
)


def engine_of(kind: str) -> ModelEngine:
    if kind == "echo":
        return EchoEngine()
    return Engine(CountingModel("1") if kind == "count" else NANO)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(["json", "msgpack"]),
    st.lists(st.tuples(bodies, st.booleans(), st.sampled_from([0, 1, 60_000])), min_size=1, max_size=4),
)
def test_every_request_ends_once(kind: str, codec: str, asked: list[tuple[dict[str, Any], bool, int]]) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        engine = engine_of(kind)
        wired = Wired({kind: engine}, hello=greeting(codec))
        streams = [wired.ask(kind, body, int(streamed), remaining_ms) for body, streamed, remaining_ms in asked]
        for _ in range(TURNS_MAX):
            if not wired.service.in_flight:
                break
            assert isinstance(engine, Engine)
            engine.turn()
            wired.service.outbox.drain()
        wired.turn()
        assert wired.heard.closed is None
        for stream in streams:
            assert (stream in wired.heard.answers) != (stream in wired.heard.errors)
        if kind != "count":  # the counting model takes numbers only, and is not asked to be polite
            assert all(error.code != "internal_error" for error in wired.heard.errors.values())
        assert wired.service.in_flight == 0
        assert sum(wired.models[kind].outcomes().values()) <= len(asked)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["json", "msgpack"]), st.booleans())
def test_bytes_that_are_no_body_are_refused(data: bytes, codec: str, with_preamble: bool) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        wired = Wired({"echo": EchoEngine()}, hello=greeting(codec))
        stream = wired.client.request((write_request("echo") if with_preamble else b"") + data)
        wired.turn()
        assert (stream in wired.heard.answers) != (stream in wired.heard.errors)
        assert wired.heard.closed is None
        assert wired.service.in_flight == 0
    finally:
        asyncio.set_event_loop(None)
        loop.close()
