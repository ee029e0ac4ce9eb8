"""Versions of models that come as folders, for ONNX Runtime and Transformers, in a model store.

A folder is put into the store tensor by tensor, in bounded pieces; what a version needs of memory is reckoned from its
manifest, before anything is loaded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from open_autoglm.engines.model_folder import CONFIG, FILE_TENSOR, ModelFolder
from open_autoglm.engines.onnx_check import NotANumber, check_numbers
from open_autoglm.engines.onnx_session import MODEL_BYTES_MAX, MODEL_FILE
from open_autoglm.engines.past_model import PastModel
from open_autoglm.engines.text_side import TOKENIZER_FILE
from open_autoglm.errors import ServerError
from open_autoglm.inference.model_store import CONFIG_BYTES_MAX, MANIFEST, WEIGHTS, ModelStore, StoredVersion
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.stored_folder import StoredFolder
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.layout import DTYPE_BYTES, HEADER_BYTES_MAX, Place, canonical, read_header
from open_autoglm.rollout.manifest import GoldenPrompt, Manifest, TensorEntry
from open_autoglm.rollout.refusal import UpdateRefused

_COPY_BYTES: Final = 4 << 20
_ONNX_TIMES: Final = 3
"""The graph's bytes, what the library makes of them, and what it packs anew for the processor."""
_TORCH_WEIGHT_BYTES: Final = 5
"""Of each weight: float32 on a CPU, and a quarter for what is loaded at that moment."""


class _Source(NamedTuple):
    """Where the bytes of one tensor are: a file, and the first of them."""

    path: Path
    at: int


def load(stored: StoredVersion, name: str, settings: EngineSettings) -> PastModel:
    """Make a stored version ready to compute; a `validation.Loader` but for its last two arguments.

    Args:
        stored: verified.
        name: of the engine that is to run it.
        settings: of the engine: threads, share of an accelerator.

    Raises:
        UpdateRefused: `format`, it is for another engine; `not_finite`, a weight is NaN; `memory`, it does not fit on
            the GPU beside the one that serves.
        ServerError: it cannot be used.
    """
    folder = StoredFolder(stored)
    if folder.manifest.kind == "onnx":
        from open_autoglm.engines.onnx_model import load_onnx

        try:
            check_numbers(folder.read(MODEL_FILE, MODEL_BYTES_MAX))
        except NotANumber as error:
            raise UpdateRefused("not_finite", f"{MODEL_FILE} of {name!r} {error}") from error
        return load_onnx(folder, name, settings.threads)
    from open_autoglm.engines.transformers_model import load_transformers

    try:
        return load_transformers(folder, name, settings.threads, settings.gpu_memory_fraction)
    except ServerError as error:
        if error.code == "overloaded":
            raise UpdateRefused("memory", error.message) from error
        raise


