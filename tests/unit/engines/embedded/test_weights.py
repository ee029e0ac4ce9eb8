"""The safetensors reader: what it reads, and everything that it refuses."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.engines.embedded import weights
from open_autoglm.errors import ServerError
from open_autoglm.rollout.layout import HEADER_BYTES_MAX

GOOD = {"a": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}


def file_of(header: object, body: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(**changes: object) -> dict[str, object]:
    return {"a": {**GOOD["a"], **changes}}


def test_reads_fp16_and_fp32_as_fp32() -> None:
    body = np.array([1.5, -2.0], "<f2").tobytes() + np.array([3.25], "<f4").tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "half": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "full": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]},
    }
    tensors = weights.parse_safetensors(file_of(header, body))
    assert tensors["half"].tolist() == [1.5, -2.0]
    assert tensors["full"].tolist() == [[3.25]]
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too few"),
        (bytes(7), "too few"),
        (struct.pack("<Q", 1 << 62) + bytes(64), "more than the file"),
        (struct.pack("<Q", HEADER_BYTES_MAX + 1) + bytes(HEADER_BYTES_MAX + 1), "more than the file"),
        (file_of(b"{"), "no JSON"),
        (file_of(b"\xff\xfe"), "no JSON"),
        (file_of(b"[" * 100_000), "no JSON"),
        (file_of([1]), "no JSON object"),
        (file_of(b'{"a":{"dtype":"F16","dtype":"F16","shape":[4],"data_offsets":[0,8]}}'), "twice"),
        (file_of({"a": 1}), "other fields"),
        (file_of(entry(extra=1)), "other fields"),
        (file_of(entry(dtype="I64", data_offsets=[0, 32]), bytes(32)), "only F16 and F32"),
        (file_of(entry(dtype=["F16"])), "of type"),
        (file_of(entry(shape=[], data_offsets=[0, 2]), bytes(2)), "of shape"),
        (file_of(entry(shape=[-2, -2])), "has shape"),
        (file_of(entry(shape=[True, 4])), "has shape"),
        (file_of(entry(shape=[1, 1, 1, 2, 2])), "of shape"),
        (file_of(entry(data_offsets=[0])), "at offsets"),
        (file_of(entry(data_offsets=[-8, 0])), "at offsets"),
        (file_of(entry(data_offsets=[0, 6])), "do not fit"),
        (file_of(entry(data_offsets=[8, 0])), "do not fit"),
        (file_of(entry(data_offsets=[8, 16]), bytes(16)), "gap or an overlap"),
        (file_of({**GOOD, "b": GOOD["a"]}), "gap or an overlap"),
        (file_of(GOOD, bytes(7)), "8 bytes, the body 7"),
        (file_of(GOOD, bytes(9)), "8 bytes, the body 9"),
    ],
)
def test_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights.parse_safetensors(data)


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 255))
def test_damaged_files_raise_nothing_but_value_error(tail: bytes, place: int, value: int) -> None:
    data = bytearray(file_of(GOOD) + tail)
    data[place % len(data)] = value
    try:
        tensors = weights.parse_safetensors(bytes(data))
    except ValueError:
        return
    assert sum(tensor.size for tensor in tensors.values()) <= len(data)


def test_checks_the_hash_before_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_of(GOOD))
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(weights.read_safetensors(path, right)) == ["a"]
    path.write_bytes(b"not a model")
    with pytest.raises(ServerError, match="SHA-256"):
        weights.read_safetensors(path, right)


def test_a_right_hash_does_not_excuse_a_wrong_format(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model at all")
    with pytest.raises(ServerError, match="header"):
        weights.read_safetensors(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_follows_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert weights.read_file(tmp_path / "real", 10) == b"x"
    with pytest.raises(ServerError, match="cannot be opened"):
        weights.read_file(tmp_path / "link", 10)


def test_reads_no_more_than_its_limit(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ServerError, match="larger than 10"):
        weights.read_file(tmp_path / "large", 10)
