"""The published vectors: read by other means than those that wrote them, and written anew byte for byte."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.unit.protocol.pair import Pair, Recording, frames, opened_server

from open_autoglm.protocol import CODECS, ConnectionSettings, FrameReader, ResumeStore, ServerConnection
from open_autoglm.protocol import encode_frame as encode
from open_autoglm.protocol.preambles import (
    read_request,
    read_response,
    read_tensor,
    write_request,
    write_response,
    write_tensor,
)

FOLDER = Path(__file__).parents[3] / "docs" / "protocol"
VECTORS = FOLDER / "vectors"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vectors(kind: str) -> list[Any]:
    found: list[Any] = json.loads((VECTORS / f"{kind}.json").read_text(encoding="utf-8"))
    return [pytest.param(vector, id=vector["name"]) for vector in found]


def test_the_published_files_are_those_that_are_made() -> None:
    made = script().files()
    there = {str(path.relative_to(VECTORS)): path.read_bytes() for path in VECTORS.rglob("*") if path.is_file()}
    assert sorted(there) == sorted(made)
    assert [name for name in made if made[name] != there[name]] == []


@pytest.mark.parametrize("vector", vectors("frames"))
def test_a_frame(vector: dict[str, Any]) -> None:
    data, fields = bytes.fromhex(vector["bytes_hex"]), vector["fields"]
    sink = Recording()
    sink.on_frame = lambda *frame: sink.calls.append(frame)  # type: ignore[attr-defined]
    FrameReader(1 << 20).feed(data, sink)  # type: ignore[arg-type]
    payload = bytes.fromhex(fields["payload_hex"])
    named = tuple(fields[name] for name in ("opcode", "flags", "aux", "stream", "arg"))
    assert sink.calls == [(*named, payload)]
    opcode, flags, aux, stream, arg = named
    assert encode(opcode, stream, payload, flags, aux, arg) == data


@pytest.mark.parametrize("vector", vectors("preambles"))
def test_a_preamble(vector: dict[str, Any]) -> None:
    data, fields = bytes.fromhex(vector["bytes_hex"]), dict(vector["fields"])
    head = data[: fields.pop("body_at")]
    kind = fields.pop("kind")
    if kind == "request":
        trace = bytes.fromhex(fields.pop("trace_hex"))
        request = read_request(data)
        assert {name: getattr(request, name) for name in fields} == fields
        assert (request.trace_id, request.body_at) == (trace, len(head))
        assert write_request(**fields, trace_id=trace) == head
    elif kind == "response":
        response = read_response(data)
        assert {name: getattr(response, name) for name in fields} == fields
        assert response.body_at == len(head)
        assert write_response(**fields) == head
    else:
        fields["shape"] = tuple(fields["shape"])
        tensor = read_tensor(data)
        assert {name: getattr(tensor, name) for name in fields} == fields
        assert tensor.body_at == len(head)
        assert write_tensor(**fields) == head


@pytest.mark.parametrize("vector", vectors("bodies"))
def test_a_body(vector: dict[str, Any]) -> None:
    codec = CODECS[vector["codec"]]
    assert codec.decode(bytes.fromhex(vector["bytes_hex"])) == vector["body"]
    assert codec.encode(vector["body"]).hex() == vector["bytes_hex"]


@pytest.mark.parametrize("vector", vectors("refused"))
def test_what_is_refused(vector: dict[str, Any]) -> None:
    server, _ = opened_server()
    server.receive(bytes.fromhex(vector["bytes_hex"]), 0.0)
    opcode, _, _, _, _, payload = frames(b"".join(server.take()))[-1]
    assert (opcode, json.loads(payload)["code"]) == ({"GOODBYE": 8, "ERROR": 14}[vector["answer"]], vector["code"])
    assert server.finished is (vector["answer"] == "GOODBYE")


@pytest.mark.parametrize("vector", vectors("conversations"))
def test_both_ends_take_a_conversation_byte_by_byte(vector: dict[str, Any]) -> None:
    sent = {
        side: (VECTORS / "conversations" / f"{vector['name']}.{side}.bin").read_bytes() for side in ("client", "server")
    }
    for side, data in sent.items():
        assert data.hex() == "".join(step["bytes_hex"] for step in vector["steps"] if step["from"] == side)
    role = Recording()
    server = ServerConnection(role, lambda: None, ConnectionSettings(), 0.0, ResumeStore())  # type: ignore[arg-type]
    role.on_hello = lambda hello: server.accept("c-1", "r-9")  # type: ignore[attr-defined]
    for byte in sent["client"]:
        server.receive(bytes((byte,)), 0.0)
    assert server.opened
    assert role.calls or vector["name"] in ("resume_second", "drain")
    pair = Pair(open_now=False)
    pair.client.take()
    heard: list[Any] = []
    for number, step in enumerate(vector["steps"]):
        if step["from"] == "server":
            pair.client.receive(bytes.fromhex(step["bytes_hex"]), 0.0)
            if number == 1:
                stream = pair.client.request(b"", 1)
                if vector["name"] == "resume_second":
                    pair.client._streams[stream] = None
                    pair.client.cancel(stream)
        heard += pair.asking.take()
    assert heard[0][0] == "welcome"
    last = {"cancel": "chunk", "error": "error", "resume_first": "chunk", "resume_second": "welcome", "drain": "closed"}
    assert heard[-1][0] == last.get(vector["name"], "response")
