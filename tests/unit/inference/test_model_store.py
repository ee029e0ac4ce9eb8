"""The store: a version is there whole or not at all, never changes, and nothing leads out of the folder."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_autoglm.inference.model_store import CONFIG, MANIFEST, WEIGHTS, Current, ModelStore
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.layout import Place, write_header
from open_autoglm.rollout.manifest import Manifest
from open_autoglm.rollout.refusal import UpdateRefused

CONFIG_BYTES = b'{"a":1}'
PLACES = [Place("w", "F16", (128, 1024), 0, 262_144)]


def weights(fill: int) -> bytes:
    return write_header(PLACES) + bytes((fill,)) * 262_144


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", key=b"k")


def add(store: ModelStore, fill: int = 1, name: str = "m") -> Manifest:
    return store.add(name, weights(fill), CONFIG_BYTES)


def refused(store: ModelStore, version: str, name: str = "m") -> str:
    with pytest.raises(UpdateRefused) as caught, store.open(name, version) as stored:
        stored.verify()
    return caught.value.reason


def test_what_was_added_is_read_back(store: ModelStore) -> None:
    manifest = add(store)
    with store.open("m", manifest.version) as stored:
        stored.verify()
        assert stored.manifest == manifest
        assert stored.body() == bytes((1,)) * 262_144
        assert stored.file_bytes() == weights(1)
        assert stored.config == CONFIG_BYTES
    assert (store.names(), store.versions("m")) == (["m"], [manifest.version])


def test_adding_the_same_twice_is_once(store: ModelStore) -> None:
    assert add(store) == add(store)
    assert len(store.versions("m")) == 1


@pytest.mark.parametrize("name", ["..", "../m", "a/b", "", ".staging-x"])
def test_no_name_leads_elsewhere(store: ModelStore, name: str) -> None:
    version = add(store).version
    assert refused(store, version, name) == "manifest"
    assert refused(store, name) == "manifest"


@pytest.mark.parametrize("file", [MANIFEST, CONFIG, WEIGHTS])
def test_links_are_not_followed(store: ModelStore, tmp_path: Path, file: str) -> None:
    path = store.folder / "m" / add(store).version / file
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert refused(store, path.parent.name) == "unknown"


def test_a_linked_version_is_not_there(store: ModelStore, tmp_path: Path) -> None:
    path = store.folder / "m" / add(store).version
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert store.versions("m") == []
    assert refused(store, path.name) == "unknown"


def test_a_pipe_in_the_place_of_a_file_does_not_block(store: ModelStore) -> None:
    path = store.folder / "m" / add(store).version / WEIGHTS
    path.unlink()
    os.mkfifo(path)
    assert refused(store, path.parent.name) == "format"


@pytest.mark.parametrize(
    ("file", "reason"), [(WEIGHTS, "hash"), (CONFIG, "hash"), (MANIFEST, "signature"), ("header", "format")]
)
def test_a_changed_byte_is_found(store: ModelStore, file: str, reason: str) -> None:
    path = store.folder / "m" / add(store).version / (WEIGHTS if file == "header" else file)
    data = bytearray(path.read_bytes())
    if file == MANIFEST:
        data = bytearray(bytes(data).replace(b'"parent":null', b'"parent":"' + b"0" * 64 + b'"'))
    elif file == "header":
        data[data.index(b"128")] = ord("9")
    else:
        data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert refused(store, path.parent.name) == reason


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_is_found(store: ModelStore, change: int) -> None:
    path = store.folder / "m" / add(store).version / WEIGHTS
    os.truncate(path, path.stat().st_size + change)
    assert refused(store, path.parent.name) == "format"


def test_a_folder_with_another_versions_name_is_refused(store: ModelStore) -> None:
    path = store.folder / "m" / add(store).version
    path.rename(path.with_name("other"))
    assert refused(store, "other") == "manifest"


def test_an_unsigned_version_is_refused_where_a_key_is_set(store: ModelStore) -> None:
    manifest = ModelStore(store.folder).add("m", weights(2), CONFIG_BYTES)
    assert refused(store, manifest.version) == "signature"


def test_what_is_half_written_is_not_there(store: ModelStore) -> None:
    manifest = manifests.build("m", PLACES, bytes(262_144), CONFIG_BYTES)
    staging = store.stage(manifest, CONFIG_BYTES)
    staging.write(0, bytes(1000))
    assert store.versions("m") == []
    staging.close()
    (store.folder / "m" / ("f" * 64)).mkdir()
    assert store.versions("m") == []


def test_staging_goes_on_after_a_restart_and_another_version_replaces_it(store: ModelStore) -> None:
    manifest = manifests.build("m", PLACES, bytes((7,)) * 262_144, CONFIG_BYTES)
    first = store.stage(manifest, CONFIG_BYTES)
    assert not first.resumed
    first.write(1000, b"seven")
    first.close()
    again = ModelStore(store.folder).stage(manifest, CONFIG_BYTES)
    assert again.resumed
    assert again.read(1000, 1005) == b"seven"
    again.close()
    store.stage(manifests.build("m", PLACES, bytes(262_144), CONFIG_BYTES), CONFIG_BYTES).discard()
    assert not again.path.exists()


def test_a_configuration_that_is_not_the_manifests_is_refused(store: ModelStore) -> None:
    manifest = manifests.build("m", PLACES, bytes(262_144), CONFIG_BYTES)
    with pytest.raises(UpdateRefused) as caught:
        store.stage(manifest, b"{}")
    assert caught.value.reason == "hash"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB: the system then says so in the middle of writing, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_without_room_refuses_before_a_byte_is_sent(store: ModelStore, small_disk: None) -> None:
    manifest = manifests.build("m", PLACES, bytes(262_144), CONFIG_BYTES)
    with pytest.raises(UpdateRefused) as caught:
        store.stage(manifest, CONFIG_BYTES)
    assert caught.value.reason == "storage"
    assert store.versions("m") == []


def test_old_versions_go_but_never_what_serves_or_served(store: ModelStore) -> None:
    versions = []
    for fill in range(1, 7):
        versions.append(add(store, fill).version)
        for age, version in enumerate(reversed(versions)):
            path = store.folder / "m" / version
            if path.exists():
                os.utime(path, (1e9 - age, 1e9 - age))
        if fill == 2:
            store.set_current("m", Current(versions[1], versions[0]))
    assert set(store.versions("m")) == {versions[0], versions[1], versions[4], versions[5]}


def test_the_note_of_what_serves(store: ModelStore) -> None:
    assert store.current("m") is None
    store.set_current("m", Current("a", "b"))
    assert store.current("m") == Current("a", "b")
    (store.folder / "m" / "current.json").write_text("{")
    assert store.current("m") is None


def test_too_few_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kept_max"):
        ModelStore(tmp_path, kept_max=1)


def test_what_is_there_needs_no_room_to_be_added_again(store: ModelStore) -> None:
    manifest = add(store)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        assert add(store) == manifest
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_is_there_and_damaged_is_replaced(store: ModelStore) -> None:
    version = add(store).version
    path = store.folder / "m" / version / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert add(store).version == version
    with store.open("m", version) as stored:
        stored.verify()


def test_what_was_signed_by_another_key_is_signed_anew(store: ModelStore) -> None:
    version = add(store).version
    other = ModelStore(store.folder, key=b"another")
    assert add(other).version == version
    with other.open("m", version) as stored:
        stored.verify()


def test_what_arrived_and_was_given_up_goes_after_a_while(store: ModelStore) -> None:
    staging = store.stage(manifests.build("m", PLACES, bytes(262_144), CONFIG_BYTES), CONFIG_BYTES)
    staging.close()
    for path in (staging.path, *staging.path.iterdir()):
        os.utime(path, (1000.0, 1000.0))
    store.expire_staged(1001.0, but={"m"})
    store.expire_staged(1000.0)
    assert staging.path.exists()
    with staging.path.joinpath(WEIGHTS).open("r+b") as file:
        file.write(b"more")  # something came
    store.expire_staged(1001.0)
    assert staging.path.exists()
    os.utime(staging.path / WEIGHTS, (1000.0, 1000.0))
    store.expire_staged(1001.0)
    assert not staging.path.exists()
