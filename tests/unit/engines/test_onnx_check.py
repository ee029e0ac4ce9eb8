"""What an ONNX file may refer to: nothing outside itself."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engines.onnx_bytes import external, model, number, part, varint

from open_autoglm.engines.onnx_check import DEPTH_MAX, check_onnx

FIXTURE = Path(__file__).parents[2] / "data" / "onnx" / "tiny-glm" / "model.onnx"


def test_a_graph_of_our_own_export_passes() -> None:
    check_onnx(FIXTURE.read_bytes())


def node(attribute: bytes) -> bytes:
    return part(1, part(4, "Constant") + part(5, attribute))


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
@pytest.mark.parametrize(
    "place",
    [
        lambda tensor: part(5, tensor),
        lambda tensor: part(15, part(1, tensor)),
        lambda tensor: node(part(5, tensor)),
        lambda tensor: node(part(10, tensor)),
        lambda tensor: node(part(6, part(5, tensor))),
        lambda tensor: node(part(11, node(part(5, tensor)))),
    ],
    ids=["initializer", "sparse", "attribute", "list", "subgraph", "subgraph-attribute"],
)
def test_tensors_in_other_files_are_refused_wherever_they_hide(location: str, place: object) -> None:
    assert callable(place)
    with pytest.raises(ValueError, match="other files"):
        check_onnx(model(place(external(location))))


def test_tensors_in_other_files_are_refused_in_functions() -> None:
    with pytest.raises(ValueError, match="other files"):
        check_onnx(model(b"", part(25, part(7, part(5, part(5, external("x")))))))


def test_either_sign_of_another_file_is_enough() -> None:
    for tensor in (number(14, 1), part(13, b"")):
        with pytest.raises(ValueError, match="other files"):
            check_onnx(model(part(5, tensor)))
    check_onnx(model(part(5, number(14, 0) + part(9, b"1234"))))


@pytest.mark.parametrize("domain", ["evil.ops", "com.microsoft.extensions", "ai.onnx.contrib"])
def test_foreign_operators_are_refused(domain: str) -> None:
    for data in (model(part(1, part(7, domain))), model(b"", part(8, part(1, domain)))):
        with pytest.raises(ValueError, match="uses operators"):
            check_onnx(data)


def test_graphs_in_graphs_without_end_are_refused() -> None:
    graph = b""
    for _ in range(DEPTH_MAX):
        graph = node(part(6, graph))
    with pytest.raises(ValueError, match="deeper"):
        check_onnx(model(graph))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 64,
        b"not a model",
        varint(7 << 3 | 2) + varint(1 << 60) + b"x",
        varint(7 << 3 | 2) + b"\xff" * 20,
        number(7, 1),
        b"\x3f",
    ],
)
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        check_onnx(data)


def test_a_truncated_model_is_refused() -> None:
    data = FIXTURE.read_bytes()
    for size in (*range(400), len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError):
            check_onnx(data[:size])


@given(st.binary(max_size=400))
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        check_onnx(data)
        assert b"\x3a" in data  # a graph, the least that a model has
