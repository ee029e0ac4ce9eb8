"""Requests in tensors: a graph that TensorFlow made answers over frames what TensorFlow answered."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.inference.wired import Wired

from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.onnx_tensors import OnnxTensorEngine
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.inference import tensor_answers
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.sources import open_engine
from open_autoglm.protocol.arrays import Tensors, read_array, write_array
from open_autoglm.protocol.opcodes import INFER_REQUEST, LAST, TENSOR, TENSORS
from open_autoglm.protocol.preambles import write_request, write_tensor

FOLDER = Path(__file__).parents[2] / "data" / "onnx" / "tensorflow"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "answers.json").read_text())
WAIT_S = 20.0


def opened() -> OnnxTensorEngine:
    engine = open_engine("tf", f"tensors:{FOLDER}", EngineSettings(threads=1, queue_max=3))
    assert isinstance(engine, OnnxTensorEngine)
    return engine


@pytest.fixture
async def wired() -> AsyncIterator[Wired]:
    engine = opened()
    engine.start()
    yield Wired({"tf": engine, "echo": EchoEngine()})
    await asyncio.to_thread(engine.close)


def inputs(case: dict[str, Any]) -> Tensors:
    return {name: np.array(case[name], np.float32) for name in ("features", "scale")}


def send(wired: Wired, model: str, tensors: Tensors) -> int:
    """Send tensors and the request that they belong to; return the stream."""
    stream = 0
    for place, (name, tensor) in enumerate(tensors.items(), 1):
        flags = LAST if place == len(tensors) else 0
        if stream:
            wired.client.send(TENSOR, stream, write_array(name, tensor), flags)
        else:
            stream = wired.client.open(TENSOR, write_array(name, tensor), flags)
    wired.client.send(INFER_REQUEST, stream, write_request(model) + wired.client.codec.encode({}), TENSORS)
    wired.turn()
    return stream


def received(wired: Wired, stream: int) -> Tensors:
    found = {}
    for opcode, place, payload in wired.heard.others:
        if (opcode, place) == (TENSOR, stream):
            name, array = read_array(payload)
            found[name] = array
    return found


async def test_a_model_of_tensorflow_answers_what_tensorflow_did(wired: Wired) -> None:
    streams = [send(wired, "tf", inputs(case)) for case in CASES]
    await wired.until_ended(*streams)
    for stream, case in zip(streams, CASES, strict=True):
        assert stream in wired.heard.answers
        told = received(wired, stream)
        assert np.allclose(told["scores"], case["scores"], atol=1e-6)
        assert told["choice"].tolist() == case["choice"]
    assert len({len(case["choice"]) for case in CASES}) > 1
    assert wired.models["tf"].answered == len(CASES)
    assert wired.service.in_flight == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": np.zeros((1, 2), np.float32)},
        {"scale": np.zeros(1, np.float32)},
        {"scale": np.zeros((1, 1), np.float64)},
        {"more": np.zeros((1, 1), np.float32)},
    ],
)
async def test_tensors_that_do_not_fit_are_refused(wired: Wired, changed: Tensors) -> None:
    stream = send(wired, "tf", inputs(CASES[0]) | changed)
    assert wired.heard.errors[stream].code == "invalid_request"
    again = send(wired, "tf", inputs(CASES[0]))
    await wired.until_ended(again)
    assert again in wired.heard.answers
    assert wired.service.in_flight == 0


async def test_rows_that_do_not_belong_together_fail_alone(wired: Wired) -> None:
    torn = send(wired, "tf", {"features": np.zeros((3, 6), np.float32), "scale": np.zeros((2, 1), np.float32)})
    good = send(wired, "tf", inputs(CASES[0]))
    await wired.until_ended(torn, good)
    assert wired.heard.errors[torn].code == "internal_error"
    assert good in wired.heard.answers
    assert wired.models["tf"].failures == {"internal_error": 1}


async def test_models_of_text_and_of_tensors_are_told_apart(wired: Wired) -> None:
    stream = wired.ask("tf", {"prompt": "1"})
    assert wired.heard.errors[stream].code == "unsupported_parameter"
    stream = send(wired, "echo", inputs(CASES[0]))
    assert wired.heard.errors[stream].code == "unsupported_parameter"
    stream = send(wired, "nobody", inputs(CASES[0]))
    assert wired.heard.errors[stream].code == "model_not_found"


async def test_a_tensor_that_is_none_ends_its_stream_and_no_other(wired: Wired) -> None:
    broken = wired.client.open(TENSOR, write_array("features", np.zeros((1, 6), np.float32))[:-1])
    twice = wired.client.open(TENSOR, write_array("scale", np.zeros((1, 1), np.float32)))
    wired.client.send(TENSOR, twice, write_array("scale", np.zeros((1, 1), np.float32)))
    strange = wired.client.open(TENSOR, write_tensor("scale", "bfloat16", (1, 1)) + b"12")
    wired.turn()
    for stream in (broken, twice, strange):
        assert wired.heard.errors[stream].code == "invalid_request"
    good = send(wired, "tf", inputs(CASES[1]))
    await wired.until_ended(good)
    assert good in wired.heard.answers


async def test_what_is_kept_for_requests_has_a_limit(wired: Wired) -> None:
    many = wired.client.open(TENSOR, write_array("0", np.zeros(1, np.float32)))
    for place in range(1, tensor_answers.TENSORS_MAX + 1):
        wired.client.send(TENSOR, many, write_array(str(place), np.zeros(1, np.float32)))
    wired.turn()
    assert wired.heard.errors[many].code == "request_too_large"
    half = np.zeros(tensor_answers.KEPT_BYTES_MAX // 3, np.uint8)
    large = [wired.client.open(TENSOR, write_array("x", half)) for _ in range(3)]
    wired.turn()
    assert [stream in wired.heard.errors for stream in large] == [False, False, True]
    for stream in large[:2]:
        wired.client.cancel(stream)
    again = wired.client.open(TENSOR, write_array("x", half))
    wired.turn()
    assert again not in wired.heard.errors


async def test_nobody_hears_of_a_cancelled_request() -> None:
    engine = opened()  # not started: it stays in the queue
    wired = Wired({"tf": engine})
    stream = send(wired, "tf", inputs(CASES[0]))
    assert engine.load().queued == 1
    wired.client.cancel(stream)
    wired.turn()
    assert engine.load().queued == 0
    assert (wired.service.in_flight, wired.models["tf"].cancelled) == (0, 1)


class Told:
    """What an engine delivered."""

    def __init__(self) -> None:
        self.results: list[Tensors | AutoGLMError] = []
        self.ended = threading.Semaphore(0)

    def deliver(self, result: Tensors | AutoGLMError) -> None:
        self.results.append(result)
        self.ended.release()


def test_an_engine_refuses_what_it_has_no_room_for_and_tells_everybody_at_the_end() -> None:
    engine, told = opened(), Told()
    for _ in range(3):
        engine.infer(inputs(CASES[0]), None, told.deliver)
    with pytest.raises(ServerError) as caught:
        engine.infer(inputs(CASES[0]), None, told.deliver)
    assert caught.value.code == "overloaded"
    engine.close()
    assert [error.code for error in told.results if isinstance(error, AutoGLMError)] == ["server_draining"] * 3
    with pytest.raises(ServerError) as caught:
        engine.infer(inputs(CASES[0]), None, told.deliver)
    assert caught.value.code == "server_draining"


def test_a_request_that_is_too_late_is_not_computed() -> None:
    engine, told = opened(), Told()
    engine.infer(inputs(CASES[0]), 0.0, told.deliver)
    engine.start()
    assert told.ended.acquire(timeout=WAIT_S)
    assert engine.load().passes_total == 0
    engine.close()
    assert isinstance(told.results[0], ServerError)
    assert told.results[0].code == "deadline_exceeded"


def test_it_is_an_engine_without_text_and_other_versions() -> None:
    engine = opened()
    with pytest.raises(RequestError, match="features, scale"):
        engine.submit(GenerateRequest([]), lambda _: None)
    for change in (lambda: engine.publish(None), lambda: engine.weigh(0.5), engine.rollback):
        with pytest.raises(RequestError):
            change()
    assert [each.version for each in engine.versions()] == [engine.version]


async def test_a_request_that_does_not_name_its_tensors_is_refused_and_they_are_kept_no_longer(wired: Wired) -> None:
    third = np.zeros(tensor_answers.KEPT_BYTES_MAX // 3, np.uint8)
    for _ in range(5):
        stream = wired.client.open(TENSOR, write_array("x", third))
        wired.client.send(INFER_REQUEST, stream, write_request("echo") + wired.client.codec.encode({"prompt": "hi"}))
        wired.turn()
        assert wired.heard.errors[stream].code == "invalid_request"


async def test_a_request_behind_a_tensor_that_was_refused_ends_nothing(wired: Wired) -> None:
    wired.client.open(TENSOR, b"none")
    stream = wired.client.open(TENSOR, b"none")
    wired.client.send(TENSOR, stream, b"none", LAST)
    wired.client.send(INFER_REQUEST, stream, write_request("tf") + wired.client.codec.encode({}), TENSORS)
    wired.turn()
    assert wired.heard.errors[stream].code == "invalid_request"
    again = send(wired, "tf", inputs(CASES[0]))
    await wired.until_ended(again)
    assert again in wired.heard.answers
