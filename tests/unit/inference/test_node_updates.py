"""A node's updates as a whole: commands, the folder, and what serves after a restart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.embedded.catalog import open_model
from open_autoglm.engines.engine import Engine
from open_autoglm.errors import AutoGLMError
from open_autoglm.inference import embedded_versions
from open_autoglm.inference.node_updates import NodeUpdates

KEY = b"a key of the cluster"


def engines() -> dict[str, Any]:
    return {"sums": Engine(open_model("glm-calc-s")), "echo": EchoEngine("echo", "1")}


@pytest.fixture
async def updates(tmp_path: Path) -> AsyncIterator[NodeUpdates]:
    made = NodeUpdates(engines(), tmp_path, KEY)
    yield made
    await made.close()


async def command(updates: NodeUpdates, name: str, **fields: object) -> dict[str, Any]:
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def reply(result: dict[str, Any] | AutoGLMError) -> None:
        if isinstance(result, AutoGLMError):
            told.set_exception(result)
        else:
            told.set_result(result)

    updates.commands[name]({"command": name, **fields}, reply)
    async with asyncio.timeout(60):
        return await told


async def test_a_model_is_served_by_the_true_name_of_its_version(updates: NodeUpdates) -> None:
    (model,) = (await command(updates, "versions"))["models"]
    assert model["model"] == "sums"
    assert list(model["stored"]) == [model["live"][0]["version"]]
    assert len(model["live"][0]["version"]) == 64


async def test_versions_are_staged_published_and_taken_back_and_a_restart_serves_the_last(
    updates: NodeUpdates, tmp_path: Path
) -> None:
    first = updates.publishers["sums"].engine.version
    older = embedded_versions.adopt(updates.store, "sums", "1", shipped_name="glm-calc-s").version
    assert (await command(updates, "stage", model="sums", version=older)) == {"model": "sums", "staged": older}
    assert (await command(updates, "publish", model="sums", version=older))["version"] == older
    assert (await command(updates, "rollback", model="sums"))["version"] == first
    assert (await command(updates, "publish", model="sums", version=older, policy="follow"))["version"] == older
    await updates.close()
    again = NodeUpdates(engines(), tmp_path, KEY)
    assert again.publishers["sums"].engine.version == older
    await again.close()


async def test_steps_and_refusals_are_counted(updates: NodeUpdates) -> None:
    older = embedded_versions.adopt(updates.store, "sums", "1", shipped_name="glm-calc-s").version
    await command(updates, "publish", model="sums", version=older)
    with pytest.raises(AutoGLMError):
        await command(updates, "publish", model="sums", version="0" * 64)
    assert updates.counts == {
        ("sums", "staged", ""): 1,
        ("sums", "published", ""): 1,
        ("sums", "refused", "unknown"): 1,
    }


async def test_a_version_that_was_damaged_on_disk_gives_way_to_the_shipped_one(
    updates: NodeUpdates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = updates.publishers["sums"].engine.version
    older = embedded_versions.adopt(updates.store, "sums", "1", shipped_name="glm-calc-s").version
    await command(updates, "publish", model="sums", version=older)
    path = tmp_path / "models" / "sums" / older / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    await updates.close()
    again = NodeUpdates(engines(), tmp_path, KEY)
    assert again.publishers["sums"].engine.version == first
    assert caplog.records[-1].getMessage().startswith(f"version {older} of 'sums' cannot be used any more")
    await again.close()


async def test_a_folder_belongs_to_one_node_at_a_time(updates: NodeUpdates, tmp_path: Path) -> None:
    with pytest.raises(AutoGLMError, match="another node uses this folder"):
        NodeUpdates(engines(), tmp_path, KEY)
    await updates.close()
    again = NodeUpdates(engines(), tmp_path, KEY)
    await again.close()


async def test_what_was_given_up_for_a_day_is_deleted(updates: NodeUpdates, tmp_path: Path) -> None:
    left = tmp_path / "models" / "sums" / f".staging-{'0' * 64}"
    left.mkdir()
    kept = left.with_name(f".staging-{'1' * 64}")
    kept.mkdir()
    os.utime(left, (1.0, 1.0))
    updates.start()
    async with asyncio.timeout(20):
        while left.exists():
            await updates.desk.run(lambda: None)
    assert kept.exists()


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("publish", {"model": "sums"}, "invalid_request"),
        ("publish", {"model": "sums", "version": "0" * 64}, "not_found"),
        ("publish", {"model": "sums", "version": "../../x"}, "invalid_request"),
        ("publish", {"model": "echo", "version": "1"}, "not_found"),
        ("stage", {"model": 1, "version": "1"}, "invalid_request"),
        ("rollback", {"model": "sums"}, "conflict"),
    ],
)
async def test_what_cannot_be_done_is_said(updates: NodeUpdates, name: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(AutoGLMError) as caught:
        await command(updates, name, **fields)
    assert caught.value.code == code
