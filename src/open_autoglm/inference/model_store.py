"""Versions of models on disk, content addressed.

    FOLDER/NAME/VERSION/{manifest.json, config.json, model.safetensors}     a version that was verified
    FOLDER/NAME/current.json                                                which one serves, and which served before
    FOLDER/NAME/.staging-VERSION/…                                          one that is still arriving

Invariants: a version appears under its name by one rename, after all of its bytes were verified and synced, so whoever
sees it sees it whole; it never changes afterwards. No name from outside reaches a path unchecked and no link is
followed. At most `kept_max` versions of a model are kept, never fewer than the one that serves and the one before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.layout import HEADER_BYTES_MAX, canonical_body, read_header
from open_autoglm.rollout.manifest import MANIFEST_BYTES_MAX, GoldenPrompt, Manifest, check_name, read_manifest
from open_autoglm.rollout.refusal import UpdateRefused

CONFIG_BYTES_MAX: Final = 64 << 10
KEPT_MAX: Final = 4
MANIFEST: Final = "manifest.json"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
_STAGING: Final = ".staging-"
_CURRENT: Final = "current.json"
_READ_BYTES: Final = 1 << 20
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Current(msgspec.Struct, frozen=True):
    """Which version serves, and which served before it."""

    version: str
    before: str | None = None


class StoredVersion:
    """A version's folder, open: its files cannot be exchanged for others while it is read.

    Attributes:
        manifest: checked against itself; the bytes it names are checked by `verify`.
        config: bytes of `config.json`, with the hash that the manifest names.
        path: the folder.
    """

    __slots__ = ("_body_at", "_descriptor", "config", "manifest", "path")

    def __init__(self, path: Path, key: bytes | None, manifest: Manifest | None = None) -> None:
        self.path = path
        folder = _open_folder(path)
        try:
            self.manifest = manifest or read_manifest(_read(folder, MANIFEST, MANIFEST_BYTES_MAX), key)
            self.config = _read(folder, CONFIG, CONFIG_BYTES_MAX)
            if hashlib.sha256(self.config).hexdigest() != self.manifest.config_sha256:
                raise UpdateRefused("hash", f"{CONFIG} of {self.manifest.name!r} is not the one of the manifest")
            self._descriptor = _open(folder, WEIGHTS, os.O_RDONLY)
        finally:
            os.close(folder)
        try:
            size = os.fstat(self._descriptor).st_size
            places, self._body_at = read_header(os.pread(self._descriptor, HEADER_BYTES_MAX + 8, 0), size)
            if places != self.manifest.places():
                raise UpdateRefused("format", f"{WEIGHTS} of {self.manifest.name!r} holds other tensors than it should")
        except BaseException:
            os.close(self._descriptor)
            raise

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the body.

        Raises:
            UpdateRefused: `storage`, the disk does not give them.
        """
        return _read_span(self._descriptor, self._body_at + start, end - start)

    def body(self) -> bytes:
        """All of the body."""
        return self.read(0, self.manifest.weights_bytes)

    def file_bytes(self) -> bytes:
        """The whole weights file."""
        return _read_span(self._descriptor, 0, self._body_at + self.manifest.weights_bytes)

    def verify(self) -> None:
        """Compare every tensor, and the whole, with the manifest.

        Raises:
            UpdateRefused: `hash`.
        """
        whole = hashlib.sha256()
        for place, entry in zip(self.manifest.places(), self.manifest.tensors, strict=True):
            part = hashlib.sha256()
            for at in range(place.start, place.end, _READ_BYTES):
                data = self.read(at, min(at + _READ_BYTES, place.end))
                whole.update(data)
                part.update(data)
            if part.hexdigest() != entry.sha256:
                raise UpdateRefused("hash", f"tensor {entry.name!r} is not the one that the manifest names")
        if whole.hexdigest() != self.manifest.weights_sha256:
            raise UpdateRefused("hash", f"the weights of {self.manifest.name!r} are not those of the manifest")

    def close(self) -> None:
        """Close the weights file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> StoredVersion:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Staging:
    """A version that arrives: its weights file is there in full size, and filled piece by piece.

    Args:
        store: that it is part of.
        manifest, config: checked.

    Raises:
        UpdateRefused: `storage`, there is no room for it.
    """

    def __init__(self, store: ModelStore, manifest: Manifest, config: bytes) -> None:
        self.manifest = manifest
        self._store = store
        self._header = manifest.header()
        self.path = store.folder / manifest.name / f"{_STAGING}{manifest.version}"
        with _disk(f"version {manifest.version[:12]} of {manifest.name!r}"):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = _open_folder(self.path)
            try:
                _write(folder, CONFIG, config)
                self._descriptor = _open(folder, WEIGHTS, os.O_RDWR | os.O_CREAT)
            finally:
                os.close(folder)
            size = len(self._header) + manifest.weights_bytes
            self.resumed = os.fstat(self._descriptor).st_size == size
            try:
                os.ftruncate(self._descriptor, size)
                os.posix_fallocate(self._descriptor, 0, size)
                os.pwrite(self._descriptor, self._header, 0)
            except BaseException:
                self.close()
                raise

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the body as they are now."""
        return _read_span(self._descriptor, len(self._header) + start, end - start)

    def write(self, start: int, data: bytes) -> None:
        """Put a piece where it belongs.

        Raises:
            UpdateRefused: `storage`.
        """
        with _disk(f"version {self.manifest.version[:12]} of {self.manifest.name!r}"):
            view, at = memoryview(data), len(self._header) + start
            while view:
                written = os.pwrite(self._descriptor, view, at)
                view, at = view[written:], at + written

    def opened(self) -> StoredVersion:
        """The version as it would be read, to verify and to try it."""
        return StoredVersion(self.path, None, self.manifest)

    def publish(self) -> None:
        """Give the version its name: from now on it is there, and stays as it is.

        Raises:
            UpdateRefused: `storage`.
        """
        with _disk(f"version {self.manifest.version[:12]} of {self.manifest.name!r}"):
            os.fsync(self._descriptor)
            self.close()
            folder = _open_folder(self.path)
            try:
                _write(folder, MANIFEST, self.manifest.encode())
                os.fsync(folder)
            finally:
                os.close(folder)
            target = self.path.with_name(self.manifest.version)
            if target.exists():
                shutil.rmtree(self.path)  # content addressed: what is there is the same
            else:
                self.path.rename(target)
            _sync(target.parent)

    def close(self) -> None:
        """Close the file; what has arrived stays, to be gone on with."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Delete what has arrived."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)


class ModelStore:
    """See the module.

    Args:
        folder: where the models are; made when it is not there.
        key: of the cluster: manifests must be signed by it. None accepts unsigned ones.
        kept_max: versions of one model that are kept, at least 2.
    """

    def __init__(self, folder: Path, *, key: bytes | None = None, kept_max: int = KEPT_MAX) -> None:
        if kept_max < 2:
            raise ValueError(f"kept_max is {kept_max!r}; it must be at least 2")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = key
        self._kept_max = kept_max

    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(path.name for path in _folders(self.folder))

    def versions(self, name: str) -> list[str]:
        """Versions of a model that are there whole, the newest first."""
        check_name(name)
        found = [path for path in _folders(self.folder / name) if (path / MANIFEST).is_file()]
        return [path.name for path in sorted(found, key=lambda path: (-path.stat().st_mtime_ns, path.name))]

    def open(self, name: str, version: str) -> StoredVersion:
        """Open a version; its hashes are checked by `verify`, not here.

        Raises:
            UpdateRefused: `unknown`, or what is wrong with it.
        """
        check_name(name)
        check_name(version)
        path = self.folder / name / version
        if not path.is_dir():
            raise UpdateRefused("unknown", f"there is no version {version!r} of {name!r} here")
        stored = StoredVersion(path, self.key)
        if (stored.manifest.name, stored.manifest.version) != (name, version):
            stored.close()
            raise UpdateRefused("manifest", f"{str(path)!r} holds another version than its name says")
        return stored

    def stage(self, manifest: Manifest, config: bytes) -> Staging:
        """Begin to take a version, or go on; whatever else of that model was arriving is discarded.

        Raises:
            UpdateRefused: `hash`, the configuration is not the one of the manifest; `storage`.
        """
        manifests.check(manifest)
        if len(config) > CONFIG_BYTES_MAX or hashlib.sha256(config).hexdigest() != manifest.config_sha256:
            raise UpdateRefused("hash", f"{CONFIG} is not the one of the manifest")
        self.discard_staged(manifest.name, but=manifest.version)
        return Staging(self, manifest, config)

    def discard_staged(self, name: str, but: str = "") -> None:
        """Delete what was arriving of a model."""
        check_name(name)
        for path in self._staged(name):
            if path.name != f"{_STAGING}{but}":
                shutil.rmtree(path, ignore_errors=True)

    def expire_staged(self, before_s: float, but: Collection[str] = ()) -> None:
        """Delete what was arriving and has got nothing since then, but of models that are named.

        Args:
            before_s: seconds of the wall clock.
            but: names of models.
        """
        for name in self.names():
            for path in self._staged(name) if name not in but else ():
                if _written_s(path) < before_s:
                    shutil.rmtree(path, ignore_errors=True)

    def _staged(self, name: str) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in (self.folder / name).iterdir() if path.name.startswith(_STAGING)]
        return []

    def add(
        self,
        name: str,
        weights: bytes,
        config: bytes,
        *,
        parent: str | None = None,
        properties: dict[str, object] | None = None,
        golden: tuple[GoldenPrompt, ...] = (),
    ) -> Manifest:
        """Put a version into the store from the bytes of a safetensors file; return its manifest, signed.

        Nothing is written when it is there, whole and signed; what is there otherwise is replaced.

        Raises:
            UpdateRefused: the file is none, or the disk is full.
        """
        places, body = canonical_body(weights)
        manifest = manifests.build(name, places, body, config, parent=parent, properties=properties, golden=golden)
        if self.key is not None:
            manifest = manifests.sign(manifest, self.key)
        there = self._whole(name, manifest.version)
        if there is not None:
            return there
        staging = self.stage(manifest, config)
        try:
            staging.write(0, body)
            shutil.rmtree(self.folder / name / manifest.version, ignore_errors=True)
            staging.publish()
        except BaseException:
            staging.discard()
            raise
        self.prune(name)
        return manifest

    def _whole(self, name: str, version: str) -> Manifest | None:
        """The manifest of a version that is there, undamaged; None where it is not."""
        try:
            with self.open(name, version) as stored:
                stored.verify()
                return stored.manifest
        except UpdateRefused:
            return None

    def current(self, name: str) -> Current | None:
        """Which version served last; None when none was ever published here."""
        check_name(name)
        try:
            folder = _open_folder(self.folder / name)
        except UpdateRefused:
            return None
        try:
            return msgspec.json.decode(_read(folder, _CURRENT, 4096), type=Current)
        except (UpdateRefused, msgspec.DecodeError):
            return None  # whatever is wrong with the note, a node can start with the version that it was given
        finally:
            os.close(folder)

    def set_current(self, name: str, current: Current) -> None:
        """Note which version serves, and delete versions that are too many.

        Raises:
            UpdateRefused: `storage`.
        """
        check_name(name)
        with _disk(f"the note of what serves {name!r}"):
            (self.folder / name).mkdir(exist_ok=True)
            folder = _open_folder(self.folder / name)
            try:
                _write(folder, _CURRENT, msgspec.json.encode(current))
                os.fsync(folder)
            finally:
                os.close(folder)
        self.prune(name)

    def prune(self, name: str) -> None:
        """Delete the oldest versions beyond `kept_max`, but neither what serves nor what served before."""
        current = self.current(name)
        needed = {current.version, current.before} if current is not None else set()
        versions = self.versions(name)
        spare = [version for version in versions if version not in needed]
        for version in spare[max(0, self._kept_max - (len(versions) - len(spare))) :]:
            shutil.rmtree(self.folder / name / version, ignore_errors=True)


def _folders(path: Path) -> Iterator[Path]:
    """Folders in a folder whose names may be those of models or versions; links are passed over."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(path):
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _written_s(staged: Path) -> float:
    """When something was last written of what arrives, wall clock; what goes meanwhile is new."""
    try:
        return max(path.lstat().st_mtime for path in (staged, *staged.iterdir()))
    except OSError:
        return math.inf


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, _FOLDER)
    except OSError as error:
        raise UpdateRefused("unknown", f"{str(path)!r} cannot be opened: {error.strerror}") from error


def _open(folder: int, name: str, flags: int) -> int:
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UpdateRefused("unknown", f"{name!r} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UpdateRefused("format", f"{name!r} is no regular file")
    return descriptor


def _read(folder: int, name: str, bytes_max: int) -> bytes:
    descriptor = _open(folder, name, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise UpdateRefused("format", f"{name!r} is longer than {bytes_max} bytes")
    return data


def _read_span(descriptor: int, at: int, size: int) -> bytes:
    parts, left = [], size
    while left:
        data = os.pread(descriptor, left, at)
        if not data:
            raise UpdateRefused("storage", f"a weights file ends {left} bytes too early")
        parts.append(data)
        at, left = at + len(data), left - len(data)
    return b"".join(parts)


def _write(folder: int, name: str, data: bytes) -> None:
    """Replace a small file: written beside, synced, renamed."""
    beside = f".{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    descriptor = _open(folder, beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _sync(path: Path) -> None:
    folder = _open_folder(path)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _disk(what: str) -> Iterator[None]:
    """Turn a disk that fails into a refusal."""
    try:
        yield
    except OSError as error:
        raise UpdateRefused("storage", f"{what} cannot be stored: {error.strerror or error}") from error
