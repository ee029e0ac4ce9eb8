"""For any bytes: a relay notes failures and never raises, a split changes nothing, a face refuses politely."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    OpenAIRelay,
    TextDelta,
    ToolCallDelta,
    Usage,
    splice_request,
)
from open_autoglm.dialects.document import integers
from open_autoglm.dialects.gathering import Gathering
from open_autoglm.dialects.generate_answer import GenerateDecoder
from open_autoglm.dialects.sse import EventReader
from open_autoglm.errors import RequestError

# A slow machine is no failure.
UNTIMED = settings(deadline=None)
FACES: list[Face] = [ChatFace(), CompletionsFace(), EmbeddingsFace(), McpFace()]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return json.dumps({"id": "c", "choices": [choice]}, ensure_ascii=False).encode()


@st.composite
def written_events(draw: st.DrawFn, data: bytes) -> bytes:
    """One event in any legal form."""
    end = draw(ends)
    before = draw(st.sampled_from([b"", b": note", b"id: 7", b"retry: 1", b"event: message", b"\xef"]))
    space = draw(st.sampled_from([b" ", b""])) if not data.startswith(b" ") else b" "
    lines = [before] if before else []
    lines.append(b"data:" + space + data)
    return b"".join(line + end for line in [*lines, b""])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, str]:
    """A whole answer as a legal event stream, and its text."""
    pieces = draw(st.lists(texts, max_size=6))
    data = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": piece}) for piece in pieces),
        chunk({}, "stop"),
    ]
    if draw(st.booleans()):
        data.append(b"[DONE]")
    begin = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return begin + b"".join(draw(written_events(one)) for one in data), "".join(pieces)


@st.composite
def splits(draw: st.DrawFn, payload: bytes) -> list[bytes]:
    """The same bytes in several payloads."""
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=8)))
    edges = [0, *cuts, len(payload)]
    return [payload[begin:end] for begin, end in itertools.pairwise(edges)]


def relayed(payloads: list[bytes], **options: Any) -> tuple[bytes, OpenAIRelay]:
    relay = OpenAIRelay("chat", **options)
    out = b"".join(relay.feed(payload) for payload in payloads)
    return out + relay.end(), relay


def values_of(stream: bytes) -> list[Any]:
    """The data of a stream in any legal form, by the careful reader."""
    reader = EventReader()
    found = reader.feed(stream)
    return [data if data == b"[DONE]" else json.loads(data) for _, data in [*found, *reader.end()]]


@UNTIMED
@given(st.data(), streams(), st.booleans())
def test_any_split_of_a_legal_stream_gives_the_same(data: st.DataObject, stream: tuple[bytes, str], drop: bool) -> None:
    payload, text = stream
    out, relay = relayed(data.draw(splits(payload)), drop_usage=drop)
    assert relay.failure is None
    assert (relay.stage, relay.finish_reason, relay.delivered_chars) == (4, "stop", len(text))
    values = values_of(out)
    assert values[-1] == b"[DONE]"
    assert values[:-1] == [value for value in values_of(payload) if value != b"[DONE]"]
    assert "".join(value["choices"][0]["delta"].get("content", "") for value in values[:-1]) == text


@UNTIMED
@given(st.data(), streams())
def test_a_stream_that_is_cut_is_never_whole(data: st.DataObject, stream: tuple[bytes, str]) -> None:
    payload, text = stream
    at = data.draw(st.integers(0, payload.index(b'"stop"')))
    out, relay = relayed(data.draw(splits(payload[:at])))
    assert relay.failure is not None
    assert relay.failure.outcome == ("interrupted" if relay.stage >= 2 else "malformed")
    assert b"[DONE]" not in out
    shown = "".join(value["choices"][0]["delta"].get("content", "") for value in values_of(out))
    assert text.startswith(shown)
    assert relay.delivered_chars == len(shown)


@UNTIMED
@given(st.data(), streams(), st.binary(max_size=40))
def test_damage_shows_nothing_that_was_not_read(data: st.DataObject, stream: tuple[bytes, str], noise: bytes) -> None:
    payload, _ = stream
    at = data.draw(st.integers(0, len(payload)))
    gone = data.draw(st.integers(0, 10))
    out, relay = relayed(data.draw(splits(payload[:at] + noise + payload[at + gone :])))
    for value in values_of(out):
        assert value == b"[DONE]" or isinstance(value["choices"], list) or "usage" in value
    assert out.endswith(b"[DONE]\n\n") is (relay.failure is None)


@UNTIMED
@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from(["chat", "completion", "embedding"]))
def test_no_bytes_make_a_relay_raise(payloads: list[bytes], kind: Any) -> None:
    relay = OpenAIRelay(kind, drop_usage=True)
    for payload in payloads:
        relay.feed(payload)
    relay.end()
    whole = OpenAIRelay(kind)
    shown = whole.whole(b"".join(payloads), "application/json")
    assert bool(shown) is (whole.failure is None)


@UNTIMED
@given(
    st.data(),
    st.lists(
        st.sampled_from([b"data: ", b"{", b"}", b"\n\n", b"\r", b'"text":', b'"a"', b'["b"]', b"\0"]), max_size=12
    ),
)
def test_no_bytes_make_the_plain_dialect_raise(data: st.DataObject, pieces: list[bytes]) -> None:
    payload = b"".join(pieces)
    decoder = GenerateDecoder("a")
    for part in data.draw(splits(payload)):
        decoder.feed(part)
    decoder.end()
    once = GenerateDecoder("a")
    once.feed(payload)
    once.end()
    assert (decoder.failure is None) is (once.failure is None)
    GenerateDecoder("a").whole(payload, "")


@UNTIMED
@given(json_values, st.sampled_from(["chat", "completion", "embedding"]))
def test_any_json_as_an_answer(value: Any, kind: Any) -> None:
    written = json.dumps(value).encode()
    relay = OpenAIRelay(kind)
    relay.feed(b"data: " + written + b"\n\n")
    assert relay.end() == b""
    assert relay.failure is not None
    for decoder in (OpenAIDialect().decoder(False), GenerateDialect().decoder(False)):
        decoder.whole(written, "")
    OpenAIRelay(kind).whole(written, "")


def refusal(face: Face, data: bytes) -> RequestError | None:
    """Read a body whole; what is refused, and nothing else, may be raised."""
    try:
        view = face.read(data)
        face.infer(data, view)
    except RequestError as error:
        return error
    assert view.prompt_bytes > 0
    assert view.affinity_text
    return None


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
@UNTIMED
@given(data=st.binary(max_size=200))
def test_a_face_refuses_any_bytes(face: Face, data: bytes) -> None:
    error = refusal(face, data)
    assert error is not None
    assert error.code == "invalid_request"
    assert face.error_body(error, "req-1", data)


READ = ("model", "messages", "prompt", "input", "n", "stop", "tools", "stream", "payload", "opcode", "meta", "type")


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
@UNTIMED
@given(fields=st.dictionaries(st.sampled_from(READ), json_values))
def test_a_face_refuses_or_reads_any_fields(face: Face, fields: dict[str, Any]) -> None:
    whole = {"model": "m", "messages": [{"role": "user"}], "prompt": "x", "input": "y", "opcode": 10, **fields}
    error = refusal(face, json.dumps(whole).encode())
    assert error is None or error.code == "invalid_request"


@UNTIMED
@given(
    st.dictionaries(
        texts.filter(lambda name: name not in ("model", "messages", "stream_options", "stream")),
        json_values,
        max_size=5,
    ),
    texts.filter(bool),
    texts.filter(bool),
    st.booleans(),
    st.integers(0, 6),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")]),
    st.booleans(),
)
def test_splicing_changes_what_it_should_and_nothing_else(
    fields: dict[str, Any],
    model: str,
    upstream: str,
    usage: bool,
    at: int,
    separators: tuple[str, str],
    ascii_only: bool,
) -> None:
    ours = [("model", model), ("messages", [{"role": "user", "content": model * 300}]), ("stream", True)]
    items = [
        (name, value)
        for name, value in fields.items()
        if name not in ("n", "stop", "tools", "api_key", "api_base", "base_url")
    ]
    items[at:at] = ours
    data = json.dumps(dict(items), separators=separators, ensure_ascii=ascii_only).encode()
    view = ChatFace().read(data)
    changed = splice_request(data, view, upstream, usage)
    expected = dict(items) | {"model": upstream}
    if usage:
        expected["stream_options"] = {"include_usage": True}
    assert json.loads(changed) == expected
    assert list(json.loads(changed)) == list(expected)
    assert list(integers(changed)) == list(integers(data))
    again = ChatFace().read(changed)
    assert (again.model, again.include_usage) == (upstream, usage)


messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": texts | st.none()},
        optional={"name": texts.filter(bool), "tool_call_id": texts.filter(bool), "extra": json_values},
    ),
    min_size=1,
    max_size=4,
)


@UNTIMED
@given(messages, st.dictionaries(texts, st.integers() | texts, max_size=3), st.floats(0, 2) | st.none())
def test_a_request_survives_reading_and_writing(
    given_messages: list[Any], extra: dict[str, Any], temperature: float | None
) -> None:
    face = ChatFace()
    known = {"model", "messages", "n", "stop", "tools", "user", "seed", "api_key", "api_base", "base_url"}
    fields = {name: value for name, value in extra.items() if name not in known}
    data = json.dumps({**fields, "model": "m", "messages": given_messages, "temperature": temperature}).encode()
    request = face.infer(data, face.read(data))
    written = OpenAIDialect().encode(request, "m")
    assert face.infer(written, face.read(written)) == request


pieces: st.SearchStrategy[Event] = st.one_of(
    st.builds(TextDelta, texts), st.builds(ToolCallDelta, st.integers(0, 2), texts, texts, texts)
)


@UNTIMED
@given(st.lists(pieces, max_size=8), st.integers(0, 2**40), st.integers(0, 2**40))
def test_what_an_encoder_writes_a_decoder_reads(
    events: list[Event], prompt_tokens: int, completion_tokens: int
) -> None:
    given_events: list[Event] = [*events, Finish("stop"), Usage(prompt_tokens, completion_tokens)]
    face = ChatFace()
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    view = face.read(json.dumps(body).encode())
    streamed, whole = (face.encoder(view, "r", "m", 1) for _ in range(2))
    decoder = OpenAIDialect().decoder(True)
    read = [
        *decoder.feed(b"".join(streamed.stream([event]) for event in given_events) + streamed.end()),
        *decoder.end(),
    ]
    assert decoder.failure is None
    assert summary(read) == summary(given_events)
    unary = OpenAIDialect().decoder(False)
    assert summary(list(unary.whole(whole.whole(given_events), ""))) == summary(given_events)


def summary(events: list[Event]) -> Any:
    """What an answer says, however it was cut into events."""
    choice = Gathering(events).choices[0]
    calls = [(call.id, call.name, call.arguments) for call in choice.tool_calls()]
    return "".join(choice.text), calls, choice.finish_reason, [event for event in events if isinstance(event, Usage)]
