"""A folder that holds one model, and nothing of it is used that its manifest does not name with size and hash.

    FOLDER/manifest.json      kind, how text becomes tokens, and the files
    FOLDER/…                  the files, all directly in it

Invariants: names are plain file names, so nothing outside the folder is opened; links and devices are refused; bytes
are handed out only when their SHA-256 is the manifest's. The version of a model follows from the manifest, so two
folders of one version hold the same model. Nothing in a folder is executed: no pickles, no code, no templates.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from open_autoglm.errors import ServerError

MANIFEST: Final = "manifest.json"
CONFIG: Final = "config.json"
FILE_TENSOR: Final = "file/"
"""What a name begins with that is no tensor but a file: so one safetensors file has room for a whole folder."""
MANIFEST_BYTES_MAX: Final = 1 << 20
JSON_BYTES_MAX: Final = 64 << 20  # a tokenizer of 150,000 words has some 20 MiB
FILES_MAX: Final = 512
FILE_BYTES_MAX: Final = 1 << 40
_READ_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_EXECUTABLE: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so")
"""Endings of files whose reading can run code; weights come as safetensors or ONNX."""

Kind = Literal["onnx", "transformers", "tensors"]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file's size and SHA-256, hexadecimal."""

    bytes: int
    sha256: str


class FolderManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json` of a folder.

    Attributes:
        kind: what runs it.
        text: how text becomes tokens and messages a prompt: `glm-nano`, or a layout of `tokenizers_layouts`.
        files: every file that may be used, by its name.
        context: most tokens of prompt and answer together; 0 for as many as `config.json` says.
        properties: what else `text` must know.
        format: of the manifest.
    """

    kind: Kind
    files: dict[str, FileEntry]
    text: str = ""
    context: int = 0
    properties: dict[str, Any] = {}
    format: Literal[1] = 1

    @property
    def version(self) -> str:
        """The name that follows from what the manifest holds."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


class ModelFolder:
    """A folder with its manifest, which is checked; its files are when they are read.

    Args:
        path: the folder.

    Raises:
        ServerError: `internal_error`, with what is wrong and what to do.
    """

    __slots__ = ("manifest", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise _refused(path, "is no folder")
        if not (path / MANIFEST).exists():
            raise _refused(
                path, f"has no {MANIFEST}; if it comes from where you trust, write one: autoglm export manifest"
            )
        data = self._read(MANIFEST, MANIFEST_BYTES_MAX)
        try:
            self.manifest = msgspec.json.decode(data, type=FolderManifest)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refused(path / MANIFEST, f"cannot be used: {error}") from error
        if len(self.manifest.files) > FILES_MAX:
            raise _refused(path / MANIFEST, f"names more than {FILES_MAX} files")
        for name, entry in self.manifest.files.items():
            self._check_entry(name, entry)

    @property
    def version(self) -> str:
        """Of the model in it."""
        return self.manifest.version

    def names(self, suffix: str) -> list[str]:
        """Names of the files that end so, sorted."""
        return sorted(name for name in self.manifest.files if name.endswith(suffix))

    def read(self, name: str, bytes_max: int = JSON_BYTES_MAX) -> bytes:
        """The bytes of a file, which are those that the manifest means.

        Raises:
            ServerError: `internal_error`, they are not, or there is no such file.
        """
        entry = self._entry(name, bytes_max)
        data = self._read(name, entry.bytes)
        self._compare(name, len(data), hashlib.sha256(data).hexdigest())
        return data

    def read_json(self, name: str) -> dict[str, Any]:
        """The object that a JSON file holds.

        Raises:
            ServerError: `internal_error`, as `read`, or it holds none.
        """
        try:
            fields = msgspec.json.decode(self.read(name))
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refused(self.path / name, f"is no JSON: {error}") from error
        if not isinstance(fields, dict):
            raise _refused(self.path / name, "holds no JSON object")
        return fields

    def checked_path(self, name: str) -> Path:
        """Path of a file whose bytes were compared just now, for libraries that open files themselves.

        Raises:
            ServerError: `internal_error`, as `read`.
        """
        entry = self._entry(name, FILE_BYTES_MAX)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(self._open(name), "rb", buffering=0) as file:
            while size <= entry.bytes and (data := file.read(_READ_BYTES)):
                digest.update(data)
                size += len(data)
        self._compare(name, size, digest.hexdigest())
        return self.path / name

    def refuse(self, name: str, reason: str) -> ServerError:
        """The error that says what is wrong with a file of this folder."""
        return _refused(self.path / name, reason)

    def _entry(self, name: str, bytes_max: int) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise _refused(self.path / name, f"is not named by {MANIFEST}")
        if entry.bytes > bytes_max:
            raise _refused(self.path / name, f"has {entry.bytes} bytes, more than {bytes_max}")
        return entry

    def _compare(self, name: str, size: int, sha256: str) -> None:
        entry = self.manifest.files[name]
        if (size, sha256) != (entry.bytes, entry.sha256):
            raise _refused(self.path / name, f"is not the file that {MANIFEST} names (size or SHA-256 differ)")

    def _check_entry(self, name: str, entry: FileEntry) -> None:
        if not _NAME.fullmatch(name) or name == MANIFEST:
            raise _refused(self.path / MANIFEST, f"names {name!r:.200}, which is no plain name of a file")
        if name.lower().endswith(_EXECUTABLE):
            raise _refused(self.path / name, "can run code when it is read; only safetensors and ONNX are loaded")
        if not 0 <= entry.bytes <= FILE_BYTES_MAX or not _SHA256.fullmatch(entry.sha256):
            raise _refused(self.path / MANIFEST, f"gives {name!r} a size or a hash that is none")

    def _read(self, name: str, bytes_max: int) -> bytes:
        with os.fdopen(self._open(name), "rb") as file:
            data = file.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise _refused(self.path / name, f"is longer than {bytes_max} bytes")
        return data

    def _open(self, name: str) -> int:
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _refused(self.path / name, f"cannot be opened: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _refused(self.path / name, "is no regular file")
        return descriptor


def write_manifest(
    path: Path,
    kind: Kind,
    names: Iterable[str],
    *,
    text: str = "",
    context: int = 0,
    properties: dict[str, Any] | None = None,
) -> FolderManifest:
    """Describe files of a folder as they are now; the caller vouches for them.

    Raises:
        ServerError: `internal_error`, the manifest would be refused.
        OSError: a file cannot be read, or the manifest not be written.
    """
    files = {}
    for name in sorted(names):
        with (path / name).open("rb") as file:
            files[name] = FileEntry(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    manifest = FolderManifest(kind=kind, files=files, text=text, context=context, properties=properties or {})
    (path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="deterministic")) + b"\n")
    return ModelFolder(path).manifest


def _refused(path: Path, reason: str) -> ServerError:
    return ServerError("internal_error", f"{str(path)!r} {reason}")
