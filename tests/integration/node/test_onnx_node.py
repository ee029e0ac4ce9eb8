"""`autoglm node` with ONNX graphs: one that writes, and one of TensorFlow that takes tensors."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.integration.node.node_process import Process
from tests.integration.node.raw_client import RawClient

from open_autoglm.protocol.arrays import read_array, write_array
from open_autoglm.protocol.opcodes import INFER_REQUEST, LAST, STREAM, TENSOR, TENSORS
from open_autoglm.protocol.preambles import write_request

DATA = Path(__file__).parents[2] / "data" / "onnx"


@pytest.fixture
def node() -> Iterator[Process]:
    models = (f"tiny=onnx:{DATA / 'tiny-glm'}", f"tf={DATA / 'tensorflow'}", "echo=echo:")
    running = Process("--threads", "1", "--slots", "3", models=models)
    yield running
    running.end(signal.SIGKILL)


async def test_many_requests_at_once_are_answered_as_each_alone(node: Process) -> None:
    client = await RawClient.connect(node.port)
    prompts = ["a", "what is this", "12345678901234567890", "sum of things", "b", "hello"]
    alone = []
    for prompt in prompts:
        preamble, body = await client.answer(client.ask("tiny", {"prompt": prompt, "max_tokens": 12}))
        assert (preamble.model, len(preamble.version)) == ("tiny", 64)
        alone.append(body["text"])
    streams = [client.ask("tiny", {"prompt": prompt, "max_tokens": 12}, STREAM) for prompt in prompts]
    for stream in streams:
        await client.answer(stream)
    assert [client.heard.texts.get(stream, "") for stream in streams] == alone
    assert len(set(alone)) > 1
    await client.close()


async def test_a_model_of_tensorflow_is_served_in_tensors(node: Process) -> None:
    client = await RawClient.connect(node.port)
    cases = json.loads((DATA / "tensorflow" / "answers.json").read_text())
    for case in cases:
        stream = 0
        for name, flags in (("features", 0), ("scale", LAST)):
            payload = write_array(name, np.array(case[name], np.float32))
            if stream:
                client.connection.send(TENSOR, stream, payload, flags)
            else:
                stream = client.connection.open(TENSOR, payload, flags)
        body = client.connection.codec.encode({})
        client.connection.send(INFER_REQUEST, stream, write_request("tf") + body, TENSORS)
        await client.answer(stream)
        told = {}
        for opcode, place, payload in client.heard.others:
            if (opcode, place) == (TENSOR, stream):
                name, array = read_array(payload)
                told[name] = array
        assert np.allclose(told["scores"], case["scores"], atol=1e-6)
        assert told["choice"].tolist() == case["choice"]
    await client.close()
