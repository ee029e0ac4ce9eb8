from __future__ import annotations

from typing import Any

import pytest

from open_autoglm.client.request import RequestWriter
from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE
from open_autoglm.protocol.preambles import RequestPreamble, read_request

CODEC = CODECS["msgpack"]


def write(model: str, prompt: str | None, **options: Any) -> tuple[RequestPreamble, dict[str, Any], int, float]:
    """Write a request and read it again."""
    writer = RequestWriter(CODEC, 600.0, lambda size: b"r" * size)
    payload, trace, flags, timeout_s = writer.write(model, prompt, options, resumable=False)  # type: ignore[arg-type]
    preamble = read_request(payload)
    assert preamble.trace_id == trace
    return preamble, CODEC.decode(payload[preamble.body_at :]), flags, timeout_s


def test_a_plain_request_says_its_model_and_its_prompt() -> None:
    preamble, body, flags, timeout_s = write("chat", "hello", temperature=0.5, anything=[1])
    assert (preamble.model, preamble.session, preamble.priority) == ("chat", "", 255)
    assert body == {"prompt": "hello", "temperature": 0.5, "anything": [1]}
    assert (flags, timeout_s) == (0, 600.0)


def test_what_the_frame_says_is_not_in_the_body() -> None:
    preamble, body, flags, timeout_s = write(
        "chat",
        None,
        messages=[],
        session="s",
        priority=0,
        timeout_s=2.5,
        trace_id="ab" * 16,
        retry=False,
        resumable=True,
    )
    assert (preamble.session, preamble.priority, preamble.trace_id) == ("s", 0, b"\xab" * 16)
    assert body == {"messages": []}
    assert (flags, timeout_s) == (NO_RETRY | RESUMABLE, 2.5)


def test_each_request_has_its_own_trace() -> None:
    writer = RequestWriter(CODEC, 600.0)
    traces = {writer.write(f"m{number % 3}", "p", {}, resumable=False)[1] for number in range(100)}
    assert len(traces) == 100
    assert {len(trace) for trace in traces} == {16}


def test_many_models_are_written_rightly() -> None:
    writer = RequestWriter(CODEC, 600.0)
    for number in [*range(3000), 5]:
        payload, *_ = writer.write(f"m{number}", "p", {}, resumable=False)
        assert read_request(payload).model == f"m{number}"


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (None, {}),
        ("p", {"messages": []}),
        ("p", {"trace_id": "short"}),
        ("p", {"trace_id": "0" * 32}),
        ("p", {"trace_id": "zz" * 16}),
        ("p", {"priority": 9}),
        ("p", {"session": "s" * 300}),
        ("p", {"seed": object()}),
    ],
)
def test_what_cannot_be_asked(prompt: str | None, options: dict[str, Any]) -> None:
    with pytest.raises(AutoGLMError) as caught:
        write("chat", prompt, **options)
    assert caught.value.code == "invalid_request"
