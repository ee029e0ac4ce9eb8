"""Lanes are remembered by names that clients choose: there is an end to that, and nothing that was counted is lost."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from open_autoglm.config import parse_config
from open_autoglm.gateway.framed import FramedGateway
from open_autoglm.gateway.framed_tally import Tally
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.server.assembly import Assembly

CONFIG = 'models: [{name: "*", endpoint: "mcp://127.0.0.1:9"}]'
NAMED = 'models: [{name: known, endpoint: "mcp://127.0.0.1:9"}]'


class Counting:
    """Accounts that add up."""

    def __init__(self) -> None:
        self.requests = 0

    def count(self, tally: Tally) -> None:
        self.requests += len(tally)


class Running:
    """As much of a call that has not ended as has a lane."""

    def __init__(self, lane: object) -> None:
        self.lane = lane


def _nothing(entry: object) -> Any:
    raise AssertionError("there is none")


def framed_with(text: str, accounts: Any) -> FramedGateway:
    loop = asyncio.get_running_loop()
    assembly = Assembly(loop, random.Random(1), b"pepper", _nothing, loop.time)
    config = parse_config(text, source="x.yaml", environ={}, trusted=True).config
    gateway: Any = SimpleNamespace(snapshot=assembly.build(config, 1, 0).snapshot)
    sources: Any = None
    return FramedGateway(gateway, accounts, sources, loop, settings=ConnectionSettings(), keep_share=0.0)


@pytest.mark.parametrize("names", [10, 1024, 5000])
async def test_every_request_is_counted_however_many_names_there_are(names: int) -> None:
    accounts = Counting()
    framed = framed_with(CONFIG, accounts)
    principal = framed.gateway.snapshot.anonymous
    for number in range(names):
        lane = framed.lane(principal, b"m%d" % number)
        assert lane is not None
        next(iter(lane.tallies.values())).whole_s.append(0.1)
        assert len(framed.lanes_of(principal)) <= 1024
    framed.collect()
    assert accounts.requests == names


async def test_what_a_running_call_counts_after_its_lane_made_room_is_not_lost() -> None:
    accounts = Counting()
    framed = framed_with(CONFIG, accounts)
    principal = framed.gateway.snapshot.anonymous
    lane = framed.lane(principal, b"early")
    assert lane is not None
    call: Any = Running(lane)
    framed.calls.add(call)
    for number in range(3000):
        framed.lane(principal, b"m%d" % number)
    next(iter(lane.tallies.values())).whole_s.append(0.1)
    framed.calls.discard(call)
    framed.collect()
    assert accounts.requests == 1


async def test_names_that_nothing_serves_take_no_room() -> None:
    framed = framed_with(NAMED, Counting())
    principal = framed.gateway.snapshot.anonymous
    assert framed.lane(principal, b"known") is not None
    for number in range(3000):
        assert framed.lane(principal, b"unknown%d" % number) is None
    assert list(framed.lanes_of(principal)) == [b"known"]
