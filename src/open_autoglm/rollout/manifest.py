"""What a version of a model is: its tensors, their hashes, and the name that follows from them.

Invariant: `version` is the SHA-256 over everything that decides the model's answers (configuration, properties and the
list of tensors with their hashes), so two versions of one name are one and the same, and a manifest whose version is
not that of its contents is refused. Name, parent and golden prompts are not in the version; the signature, HMAC-SHA256
by the cluster's key over the whole manifest, covers them too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any, Final

import msgspec

from open_autoglm.rollout.layout import (
    NAME_CHARS_MAX,
    TENSORS_MAX,
    Place,
    check_back_to_back,
    tensor_bytes,
    write_header,
)
from open_autoglm.rollout.refusal import UpdateRefused

MANIFEST_BYTES_MAX: Final = 4 << 20
GOLDEN_MAX: Final = 64
GOLDEN_CHARS_MAX: Final = 4096
FORMAT: Final = "safetensors/1"
_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor.

    Attributes:
        name, dtype, shape: as in the safetensors header.
        offset: first byte in the body.
        sha256: of its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    sha256: str


class GoldenPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question whose answer is known; `answer` is the whole text at temperature 0."""

    prompt: str
    answer: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A version of a model.

    Attributes:
        name: of the model.
        version: SHA-256, hexadecimal; see the module.
        parent: the version that this one was made from, or None.
        format: how the weights are stored.
        config_sha256: of `config.json`.
        weights_sha256: of the body: all tensors in the order of their names, back to back.
        weights_bytes: its size.
        properties: what the engine must know besides (tasks, digits, tokenizer), as JSON.
        golden: questions with known answers, asked before the version is visible.
        tensors: in the order of their names.
        signature: HMAC-SHA256, hexadecimal, or empty.
    """

    name: str
    version: str
    config_sha256: str
    weights_sha256: str
    weights_bytes: int
    tensors: tuple[TensorEntry, ...]
    parent: str | None = None
    format: str = FORMAT
    properties: dict[str, Any] = {}
    golden: tuple[GoldenPrompt, ...] = ()
    signature: str = ""

    def places(self) -> list[Place]:
        """Where each tensor lies in the body."""
        return [
            Place(t.name, t.dtype, t.shape, t.offset, t.offset + tensor_bytes(t.dtype, t.shape)) for t in self.tensors
        ]

    def header(self) -> bytes:
        """The safetensors header of this version's file."""
        return write_header(self.places())

    def encode(self) -> bytes:
        """The manifest as a file, one byte sequence per manifest."""
        return msgspec.json.encode(self, order="deterministic")


def build(
    name: str,
    places: list[Place],
    body: bytes,
    config: bytes,
    *,
    parent: str | None = None,
    properties: dict[str, Any] | None = None,
    golden: tuple[GoldenPrompt, ...] = (),
) -> Manifest:
    """Describe a version; not signed yet.

    Args:
        name: of the model.
        places: its tensors in canonical order.
        body: their bytes.
        config: bytes of its `config.json`.
        parent, properties, golden: see `Manifest`.

    Raises:
        UpdateRefused: `manifest`, what came out would be refused.
    """
    view = memoryview(body)
    manifest = Manifest(
        name=name,
        version="",
        parent=parent,
        config_sha256=hashlib.sha256(config).hexdigest(),
        weights_sha256=hashlib.sha256(body).hexdigest(),
        weights_bytes=len(body),
        properties=properties or {},
        golden=golden,
        tensors=tuple(
            TensorEntry(p.name, p.dtype, p.shape, p.start, hashlib.sha256(view[p.start : p.end]).hexdigest())
            for p in places
        ),
    )
    manifest = msgspec.structs.replace(manifest, version=content_version(manifest))
    check(manifest)
    return manifest


def content_version(manifest: Manifest) -> str:
    """The version that follows from what the manifest holds."""
    decisive = [
        manifest.format, manifest.config_sha256, manifest.weights_sha256, manifest.properties, manifest.tensors
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(decisive, order="deterministic")).hexdigest()


def sign(manifest: Manifest, key: bytes) -> Manifest:
    """The same manifest, signed."""
    return msgspec.structs.replace(manifest, signature=_signature(manifest, key))


def read_manifest(data: bytes, key: bytes | None = None) -> Manifest:
    """Read and check a manifest.

    Args:
        data: the file.
        key: of the cluster; None accepts manifests without a valid signature.

    Raises:
        UpdateRefused: `manifest` or `signature`.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise UpdateRefused("manifest", f"a manifest of {len(data)} bytes is longer than {MANIFEST_BYTES_MAX}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRefused("manifest", f"the manifest cannot be read: {error}") from error
    check(manifest)
    if key is not None and not hmac.compare_digest(manifest.signature.encode(), _signature(manifest, key).encode()):
        raise UpdateRefused("signature", f"the manifest of {manifest.name!r} is not signed by this cluster's key")
    return manifest


def check(manifest: Manifest) -> None:
    """Refuse (`manifest`, `format`) what contradicts itself."""
    check_name(manifest.name)
    if manifest.format != FORMAT:
        raise UpdateRefused("manifest", f"the format {manifest.format!r} is not {FORMAT!r}")
    if not 1 <= len(manifest.tensors) <= TENSORS_MAX or len(manifest.golden) > GOLDEN_MAX:
        raise UpdateRefused("manifest", f"{len(manifest.tensors)} tensors, {len(manifest.golden)} golden prompts")
    hashes = [manifest.version, manifest.config_sha256, manifest.weights_sha256, *(t.sha256 for t in manifest.tensors)]
    if manifest.parent is not None:
        hashes.append(manifest.parent)
    for value in hashes:
        if not _SHA256.fullmatch(value):
            raise UpdateRefused("manifest", f"{value[:80]!r} is no SHA-256 in hexadecimal")
    names = [tensor.name for tensor in manifest.tensors]
    if names != sorted(set(names)) or not all(1 <= len(name) <= NAME_CHARS_MAX for name in names):
        raise UpdateRefused("manifest", "the tensors are not in the order of their names, or one is named twice")
    if any(len(golden.prompt) + len(golden.answer) > GOLDEN_CHARS_MAX for golden in manifest.golden):
        raise UpdateRefused("manifest", f"a golden prompt is longer than {GOLDEN_CHARS_MAX} characters")
    check_back_to_back(manifest.places(), manifest.weights_bytes)
    if manifest.version != content_version(manifest):
        raise UpdateRefused("manifest", f"version {manifest.version!r} is not that of what the manifest holds")


def check_name(name: str) -> None:
    """Refuse (`manifest`) a name that is not 1 to 128 of `A-Za-z0-9._-`, or begins with a dot."""
    if not _NAME.fullmatch(name):
        raise UpdateRefused("manifest", f"{name[:160]!r} is no name of a model or version: 1 to 128 of A-Za-z0-9._-")


def _signature(manifest: Manifest, key: bytes) -> str:
    unsigned = msgspec.structs.replace(manifest, signature="")
    return hmac.new(key, b"autoglm manifest\n" + unsigned.encode(), hashlib.sha256).hexdigest()
