"""A real file, changed in the ways in which people and systems change files."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from open_autoglm.config import watch

NOTICED_S = 5.0
"""Far more than any change needs to be noticed, so that a busy machine fails no test."""

QUIET_S = 0.4
"""Several times the settling of a file: what has not come by then was not seen."""


class Changes:
    """Counts what a watch tells, and waits for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str | None] = []
        self._told = asyncio.Event()

    async def on_change(self) -> None:
        self.seen.append(self.path.read_text(encoding="utf-8") if self.path.exists() else None)
        self._told.set()

    async def one(self, change: Callable[[], object]) -> str | None:
        """Make a change; return what the file held when the watch told of it, and see that it told once."""
        count = len(self.seen)
        self._told.clear()
        change()
        async with asyncio.timeout(NOTICED_S):
            await self._told.wait()
        await asyncio.sleep(QUIET_S)
        assert len(self.seen) == count + 1
        return self.seen[-1]


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Changes]:
    changes = Changes(path)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.watch_file(str(path), changes.on_change, stop))
        await asyncio.sleep(QUIET_S)  # until the folders are watched
        yield changes
        stop.set()


def renamed_over(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def linked_over(path: Path, target: str) -> None:
    new = path.with_name("..new")
    new.symlink_to(target)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "mcp_config.yaml"
    path.parent.mkdir()
    path.write_text("old", encoding="utf-8")
    return path


async def test_a_file_that_is_written_replaced_removed_and_made_again(path: Path) -> None:
    async with watching(path) as changes:
        assert await changes.one(lambda: path.write_text("new", encoding="utf-8")) == "new"
        assert await changes.one(lambda: renamed_over(path, "renamed")) == "renamed"
        assert await changes.one(path.unlink) is None
        assert await changes.one(lambda: path.write_text("again", encoding="utf-8")) == "again"


async def test_several_steps_of_one_writer_are_one_change(path: Path) -> None:
    def write() -> None:
        with path.open("w", encoding="utf-8") as file:
            for _ in range(20):
                file.write("x")
                file.flush()

    async with watching(path) as changes:
        assert await changes.one(write) == "x" * 20


async def test_links_that_are_swapped(path: Path) -> None:
    """As Kubernetes shows a configuration: the file is a link through `..data`, and only `..data` ever changes."""
    folder = path.parent
    for version in ("..v1", "..v2"):
        (folder / version).mkdir()
        (folder / version / path.name).write_text(version, encoding="utf-8")
    linked_over(folder / "..data", "..v1")
    linked_over(path, f"..data/{path.name}")
    async with watching(path) as changes:
        assert await changes.one(lambda: linked_over(folder / "..data", "..v2")) == "..v2"
        target = folder / "..v2" / path.name
        assert await changes.one(lambda: target.write_text("in place", encoding="utf-8")) == "in place"


async def test_the_folder_goes_and_comes_back(path: Path) -> None:
    def make() -> None:
        path.parent.mkdir()
        path.write_text("back", encoding="utf-8")

    async with watching(path) as changes:
        assert await changes.one(lambda: shutil.rmtree(path.parent)) is None
        assert await changes.one(make) == "back"
        assert await changes.one(lambda: path.write_text("on", encoding="utf-8")) == "on"


async def test_other_files_in_the_folder_are_nothing(path: Path) -> None:
    async with watching(path) as changes:
        (path.parent / "other.yaml").write_text("x", encoding="utf-8")
        os.utime(path.parent)
        await asyncio.sleep(QUIET_S)
        assert changes.seen == []


async def test_without_events_the_file_is_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has a limited number of watches; when they are used up, it says so by an error."""
    monkeypatch.setattr("watchfiles.main.RustNotify", _no_events)
    async with watching(path) as changes:
        assert await changes.one(lambda: path.write_text("polled", encoding="utf-8")) == "polled"


def _no_events(*_arguments: object) -> None:
    raise OSError(28, "inotify watches are used up")


async def test_a_cancelled_watch_ends_and_leaves_the_stop_alone(path: Path) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(watch.watch_file(str(path), Changes(path).on_change, stop))
    await asyncio.sleep(QUIET_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stop.is_set()
