"""The framed path in virtual time, over a network that fails as the seed says: nothing is lost, doubled or kept."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.integration.framed.asker import Answer, Asker
from tests.integration.framed.scripted_node import CHUNK, ScriptedNode

from open_autoglm.config import parse_config
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.protocol.preambles import write_request
from open_autoglm.server.options import ServeOptions
from open_autoglm.server.server import Server
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.network import Link, Network

NODES = ("node-1", "node-2")
PORT = 7000
REQUESTS = 120
PROMPTS = (*["hi there"] * 12, *["stream 40"] * 8, "error 503", "error 400", "hang", "die")
KEY = "key-of-the-simulation"


def configuration() -> str:
    models = "".join(f"  - {{name: m, endpoint: 'mcp://{name}:9000'}}\n" for name in NODES)
    return (
        f"server: {{host: 10.0.0.9, port: {PORT}, admin_key: admin-key-of-the-simulation}}\n"
        f"auth: {{api_key: {KEY}}}\nlimits: {{requests_per_second: 0, concurrency: 400}}\n"
        f"timeouts: {{total: 20s, first_token: 5s}}\nmodels:\n{models}"
    )


class Run:
    """One seed's world."""

    def __init__(self, seed: int) -> None:
        self.loop = VirtualLoop(seed, limit_s=900.0)
        self.network = Network(self.loop, Link(loss=0.01))
        self.rng = random.Random(seed)
        self.nodes: list[ScriptedNode] = []
        self.answers: list[tuple[str, Answer]] = []
        self.left: list[object] = []

    def run(self) -> None:
        self.loop.run(self._main())
        assert self.loop.failures == []

    async def _main(self) -> None:
        network, loop = self.network, self.loop
        for name in NODES:
            with network.at(name):
                node = ScriptedNode(loop)
                node.port = 9000
                self.nodes.append(await node.__aenter__())
        with network.at("gateway"):
            loaded = parse_config(configuration(), source="simulation", environ={}, trusted=True, insecure=True)
            server = Server(
                loaded,
                ServeOptions(None),
                loop,
                RequestLog(loaded.config.logging),
                rng=random.Random(self.rng.random()),
            )
            await server.start()
        self._plan_faults()
        with network.at("client"):
            await asyncio.gather(*(self._client() for _ in range(4)))
        await asyncio.sleep(60.0)
        self.left = [
            *server.framed.calls,
            *server.gateway.active,
            *(part.endpoint for part in server.assembly.parts.values() if part.endpoint.in_flight),
            *(shell for shell in server.framed_data.shells),
        ]
        limiter = server.assembly.limiter("default")
        assert limiter is None or limiter.in_flight == 0
        with network.at("client"):
            await self._calm()
        await server.stop()

    def _plan_faults(self) -> None:
        network = self.network
        for name in NODES:
            at_s = self.rng.uniform(0.0, 4.0)
            match self.rng.choice(("reset", "kill", "freeze", "none")):
                case "reset":
                    self.loop.call_later(at_s, network.reset, name)
                case "kill":
                    self.loop.call_later(at_s, network.kill, name)
                    self.loop.call_later(at_s + 3.0, network.revive, name)
                case "freeze":
                    self.loop.call_later(at_s, network.freeze, name)
                    self.loop.call_later(at_s + 8.0, network.thaw, name)

    async def _client(self) -> None:
        asker = Asker(PORT, KEY, host="gateway")
        async with asker:
            assert asker.let_in
            for _ in range(REQUESTS // 4):
                prompt = self.rng.choice(PROMPTS)
                answer = Answer(asker)
                payload = write_request("m") + asker.codec.encode({"prompt": prompt})
                flags = STREAM if prompt.startswith("stream") and self.rng.random() < 0.8 else 0
                answer.stream = asker.session.request(answer, payload, flags, self.rng.choice((0, 0, 900, 15_000)))
                self.answers.append((prompt, answer))
                if self.rng.random() < 0.1:
                    asker.session.cancel(answer.stream)
                    self.answers.pop()
                await asyncio.sleep(self.rng.uniform(0.0, 0.2))
            for _, answer in self.answers:
                if answer.asker is asker:
                    await answer.wait(60.0)

    async def _calm(self) -> None:
        """After the storm everything is answered well."""
        async with Asker(PORT, KEY, host="gateway") as asker:
            for _ in range(10):
                answer = await asker.ask("calm").wait(60.0)
                assert answer.body == {"text": "calm"}, answer.error


@pytest.mark.parametrize("seed", range(40))
def test_every_request_ends_once_and_nothing_is_kept(seed: int) -> None:
    run = Run(seed)
    run.run()
    assert len(run.answers) > REQUESTS // 2
    for prompt, answer in run.answers:
        assert answer.ends == 1, (prompt, answer.ends)
        if answer.status:
            assert answer.error["code"] in (
                "upstream_error",
                "deadline_exceeded",
                "stream_interrupted",
                "no_healthy_endpoint",
                "overloaded",
                "invalid_request",
            )
        elif prompt.startswith("stream") and answer.text:
            assert answer.text == CHUNK * 40
        else:
            assert answer.body.get("text", prompt) == prompt or prompt.startswith("stream")
    assert run.left == []
