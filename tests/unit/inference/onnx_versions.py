"""Versions of the ONNX graph of the tests: the same graph with other weights, packed and put on their way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from open_autoglm.engines.model_folder import ModelFolder, write_manifest

FIXTURE = Path(__file__).parents[2] / "data" / "onnx" / "tiny-glm"
PROPERTIES = {"tasks": ["chat"], "digits_max": 4}


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, value and place of the fields of a message of Protocol Buffers."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < end:
        tag = varint()
        value = varint()
        yield tag >> 3, tag & 7, value, at
        if tag & 7 == 2:
            at += value


def weights(data: bytes) -> list[tuple[int, int]]:
    """Where the matrices of a graph are: place and bytes of each."""
    found = []
    for field, _, size, at in _fields(data, 0, len(data)):
        for inner, _, part, place in _fields(data, at, at + size) if field == 7 else ():
            if inner != 5:
                continue
            held = {number: (value, start) for number, _, value, start in _fields(data, place, place + part)}
            if held.get(2, (0, 0))[0] == 1 and 9 in held and held[9][0] > 256:
                found.append((held[9][1], held[9][0]))
    return found


def noisy(data: bytes, scale: float, seed: int) -> bytes:
    """The same graph with so much noise in its weights, of their own size; `nan` gives no numbers."""
    changed = bytearray(data)
    chance = np.random.default_rng(seed)
    assert weights(data)
    for at, size in weights(data):
        numbers = np.frombuffer(data, "<f4", size // 4, at)
        noise = chance.standard_normal(len(numbers)).astype(np.float32) * numbers.std()
        changed[at : at + size] = (numbers + np.float32(scale) * noise).astype("<f4").tobytes()
    return bytes(changed)


def folder(path: Path, *, seed: int = 0, scale: float = 0.0, model: bytes | None = None) -> ModelFolder:
    """A folder with a version of the graph."""
    shutil.copytree(FIXTURE, path)
    data = (path / "model.onnx").read_bytes()
    (path / "model.onnx").write_bytes(model if model is not None else noisy(data, scale, seed) if scale else data)
    write_manifest(path, "onnx", ["config.json", "model.onnx"], text="glm-nano", context=96, properties=PROPERTIES)
    return ModelFolder(path)
