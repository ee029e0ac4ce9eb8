"""Feeds request bodies to the faces: what is accepted can be written for every upstream and answered, or is refused.

The first byte chooses face, upstream and answer, the rest is the body, or, for some choices, the inside of a good one.
Without a driver: `python -m tests.fuzz.messages FILE…`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from open_autoglm.dialects import (
    ChatFace,
    CompletionsFace,
    EmbeddingsFace,
    Event,
    Face,
    Finish,
    GenerateDialect,
    McpFace,
    OpenAIDialect,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    embedded_messages,
    embedded_supports,
    passes,
    splice_request,
)
from open_autoglm.errors import RequestError

FACES: Final[tuple[Face, ...]] = (McpFace(), ChatFace(), CompletionsFace(), EmbeddingsFace())
WRAPPERS: Final = (
    (b"", b""),
    (b'{"mcp_version":"1.0","type":"INFER_REQUEST","trace_id":"t","payload":{"data_chunk":"x",', b"}}"),
    (b'{"opcode":10,"session_id":"s","payload":{"messages":[{"role":"user","content":', b"}]}}"),
    (b'{"model":"m","messages":[{"role":"user","content":', b"}]}"),
    (b'{"model":"m","prompt":"x","messages":[{"role":"user"}],"input":"y",', b"}"),
    (b'{"stream":true,"model":"m","messages":[', b"]}"),
)
TOKENS = [
    b'{"mcp_version":"1.0","type":"INFER_REQUEST","trace_id":"t","payload":{"data_chunk":"x","timeout_ms":5}}',
    b'{"opcode":10,"session_id":"s","payload":{"prompt":"x","temperature":0.7}}',
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}', b'{"model":"m","prompt":["x"]}',
    b'{"model":"m","input":[1,2],"encoding_format":"base64"}', b'"opcode":10', b'"type":"INFER_REQUEST"',
    b'"meta":{"timestamp":1,"retry":false}', b'"model_hint":"b"', b'"model":"b"', b'"prompt":"a"', b'"timeout_ms":5',
    b'"messages":[{"role":"user","content":"x"}]', b'[{"type":"text","text":"a"}]', b'{"role":"user","content":"x"}',
    b'{"type":"image_url","image_url":"u"}', b'{"role":"assistant","tool_calls":[{"id":"c"}]}', b'"n":2',
    b'"top_p":1', b'"stream":true', b'"stop":["a"]', b'"tools":[{}]', b'"tool_choice":"none"', b'"temperature":0.5',
    b'"logprobs":false', b'"stream_options":{"include_usage":true}', b'"stream_options":null',
    b'"response_format":{"type":"json_object"}', b'"api_key":1', b'"zz":1', b'"\\u006dodel"', b"\\ud800", b"{", b"}",
    b"[", b"]", b",", b":", b'"x"', b"1", b"null", b"\xff",
]  # fmt: skip
EVENTS: Final[tuple[Event, ...]] = (
    ReasoningDelta("r"),
    TextDelta("中"),
    ToolCallDelta(0, "c", "f", "{}"),
    Finish("stop"),
    Usage(1, 2),
)
CODES: Final = frozenset({"invalid_request", "unsupported_parameter"})


def fuzz_one(data: bytes) -> None:
    """Read one body, and do with it what a gateway would.

    Raises:
        AssertionError: a face broke a promise; any other exception is a defect of it as well.
    """
    if not data:
        return
    face = FACES[data[0] % 4]
    before, after = WRAPPERS[(data[0] >> 2) % len(WRAPPERS)]
    body = before + data[1:] + after
    try:
        view = face.read(body)
    except RequestError as error:
        _check_refusal(face, error, body)
        return
    assert isinstance(view.affinity_text.encode(), bytes)
    assert view.choices >= 1
    assert view.timeout_s is None or view.timeout_s > 0
    encoder = face.encoder(view, "r", view.model, 1)
    streamed = face.encoder(view, "r", view.model, 1)
    json.loads(encoder.whole(EVENTS))
    assert (streamed.stream(EVENTS) + streamed.end()).endswith(b"\n\n") or face.name == "embeddings"
    try:
        if passes(face.name, "openai"):
            again_view = face.read(splice_request(body, view, "other", want_usage=True))
            assert again_view.model == "other", "what was spliced is a request for the other name"
            assert again_view.include_usage or not view.stream
        request = face.infer(body, view)
        again = json.loads(OpenAIDialect().encode(request, "up"))
        assert again["model"] == "up"
        embedded_supports(request)
        json.dumps(embedded_messages(request))
        json.loads(GenerateDialect().encode(request, "up"))
    except RequestError as error:
        _check_refusal(face, error, body)


def _check_refusal(face: Face, error: RequestError, body: bytes) -> None:
    assert error.code in CODES
    assert 0 < len(error.message) < 1_000, "a refusal can be read"
    assert error.code == "invalid_request" or error.param is not None, "what cannot be expressed is named"
    json.loads(face.error_body(error, "r", body))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
