"""Codecs: what arrives is what was announced, differences are small, and no payload unpacks to more than it may."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from open_autoglm.rollout import delta
from open_autoglm.rollout.chunks import CHUNK_BYTES_MIN, cut, ranges
from open_autoglm.rollout.delta import DELTA, INT8, RAW, BodySource, decode, quantise
from open_autoglm.rollout.refusal import UpdateRefused


def fp16(words: int, seed: int, near: bytes | None = None) -> bytes:
    values = np.random.default_rng(seed).standard_normal(words).astype(np.float32)
    if near is not None:
        values = np.frombuffer(near, "<f2").astype(np.float32) + values * np.float32(0.05)
    return values.astype("<f2").tobytes()


def rebuilt(source: BodySource, parent: bytes | None) -> tuple[bytes, set[int]]:
    parts, codecs = [], set()
    for index in range(source.plan.count):
        start, end = source.plan.span(index)
        codec, payload = source.encoded(index)
        codecs.add(codec)
        parts.append(decode(codec, payload, None if parent is None else parent[start:end], end - start))
    return b"".join(parts), codecs


PARENT = fp16(100_001, 1)
TARGET = fp16(100_001, 2, PARENT)


@pytest.mark.parametrize("word_bytes", [1, 2, 4])
def test_a_difference_is_exact_and_smaller(word_bytes: int) -> None:
    source = BodySource(cut(TARGET, CHUNK_BYTES_MIN), TARGET, PARENT, word_bytes=word_bytes)
    assert rebuilt(source, PARENT) == (TARGET, {DELTA})
    sent = sum(len(source.encoded(index)[1]) for index in range(source.plan.count))
    assert word_bytes != 2 or sent < 0.85 * len(TARGET)


def test_without_a_parent_the_bytes_go_as_they_are() -> None:
    assert rebuilt(BodySource(cut(TARGET, CHUNK_BYTES_MIN), TARGET), None) == (TARGET, {RAW})


def test_what_does_not_shrink_goes_as_it_is() -> None:
    noise = np.random.default_rng(3).bytes(CHUNK_BYTES_MIN)
    assert rebuilt(BodySource(cut(noise, CHUNK_BYTES_MIN), noise, PARENT), PARENT) == (noise, {RAW})


def test_int8_steps_are_rebuilt_exactly_and_are_smaller_than_the_exact_difference() -> None:
    made = quantise(TARGET, PARENT)
    plan = cut(made.body, CHUNK_BYTES_MIN)
    source = BodySource(plan, made.body, PARENT, quantised=made)
    assert rebuilt(source, PARENT) == (made.body, {INT8})
    sent = sum(len(source.encoded(index)[1]) for index in range(plan.count))
    exact = BodySource(cut(TARGET, CHUNK_BYTES_MIN), TARGET, PARENT)
    assert sent < sum(len(exact.encoded(index)[1]) for index in range(plan.count))


def test_a_chunk_that_int8_would_not_rebuild_falls_back_to_the_exact_difference() -> None:
    made = quantise(TARGET, PARENT)
    body = bytearray(made.body)
    body[CHUNK_BYTES_MIN + 7] ^= 1
    changed = bytes(body)
    source = BodySource(cut(changed, CHUNK_BYTES_MIN), changed, PARENT, quantised=made)
    assert rebuilt(source, PARENT) == (changed, {INT8, DELTA})


def test_what_int8_loses_is_made_good_by_the_next_round() -> None:
    first = quantise(TARGET, PARENT)
    lost = np.abs(first.residual).max()
    assert lost > 0
    second = quantise(TARGET, first.body, first.residual)
    third = quantise(TARGET, second.body, second.residual)
    wanted = np.frombuffer(TARGET, "<f2").astype(np.float32)
    error = [np.abs(np.frombuffer(q.body, "<f2").astype(np.float32) - wanted).mean() for q in (first, second, third)]
    assert error[2] < error[0]


def test_weights_that_are_not_finite_do_not_break_the_rounding() -> None:
    words = np.frombuffer(TARGET, "<f2").copy()
    words[5], words[300] = np.inf, np.nan
    made = quantise(words.tobytes(), PARENT)
    assert np.isfinite(made.scales).all()
    assert np.isfinite(made.residual).all()


def refused(codec: int, payload: bytes, parent: bytes | None, size: int) -> str:
    with pytest.raises(UpdateRefused) as caught:
        decode(codec, payload, parent, size)
    return caught.value.reason


def test_no_payload_unpacks_to_more_than_was_announced() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    assert refused(DELTA, b"\x02" + bomb, bytes(256), 256) == "chunk"
    assert refused(INT8, bomb, bytes(256), 256) == "chunk"
    assert refused(DELTA, b"\x02" + zlib.compress(bytes(255)), bytes(256), 256) == "chunk"
    assert refused(DELTA, b"\x02" + zlib.compress(bytes(256)) + b"x", bytes(256), 256) == "chunk"


@pytest.mark.parametrize(
    ("codec", "payload", "reason"),
    [
        (7, b"", "chunk"),
        (DELTA, b"", "chunk"),
        (DELTA, b"\x03" + zlib.compress(bytes(256)), "chunk"),
        (DELTA, b"\x02garbage", "chunk"),
        (INT8, zlib.compress(b"\xff\xff\xff\x7f" + bytes(128)), "chunk"),
    ],
)
def test_damaged_payloads_are_refused(codec: int, payload: bytes, reason: str) -> None:
    assert refused(codec, payload, bytes(256), 256) == reason


@pytest.mark.parametrize("parent", [None, bytes(255)])
def test_a_difference_without_its_parent_is_refused(parent: bytes | None) -> None:
    assert refused(DELTA, b"\x02" + zlib.compress(bytes(256)), parent, 256) == "parent"


def test_the_word_is_that_of_most_of_the_weights() -> None:
    assert delta.word_size({"F16": 10, "F32": 4}) == 2
    assert delta.word_size({"F16": 1, "F32": 4}) == 4
    assert delta.word_size({"I8": 4}) == delta.word_size({}) == 1


@pytest.mark.parametrize("chunk_bytes", [0, 256, (64 << 10) + 1, (64 << 20) + 256])
def test_a_plan_of_other_sizes_is_refused(chunk_bytes: int) -> None:
    with pytest.raises(UpdateRefused):
        cut(TARGET, chunk_bytes)


def test_missing_chunks_are_told_as_ranges_and_at_most_64_of_them() -> None:
    assert ranges(6, {0, 3}) == [(1, 2), (4, 2)]
    assert ranges(3, {0, 1, 2}) == []
    assert ranges(1000, set(range(0, 1000, 2)))[-1] == (127, 1)
