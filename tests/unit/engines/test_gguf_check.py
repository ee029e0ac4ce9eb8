"""Headers of GGUF files: what is well-formed passes, and nothing else reaches a library."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.engines.gguf_bytes import entry, file, tensor, text, tiny_llama

from open_autoglm.engines.gguf_check import ENTRIES_MAX, check_gguf


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_a_model_passes(path: Path) -> None:
    check_gguf(tiny_llama(path))


def test_quantised_blocks_and_other_alignments_pass(path: Path) -> None:
    path.write_bytes(file([entry("general.alignment", 8)], [tensor("a", (2, 64), 0, kind=8)], bytes(160)))
    check_gguf(path)


@pytest.mark.parametrize("size", [0, 3, 4, 8, 16, 23, 24, 60, 3000])
def test_a_truncated_header_is_refused(path: Path, size: int) -> None:
    path.write_bytes(tiny_llama(path).read_bytes()[:size])
    with pytest.raises(ValueError, match=r"ends inside|no GGUF"):
        check_gguf(path)


def test_a_truncated_body_is_refused(path: Path) -> None:
    path.write_bytes(tiny_llama(path).read_bytes()[:-64])
    with pytest.raises(ValueError, match="not in the file"):
        check_gguf(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGML" + bytes(40), "no GGUF"),
        (file([], [], version=1), "version"),
        (file([], [], version=1 << 31), "version"),
        (file([], [], entry_count=1 << 60), "at most"),
        (file([], [], tensor_count=ENTRIES_MAX + 1), "at most"),
        (file([], [], tensor_count=ENTRIES_MAX), "ends inside"),
        (file([struct.pack("<Q", 1 << 62)], []), "name of"),
        (file([entry("a", 1), entry("a", 2)], []), "two entries"),
        (file([text("a") + struct.pack("<I", 13)], []), "value of type 13"),
        (file([text("a") + struct.pack("<IIQ", 9, 9, 1)], []), "value of type 9"),
        (file([text("a") + struct.pack("<IIQ", 9, 0, 1 << 62)], []), "values"),
        (file([text("a") + struct.pack("<IIQ", 9, 8, 1 << 20)], []), "ends inside"),
        (file([text("a") + struct.pack("<IQ", 8, 1 << 62)], []), "ends inside"),
        (file([entry("general.alignment", 0)], []), "aligned"),
        (file([entry("general.alignment", 3)], []), "aligned"),
        (file([], [tensor("a", (), 0)]), "dimensions"),
        (file([], [tensor("a", (1,) * 5, 0)]), "dimensions"),
        (file([], [tensor("a", (0,), 0)]), "whole blocks"),
        (file([], [tensor("a", (33,), 0, kind=8)], bytes(64)), "whole blocks"),
        (file([], [tensor("a", (1,), 0, kind=99)], bytes(64)), "type 99"),
        (file([], [tensor("a", (1,), 1)], bytes(64)), "not in the file"),
        (file([], [tensor("a", (1,), 1 << 40)], bytes(64)), "not in the file"),
        (file([], [tensor("a", (1 << 40, 1 << 40), 0)], bytes(64)), "not in the file"),
    ],
)
def test_what_a_header_must_not_claim(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        check_gguf(path)


WHOLE = file([entry("a", "b"), entry("c", [1, 2])], [tensor("t", (2, 3), 0)], bytes(24))


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_passes_or_is_refused(path: Path, place: int, value: int) -> None:
    path.write_bytes(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :])
    with contextlib.suppress(ValueError):
        check_gguf(path)
        assert path.read_bytes()[:4] == b"GGUF"
