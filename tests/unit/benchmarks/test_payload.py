"""The fixed bytes, and the judgement of answers."""

import json

import pytest
from benchmarks.rig import payload


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (payload.request_body(), 446),
        (payload.request_body(payload.LONG_REQUEST_BYTES), 32768),
        (payload.request_body(stream=True), 446),
        (payload.request_body(stream=True, burst=True), 446),
        (payload.answer_body(), 629),
    ],
)
def test_sizes_are_exact_and_the_bytes_are_json(body: bytes, size: int) -> None:
    assert len(body) == size
    assert isinstance(json.loads(body), dict)


def test_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 100"):
        payload.request_body(100)


def test_stream_is_64_events_of_188_bytes_and_an_end() -> None:
    writes = payload.stream_writes()
    assert [len(piece) for piece in writes[:-1]] == [188] * 64
    assert len(set(writes)) == len(writes) == payload.STREAM_WRITES
    assert writes[-1].endswith(b"\n\ndata: [DONE]\n\n")


def test_whole_answers_have_no_fault_even_when_encoded_anew() -> None:
    assert payload.answer_fault(payload.answer_body()) == ""
    again = json.dumps(json.loads(payload.answer_body()) | {"extra": 1}, indent=2).encode()
    assert payload.answer_fault(again) == ""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"It is so", b"It is no", "text was changed"),
        (b'"total_tokens":151', b'"total_tokens":150', "usage was changed"),
        (b'"choices"', b'"choice"', "cannot be read"),
        (b"{", b"", "cannot be read"),
    ],
)
def test_a_changed_answer_is_a_fault(old: bytes, new: bytes, fault: str) -> None:
    assert fault in payload.answer_fault(payload.answer_body().replace(old, new))


def _stream_without(*numbers: int) -> bytes:
    return b"".join(piece for number, piece in enumerate(payload.stream_writes()) if number not in numbers)


def test_a_whole_stream_has_no_fault_even_when_encoded_anew() -> None:
    body = _stream_without()
    assert payload.stream_fault(body) == ""
    assert payload.stream_fault(body.replace(b"\n\n", b"\r\n\r\n").replace(b'":', b'" : ')) == ""


def test_dropped_doubled_and_swapped_events_are_faults() -> None:
    writes = payload.stream_writes()
    assert "text is" in payload.stream_fault(_stream_without(7))
    assert "text is" in payload.stream_fault(writes[3] + _stream_without())
    assert "text is" in payload.stream_fault(b"".join([writes[1], writes[0], *writes[2:]]))


def test_a_stream_must_end_with_reason_usage_and_mark() -> None:
    body = _stream_without()
    assert "[DONE]" in payload.stream_fault(_stream_without(64))
    assert "[DONE]" in payload.stream_fault(b"")
    assert "finish reason" in payload.stream_fault(body.replace(b'"finish_reason":"stop"', b'"finish_reason":null'))
    assert "usage" in payload.stream_fault(body.replace(b'"completion_tokens":64', b'"completion_tokens":63'))
    assert "cannot be read" in payload.stream_fault(body.replace(b"data: {", b"data: ", 1))
