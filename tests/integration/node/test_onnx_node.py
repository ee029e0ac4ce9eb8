"""`autoglm node` with ONNX graphs: one that writes, and one of TensorFlow that takes tensors."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.integration.node.node_process import Process
from tests.integration.node.raw_client import RawClient
from tests.unit.cli.terminals import piped
from tests.unit.inference.onnx_versions import folder

from open_autoglm.cli.main import run
from open_autoglm.inference.folder_versions import pack
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


def logged(node: Process, words: str) -> bool:
    """Read on in what a node logs until it says some words."""
    assert node.process.stderr is not None
    return any(words in line for line in node.process.stderr)


async def test_a_version_from_the_incoming_folder_is_staged_and_swapped_in(tmp_path: Path) -> None:
    first = folder(tmp_path / "first")
    second = pack(folder(tmp_path / "second", seed=1, scale=0.02), tmp_path / "packed", "tiny", None).version
    node = Process("--threads", "1", "--data-dir", str(tmp_path / "data"), models=(f"tiny={first.path}", "echo=echo:"))
    try:
        client = await RawClient.connect(node.port)
        before, _ = await client.answer(client.ask("tiny", {"prompt": "a", "max_tokens": 4}))
        assert len(before.version) == 64
        shutil.copytree(tmp_path / "packed", tmp_path / "data" / "incoming" / "tiny" / "next")
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(logged, node, "was staged")
        commit = ["rollout", "commit", "tiny", second, "--node", f"127.0.0.1:{node.port}"]
        assert await asyncio.to_thread(run, commit, piped()) == 0
        after, _ = await client.answer(client.ask("tiny", {"prompt": "a", "max_tokens": 4}))
        assert (after.version, before.version != second) == (second, True)
        await client.close()
    finally:
        node.end(signal.SIGKILL)
