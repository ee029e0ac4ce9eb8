"""The tools of a server are opened once, when they are first wanted."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from open_autoglm.backends.backend import Backend
from open_autoglm.config.schema import ModelEntry, ServerConfig
from open_autoglm.cooperation.knowledge import Library
from open_autoglm.cooperation.settings import CooperationEntry
from open_autoglm.errors import ServerError
from open_autoglm.server.assembly import Assembly
from open_autoglm.server.teams import Teams
from open_autoglm.server.tool_room import ToolRoom
from open_autoglm.tools.settings import ToolSettings
from open_autoglm.tools.tool import ToolCall


def no_model(entry: ModelEntry) -> Backend:
    raise AssertionError(f"{entry.name} is not to be made")


def config(folder: Path, *, calculator: bool = True) -> ServerConfig:
    whole = ServerConfig(tools=ToolSettings(calculator=calculator))
    return replace(whole, server=replace(whole.server, data_dir=str(folder)))


async def test_all_share_one_desk_that_the_first_opens(tmp_path: Path) -> None:
    room = ToolRoom()
    room.use(config(tmp_path))
    first, second = await asyncio.gather(room.desk(), room.desk())
    assert first is second
    room.use(config(tmp_path, calculator=False))
    assert await room.desk() is first
    deadline_s = asyncio.get_running_loop().time() + 60.0
    assert await first.call(ToolCall("calculator", {"expression": "6*7"}, deadline_s)) == {"result": "42"}
    await room.close()


async def test_a_configuration_that_never_became_active_opens_nothing(tmp_path: Path) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(1)
    teams = Teams(Library(None), rng, loop)
    assembly = Assembly(loop, rng, b"pepper", no_model, loop.time, teams=teams)
    team = {"team": CooperationEntry(strategy="plan_execute", members=[], planner="nobody", tools=["calculator"])}
    active, other = config(tmp_path, calculator=False), config(tmp_path)
    assembly.adopt(assembly.build(replace(active, cooperation=team), 1, 0))
    assembly.build(replace(other, cooperation=team | {"more": team["team"]}), 2, 0)
    assert (await teams.tools.desk()).tools() == []
    await teams.tools.close()


async def test_nothing_is_opened_any_more_once_it_is_closed(tmp_path: Path) -> None:
    room = ToolRoom()
    room.use(config(tmp_path))
    await room.close()
    with pytest.raises(ServerError, match="stopping"):
        await room.desk()
