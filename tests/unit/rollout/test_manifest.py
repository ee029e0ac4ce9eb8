"""Manifests: content addressed, signed, and refused when anything in them contradicts the rest."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest

from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.layout import Place, canonical_body, read_header, write_header
from open_autoglm.rollout.manifest import GoldenPrompt, Manifest, read_manifest, sign
from open_autoglm.rollout.refusal import UpdateRefused

KEY = b"k" * 32
PLACES = [Place("a", "F16", (2, 3), 0, 12), Place("b", "F32", (4,), 12, 28)]
BODY = bytes(range(28))
CONFIG = b'{"model_type":"glm"}'


def made(**fields: Any) -> Manifest:
    return manifests.build("glm", PLACES, BODY, CONFIG, **fields)


def reason_of(data: bytes, key: bytes | None = None) -> str:
    with pytest.raises(UpdateRefused) as caught:
        read_manifest(data, key)
    return caught.value.reason


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = sign(made(properties={"tasks": ["x"]}, golden=(GoldenPrompt("1 + 1", "2"),)), KEY)
    assert read_manifest(manifest.encode(), KEY) == manifest


def test_the_version_follows_from_what_decides_answers_and_from_nothing_else() -> None:
    version = made().version
    assert manifests.build("other", PLACES, BODY, CONFIG, parent="0" * 64).version == version
    assert manifests.build("glm", PLACES, BODY[:-1] + b"x", CONFIG).version != version
    assert manifests.build("glm", PLACES, BODY, CONFIG + b" ").version != version
    assert made(properties={"digits": 4}).version != version


def test_any_changed_field_is_refused() -> None:
    fields = json.loads(sign(made(parent="1" * 64), KEY).encode())
    changes = {
        "name": "glm2",
        "version": "0" * 64,
        "parent": "2" * 64,
        "format": "pickle",
        "config_sha256": "3" * 64,
        "weights_sha256": "4" * 64,
        "weights_bytes": 29,
        "properties": {"tasks": []},
        "golden": [{"prompt": "a", "answer": "b"}],
        "tensors": fields["tensors"][:1],
        "signature": "5" * 64,
    }
    assert changes.keys() == fields.keys()
    for name, value in changes.items():
        data = json.dumps(fields | {name: value}).encode()
        assert reason_of(data, KEY) in ("manifest", "signature", "format"), name


def test_a_manifest_by_another_key_or_by_none_is_refused() -> None:
    assert reason_of(sign(made(), b"other").encode(), KEY) == "signature"
    assert reason_of(made().encode(), KEY) == "signature"
    assert read_manifest(made().encode()).signature == ""


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"name":1}', b"x" * (5 << 20)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    assert reason_of(data) == "manifest"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\0", "é", "x" * 129, "../../etc"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(UpdateRefused):
        manifests.check_name(name)


def test_tensors_out_of_order_or_twice_are_refused() -> None:
    manifest = made()
    for tensors in (manifest.tensors[::-1], (manifest.tensors[0],) * 2):
        assert reason_of(msgspec.structs.replace(manifest, tensors=tensors).encode()) == "manifest"


def test_a_file_in_any_order_becomes_the_same_bytes() -> None:
    swapped = [Place("b", "F32", (4,), 0, 16), Place("a", "F16", (2, 3), 16, 28)]
    data = write_header(swapped) + BODY[12:] + BODY[:12]
    assert canonical_body(data) == (PLACES, BODY)
    assert canonical_body(write_header(PLACES) + BODY) == (PLACES, BODY)


def header(fields: object) -> bytes:
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text


A = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 1 << 40),
        header(b"no json"),
        header([]),
        header(b'{"a":' + json.dumps(A).encode() + b',"a":' + json.dumps(A).encode() + b"}") + bytes(4),
        header({"a": A | {"extra": 1}}) + bytes(4),
        header({"a": A | {"dtype": "F8"}}) + bytes(4),
        header({"a": A | {"shape": [3]}}) + bytes(4),
        header({"a": A | {"shape": [-2]}}) + bytes(4),
        header({"a": A | {"shape": [True, 2]}}) + bytes(4),
        header({"a": A | {"data_offsets": [4, 8]}}) + bytes(8),
        header({"a": A, "b": A}) + bytes(4),
        header({"a": A}) + bytes(5),
        header({"a": A}) + bytes(3),
        header({"": A}) + bytes(4),
    ],
)
def test_a_file_that_its_header_does_not_account_for_is_refused(data: bytes) -> None:
    with pytest.raises(UpdateRefused) as caught:
        read_header(data, len(data))
    assert caught.value.reason == "format"