def needed_bytes(manifest: Manifest) -> int:
    """About how much memory a version takes while it is loaded and runs, beside keys and values."""
    if manifest.properties.get("engine") == "onnx":
        return _ONNX_TIMES * manifest.weights_bytes
    weights = sum((place.end - place.start) // DTYPE_BYTES[place.dtype] for place in manifest.places())
    return _TORCH_WEIGHT_BYTES * weights


def adopt(
    store: ModelStore,
    name: str,
    folder: ModelFolder,
    *,
    parent: str | None = None,
    golden: tuple[GoldenPrompt, ...] = (),
) -> Manifest:
    """Put the model of a folder into the store; return the manifest of what is there then.

    Raises:
        UpdateRefused: the disk is full, or the folder is of a kind that has no versions.
        ServerError: a file is not what the folder's manifest names.
    """
    manifest, config, sources = _described(folder, name, parent, golden)
    if store.key is not None:
        manifest = manifests.sign(manifest, store.key)
    if manifest.version in store.versions(name):
        return manifest
    staging = store.stage(manifest, config)
    try:
        _copy(manifest, sources, staging.write)
        with staging.opened() as stored:
            stored.verify()  # the folder could have changed between the hashes and the copy
        staging.publish()
    except BaseException:
        staging.discard()
        raise
    store.prune(name)
    return manifest


def pack(
    folder: ModelFolder, out: Path, name: str, key: bytes | None, *, golden: tuple[GoldenPrompt, ...] = ()
) -> Manifest:
    """Write the model of a folder as a version that can be sent, or put into a node's `incoming`; return its manifest.

    Args:
        folder: with its manifest.
        out: a folder that does not exist, or is empty.
        name: of the model.
        key: of the cluster, to sign with; None for nodes that take unsigned ones.
        golden: questions that it must answer so.

    Raises:
        UpdateRefused, ServerError: as `adopt`.
        OSError: it cannot be written.
    """
    manifest, config, sources = _described(folder, name, None, golden)
    if key is not None:
        manifest = manifests.sign(manifest, key)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UpdateRefused("storage", f"{str(out)!r} is not empty; name a new folder")
    header = manifest.header()
    with (out / WEIGHTS).open("wb") as file:
        file.write(header)

        def write(start: int, data: bytes) -> None:
            file.seek(len(header) + start)
            file.write(data)

        _copy(manifest, sources, write)
    (out / CONFIG).write_bytes(config)
    with StoredVersion(out, key, manifest) as stored:
        stored.verify()
    (out / MANIFEST).write_bytes(manifest.encode())  # the last: a folder that is watched is now complete
    return manifest


def _described(
    folder: ModelFolder, name: str, parent: str | None, golden: tuple[GoldenPrompt, ...]
) -> tuple[Manifest, bytes, dict[str, _Source]]:
    """The version that a folder holds, its configuration, and where its tensors are."""
    kind = folder.manifest.kind
    if kind == "tensors":
        raise UpdateRefused("format", f"models for {kind!r} have no versions here")
    found: list[Place] = []
    sources: dict[str, _Source] = {}
    for file in folder.names(".safetensors") if kind == "transformers" else ():
        path = folder.checked_path(file)
        with path.open("rb") as opened:
            places, body_at = read_header(opened.read(HEADER_BYTES_MAX + 8), path.stat().st_size)
        found += places
        sources |= {place.name: _Source(path, body_at + place.start) for place in places}
    for file in (MODEL_FILE, TOKENIZER_FILE) if kind == "onnx" else (TOKENIZER_FILE,):
        if file in folder.manifest.files:
            size = folder.manifest.files[file].bytes
            found.append(Place(FILE_TENSOR + file, "U8", (size,), 0, size))
            sources[FILE_TENSOR + file] = _Source(folder.checked_path(file), 0)
    config = folder.read(CONFIG, CONFIG_BYTES_MAX)
    whole, tensors = hashlib.sha256(), []
    for place in canonical(found):
        part = hashlib.sha256()
        for data in _pieces(sources[place.name], place.end - place.start):
            part.update(data)
            whole.update(data)
        tensors.append(TensorEntry(place.name, place.dtype, place.shape, place.start, part.hexdigest()))
    told = folder.manifest
    manifest = Manifest(
        name=name,
        version="",
        parent=parent,
        config_sha256=hashlib.sha256(config).hexdigest(),
        weights_sha256=whole.hexdigest(),
        weights_bytes=sum(place.end - place.start for place in found),
        tensors=tuple(tensors),
        properties={"engine": kind, "text": told.text, "context": told.context, "text_properties": told.properties},
        golden=golden,
    )
    manifest = replace(manifest, version=manifests.content_version(manifest))
    manifests.check(manifest)
    return manifest, config, sources


def _copy(manifest: Manifest, sources: dict[str, _Source], write: Callable[[int, bytes], None]) -> None:
    for place in manifest.places():
        at = place.start
        for data in _pieces(sources[place.name], place.end - place.start):
            write(at, data)
            at += len(data)


def _pieces(source: _Source, size: int) -> Iterator[bytes]:
    """The bytes of a tensor, in pieces of 4 MiB at most."""
    descriptor = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for start in range(0, size, _COPY_BYTES):
            data = os.pread(descriptor, min(_COPY_BYTES, size - start), source.at + start)
            yield data
            if len(data) < min(_COPY_BYTES, size - start):
                raise UpdateRefused("storage", f"{str(source.path)!r} is shorter than it was")
    finally:
        os.close(descriptor)
