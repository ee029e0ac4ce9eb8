"""Versions are swapped while 32 streams run: none breaks, and every token is of the version that it claims."""

from __future__ import annotations

import asyncio
from functools import cache

from tests.integration.node.raw_client import RawClient

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.embedded.model import GlmModel
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import GenerateRequest, ReasoningDelta, TextDelta
from open_autoglm.errors import RequestError
from open_autoglm.inference.node import Node
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.inference.settings import NodeSettings
from open_autoglm.protocol.opcodes import STREAM

NAME = "glm-calc-s"
STREAMS = 32
REQUESTS = 640
SWAPS_LEAST = 10


def version(number: str) -> GlmModel:
    return catalog.open_model(NAME, None if number == "2" else number)


@cache
def reference(number: str) -> Engine:
    return Engine(version(number))


@cache
def computed(number: str, prompt: str) -> tuple[str, str]:
    """Thinking and text of an answer, computed by one version alone."""
    engine = reference(number)
    events: list[object] = []
    engine.submit(GenerateRequest([{"role": "user", "content": prompt}]), events.extend)
    while engine.load().queued or engine.load().running:
        engine.turn()
    kinds = (ReasoningDelta, TextDelta)
    thought, text = ("".join(event.text for event in events if isinstance(event, kind)) for kind in kinds)
    return thought, text


async def test_no_stream_breaks_and_every_answer_is_of_the_version_that_it_claims() -> None:
    assert version("1").version == "1"
    assert version("2").version == "2"
    engine = Engine(version("2"), slots=STREAMS)
    settings = NodeSettings(models=((NAME, "embedded:" + NAME),), port=0)
    node = Node(settings, [ServedModel(NAME, "embedded:" + NAME, engine)], asyncio.get_running_loop())
    started = await node.start()
    client = await RawClient.connect(started.address[1])
    models = {number: version(number) for number in "12"}
    # Of one, two and three digits, so that answers end at different times and every swap finds some that run.
    prompts = [f"{a} + {a * 7 % 10 ** (1 + a % 3)}" for a in range(100, 100 + REQUESTS)]
    running: dict[int, str] = {}
    answers: list[tuple[str, str, tuple[str, str]]] = []
    while len(answers) < REQUESTS:
        while prompts and len(running) < STREAMS:
            prompt = prompts.pop()
            running[client.ask(NAME, {"prompt": prompt}, STREAM)] = prompt
        await client.until(lambda: any(each in client.heard.answers or each in client.heard.errors for each in running))
        for stream in [each for each in running if each in client.heard.answers or each in client.heard.errors]:
            assert stream not in client.heard.errors
            preamble, body = client.heard.answers[stream]
            assert body == {}
            told = client.heard.thoughts.get(stream, ""), client.heard.texts[stream]
            answers.append((preamble.version, running.pop(stream), told))
        try:
            engine.publish(models["1" if engine.version == "2" else "2"])
        except RequestError as error:
            if error.code != "conflict":
                raise
    figures = engine.swap_figures()
    await client.close()
    await node.close()
    assert all(told == computed(claimed, prompt) for claimed, prompt, told in answers)
    assert {claimed for claimed, _, _ in answers} == {"1", "2"}
    assert any(computed("1", prompt) != computed("2", prompt) for _, prompt, _ in answers)
    assert figures.measured >= SWAPS_LEAST
