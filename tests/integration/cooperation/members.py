"""Members of teams: stations that say one thing, and teams of them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.running import RunningServer, model
from tests.integration.speech import dumps
from tests.integration.upstreams import Behaviour, Station, Upstream, Wire

DEAD = "http://127.0.0.1:1/v1"
"""Nobody listens there."""


def say(text: str, *, reason: str = "stop", logprobs: Any = None) -> Behaviour:
    """Answer with a text; 7 tokens of prompt, 3 of answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": logprobs,
        "finish_reason": reason,
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = dumps({"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

    async def behave(wire: Wire) -> None:
        await wire.respond(body)

    return behave


async def silence(wire: Wire) -> None:
    """Never answer."""
    await asyncio.wait_for(wire.wait_gone(), 60.0)


def broken(status: int = 500) -> Behaviour:
    """Fail."""

    async def behave(wire: Wire) -> None:
        await wire.respond(b'{"error": {"message": "no"}}', status)

    return behave


class Cast:
    """Stations for members `a`, `b`, … of one server."""

    def __init__(self, server: RunningServer, upstream: Upstream, *behaviours: Behaviour) -> None:
        self.server = server
        self.stations = [
            upstream.station(name).always(each) for name, each in zip("abcdefgh", behaviours, strict=False)
        ]
        self.names = list("abcdefgh"[: len(behaviours)])

    def apply(self, *more: dict[str, Any], team: dict[str, Any] | None = None, **sections: Any) -> None:
        """Make them the models of the server, with a virtual model `team`."""
        price = {"input_per_million": 1000.0, "output_per_million": 2000.0}
        models = [model(name, each.url, price=price) for name, each in zip(self.names, self.stations, strict=True)]
        entry = {"strategy": "dynamic_voting", "members": self.names, "timeout": "10s", **(team or {})}
        self.server.apply(*models, *more, **{"cooperation": {"team": entry}, "retries": {"max": 0}, **sections})

    @property
    def seen(self) -> list[int]:
        """Requests that each has had."""
        return [len(station.seen) for station in self.stations]

    def __getitem__(self, place: int) -> Station:
        return self.stations[place]
