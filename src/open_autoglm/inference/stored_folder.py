"""A stored version seen as the folder of a model: what ONNX Runtime and Transformers load from a model store.

A version's weights file holds the tensors of a Transformers model, and every file beside its configuration as a tensor
of bytes, `file/NAME`; so the store, the manifest, the protocol and the differences are those of every other model.

Invariant: bytes are handed out of the file that the version opened, after they were compared with its manifest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from open_autoglm.engines.model_folder import (
    CONFIG,
    FILE_TENSOR,
    JSON_BYTES_MAX,
    FileEntry,
    FolderManifest,
    ModelFolder,
)
from open_autoglm.inference.model_store import WEIGHTS, StoredVersion
from open_autoglm.rollout.layout import Place
from open_autoglm.rollout.refusal import UpdateRefused

KINDS = ("onnx", "transformers")


class StoredFolder(ModelFolder):
    """See the module.

    Args:
        stored: the version, whose hashes were verified.

    Raises:
        UpdateRefused: `format`, it is for another engine, or its properties are none of a folder.
    """

    __slots__ = ("_places", "_stored")

    def __init__(self, stored: StoredVersion) -> None:
        self.path = stored.path
        self._stored = stored
        told: dict[str, Any] = stored.manifest.properties
        kind, text, context = told.get("engine"), told.get("text"), told.get("context")
        more = told.get("text_properties")
        if kind not in KINDS:
            raise UpdateRefused("format", f"{stored.manifest.name!r} is for engine {kind!r:.80}, not one of {KINDS}")
        if not isinstance(text, str) or type(context) is not int or not isinstance(more, dict):
            raise UpdateRefused("format", f"the properties of {stored.manifest.name!r} do not say its text and context")
        hashes = {entry.name: entry.sha256 for entry in stored.manifest.tensors}
        self._places: dict[str, Place] = {}
        files = {CONFIG: FileEntry(len(stored.config), stored.manifest.config_sha256)}
        for place in stored.manifest.places():
            if place.name.startswith(FILE_TENSOR):
                name = place.name.removeprefix(FILE_TENSOR)
                self._places[name] = place
                files[name] = FileEntry(place.end - place.start, hashes[place.name])
        self.manifest = FolderManifest(kind=kind, files=files, text=text, context=context, properties=more)

    @property
    def version(self) -> str:
        """That of the store."""
        return self._stored.manifest.version

    def names(self, suffix: str) -> list[str]:
        """As `ModelFolder.names`; all tensors are in one file."""
        return [WEIGHTS] if WEIGHTS.endswith(suffix) else super().names(suffix)

    def read(self, name: str, bytes_max: int = JSON_BYTES_MAX) -> bytes:
        """As `ModelFolder.read`."""
        self._entry(name, bytes_max)
        place = self._places.get(name)
        data = self._stored.config if place is None else self._stored.read(place.start, place.end)
        self._compare(name, len(data), hashlib.sha256(data).hexdigest())
        return data

    def checked_path(self, name: str) -> Path:
        """Path of the weights file, whose tensors were verified before the version was loaded."""
        if name != WEIGHTS:
            raise self.refuse(name, "is no file of its own")
        return self.path / WEIGHTS
