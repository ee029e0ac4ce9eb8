"""A folder in which versions are put by hand or by a job: what is complete is taken into the store.

    FOLDER/MODEL/ANYTHING/{config.json, model.safetensors, manifest.json}      the manifest is written last

| what lies there | what happens |
|---|---|
| a folder without a manifest | nothing: it is still being written |
| one with a manifest | it is copied into the store, verified, validated, staged, and published if so wished |
| one that was refused | nothing more, until its manifest is written again |
| anything but a folder | nothing; it is said once in the log |

Invariant: a manifest is looked at once for each time that it was written. What is taken was copied first and checked
afterwards, so that nobody can change it in between. `scan` blocks, and belongs to one thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from open_autoglm.engines.model_engine import Policy
from open_autoglm.inference.model_store import MANIFEST, StoredVersion
from open_autoglm.inference.publisher import Publisher
from open_autoglm.rollout.refusal import UpdateRefused

_log = logging.getLogger(__name__)

SCAN_S: Final = 2.0
"""How often to look; a poll works on every file system, also where no change is told."""
ENTRIES_MAX: Final = 1000
_COPY_BYTES: Final = 4 << 20

Wish = Literal["stage", "publish"]


class ModelWatch:
    """See the module.

    Args:
        folder: to look into; need not be there.
        publishers: by the name of the model.
        wish: what becomes of a version that is taken.
        policy: of a publication.
    """

    def __init__(
        self, folder: Path, publishers: Mapping[str, Publisher], wish: Wish = "stage", policy: Policy = "pin"
    ) -> None:
        self._folder = folder
        self._publishers = publishers
        self._wish = wish
        self._policy = policy
        self._seen: dict[Path, tuple[int, int]] = {}
        self._loose: set[str] = set()

    def scan(self) -> list[str]:
        """Look once; return the versions that were taken."""
        taken, there = [], set()
        for name, publisher in self._publishers.items():
            folders, loose = _entries(self._folder / name)
            self._tell_loose(name, loose)
            for path in folders:
                there.add(path)
                written = _written(path / MANIFEST)
                if written is None or self._seen.get(path) == written:
                    continue
                try:
                    taken.append(self._take(publisher, path))
                except UpdateRefused as error:
                    if error.reason == "busy":
                        continue  # the version before the current one still drains: the next look tries again
                    publisher.refused(path.name[:128], error)
                self._seen[path] = written
        self._seen = {path: written for path, written in self._seen.items() if path in there}
        return taken

    def _tell_loose(self, name: str, loose: list[str]) -> None:
        """Say once that files lie where folders should, until they are gone."""
        if loose and name not in self._loose:
            _log.warning(
                "%s: %s and %d more lie there and are passed over; give each version a folder of its own",
                self._folder / name,
                loose[0],
                len(loose) - 1,
            )
        (self._loose.add if loose else self._loose.discard)(name)

    def _take(self, publisher: Publisher, path: Path) -> str:
        store, name = publisher.store, publisher.name
        with StoredVersion(path, store.key) as found:
            manifest = found.manifest
            if manifest.name != name:
                raise UpdateRefused("manifest", f"{str(path)!r} holds a version of {manifest.name!r}")
            if manifest.version not in store.versions(name):
                staging = store.stage(manifest, found.config)
                try:
                    for start in range(0, manifest.weights_bytes, _COPY_BYTES):
                        staging.write(start, found.read(start, min(start + _COPY_BYTES, manifest.weights_bytes)))
                    with staging.opened() as copied:
                        model = publisher.validate(copied)
                    staging.publish()
                except BaseException:
                    staging.discard()
                    raise
                publisher.keep(model)
                store.prune(name)
        if self._wish == "publish":
            publisher.publish(manifest.version, self._policy)
        elif publisher.staged != manifest.version and publisher.engine.version != manifest.version:
            publisher.stage(manifest.version)
        return manifest.version


def _entries(path: Path) -> tuple[list[Path], list[str]]:
    """Folders in a folder, and names of what else is there and not hidden; links are not followed."""
    found, loose = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(Path(entry.path))
                elif not entry.name.startswith("."):
                    loose.append(entry.name)
    except OSError:
        return [], []
    if len(found) > ENTRIES_MAX:
        _log.warning("%s has %d folders; the first %d are looked at", path, len(found), ENTRIES_MAX)
    return sorted(found)[:ENTRIES_MAX], sorted(loose)


def _written(path: Path) -> tuple[int, int] | None:
    """When a file was written, and how long it is; None when it is not there."""
    try:
        stat = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
