"""The tools of a server are opened once, when they are first wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from open_autoglm.config.schema import ServerConfig
from open_autoglm.errors import ServerError
from open_autoglm.server.tool_room import ToolRoom
from open_autoglm.tools.settings import ToolSettings
from open_autoglm.tools.tool import ToolCall


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


async def test_nothing_is_opened_any_more_once_it_is_closed(tmp_path: Path) -> None:
    room = ToolRoom()
    room.use(config(tmp_path))
    await room.close()
    with pytest.raises(ServerError, match="stopping"):
        await room.desk()
