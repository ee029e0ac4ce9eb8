"""Writes the test vectors of the framed protocol: `python docs/protocol/make_vectors.py [FOLDER]`.

The bytes come from the project's own writers; `tests/unit/protocol/test_vectors.py` reads them with other means.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from open_autoglm.errors import ServerError
from open_autoglm.protocol import (
    CODECS,
    HEADER_BYTES,
    PREFACE,
    ClientConnection,
    ConnectionSettings,
    Credentials,
    Hello,
    ResumeStore,
    ServerConnection,
    encode_frame,
    opcodes,
)
from open_autoglm.protocol.handshake import Welcome, signed, write_hello, write_welcome
from open_autoglm.protocol.preambles import write_request, write_response, write_tensor
from open_autoglm.security.signature import SigningKey

FOLDER = Path(__file__).parent / "vectors"
Vector = dict[str, Any]

TRACE = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
JSON = CODECS["json"]
ASKED = {"prompt": "Say hi", "max_tokens": 8}
SETTINGS = ConnectionSettings()
NONCE = "101112131415161718191a1b1c1d1e1f"
CHALLENGE = bytes(range(0x20, 0x40))


def frames() -> list[Vector]:
    """One frame of each opcode that a client meets, and the edges of the fields."""
    goodbye = {"code": "invalid_api_key", "message": "the key is not known"}
    answer = {"opcode": 11, "payload": {"text": "Hi."}}
    tensor = write_tensor("x", "float32", (1,)) + b"\0\0\x80\x3f"
    hello = Hello(
        versions=["1.0"], codecs=["msgpack", "json"], auth=Credentials(key="mcp_example"), agent="example/1.0"
    )
    welcome = Welcome(version="1.0", codec="msgpack", connection="c-1", resume="r-1")
    error = {"code": "overloaded", "message": "try again", "retryable": True, "retry_after_ms": 1500}
    request = write_request("chat", "s-1", 1, TRACE) + JSON.encode(ASKED)
    response = write_response(3, 1, "stop", 1, "v1", "chat") + JSON.encode({"text": "Hi."})
    o = opcodes
    made = [
        ("hello", "the client offers two codecs and a key", (o.HELLO, 0, write_hello(hello))),
        ("welcome", "the server has chosen", (o.WELCOME, 0, write_welcome(welcome))),
        ("ping", "are you there?", (o.PING, 0, b"", 0, 0, 0x01020304)),
        ("pong", "yes", (o.PONG, 0, b"", 0, 0, 0x01020304)),
        ("window", "64 KiB more on stream 5", (o.WINDOW, 5, b"", 0, 0, 65536)),
        ("drain", "30 s left", (o.DRAIN, 0, JSON.encode({"alternatives": ["10.0.0.2:8080"]}), 0, 0, 30000)),
        ("resume", "go on from chunk 7", (o.RESUME, 9, JSON.encode({"token": "r-1", "stream": 5}), 0, 0, 7)),
        ("goodbye", "the key is not known", (o.GOODBYE, 0, JSON.encode(goodbye), 0, 401)),
        ("message", "a JSON message", (o.MESSAGE, 3, JSON.encode({"opcode": 10, "payload": ASKED}))),
        ("message_last", "the last one of an answer", (o.MESSAGE, 3, JSON.encode(answer), o.LAST)),
        ("request", "5 s left, in chunks, resumable", (o.INFER_REQUEST, 1, request, o.STREAM | o.RESUMABLE, 0, 5000)),
        ("request_once", "no retry", (o.INFER_REQUEST, 3, write_request("") + JSON.encode(ASKED), o.NO_RETRY)),
        ("request_fragment", "more of the request follows", (o.INFER_REQUEST, 7, request[:24], o.MORE)),
        ("request_fragment_last", "the rest of the request", (o.INFER_REQUEST, 7, request[24:])),
        ("response", "after two chunks", (o.INFER_RESPONSE, 1, response, 0, 0, 2)),
        ("chunk", "the first chunk", (o.INFER_CHUNK, 1, "你好".encode())),
        ("chunk_reasoning", "thinking of choice 1", (o.INFER_CHUNK, 1, b"Let me see", o.REASONING, 1, 4)),
        ("chunk_empty", "an empty chunk", (o.INFER_CHUNK, 1, b"", 0, 0, 5)),
        ("cancel", "not wanted any more", (o.CANCEL, 1)),
        ("error", "try again in 1.5 s", (o.ERROR, 1, JSON.encode(error), o.RETRYABLE, 503, 1500)),
        ("tensor", "the last tensor of stream 11", (o.TENSOR, 11, tensor, o.LAST)),
        ("challenge", "prove it", (o.CHALLENGE, 0, CHALLENGE)),
        ("proof", "HMAC, 32 bytes", (o.PROOF, 0, bytes(range(32)))),
        ("largest_numbers", "every field at its end", (255, 2**32 - 1, b"", 255, 65535, 2**32 - 1)),
    ]  # fmt: skip
    return [_frame_vector(name, meaning, *fields) for name, meaning, fields in made]


def preambles() -> list[Vector]:
    """Payloads with their fixed beginnings."""
    requests = [
        ("request_all", "every field", ("glm-4", "s-1", 1, TRACE)),
        ("request_least", "no model, no session, the key's priority, no trace", ("", "", 255, bytes(16))),
        ("request_utf8", "names that are not ASCII", ("智谱", "会话", 3, TRACE)),
    ]
    responses = [
        ("response_all", "every field", (12, 345, "stop", 2, "sha256:0a1b", "glm-4")),
        ("response_least", "nothing is known", (0, 0, "", 0, "", "")),
        ("response_tools", "it ends in tool calls", (2**32 - 1, 7, "tool_calls", 1, "", "m")),
    ]
    tensors = [
        ("tensor_matrix", "two rows of three", ("pixels", "uint8", (2, 3)), bytes(range(6))),
        ("tensor_scalar", "no dimension, one element", ("t", "float32", ()), bytes.fromhex("0000803f")),
        ("tensor_empty", "no element", ("none", "int64", (0, 4)), b""),
    ]
    body = JSON.encode(ASKED)
    vectors = []
    for name, meaning, given in requests:
        model, session, priority, trace = given
        head = write_request(*given)
        fields: dict[str, Any] = {"kind": "request", "model": model, "session": session, "priority": priority}
        vectors.append(_payload_vector(name, meaning, head + body, {**fields, "trace_hex": trace.hex()}, len(head)))
    keys = ("prompt_tokens", "completion_tokens", "finish", "attempts", "version", "model")
    for name, meaning, answer in responses:
        head = write_response(*answer)
        fields = {"kind": "response", **dict(zip(keys, answer, strict=True))}
        vectors.append(_payload_vector(name, meaning, head + body, fields, len(head)))
    for name, meaning, tensor, elements in tensors:
        head = write_tensor(*tensor)
        fields = {"kind": "tensor", **dict(zip(("name", "dtype", "shape"), tensor, strict=True))}
        vectors.append(_payload_vector(name, meaning, head + elements, fields, len(head)))
    return vectors


def bodies() -> list[Vector]:
    """The same bodies in every codec."""
    chat = {
        "messages": [{"role": "user", "content": "hi", "name": "li"}],
        "temperature": 0.5,
        "stop": ["\n"],
        "seed": 7,
    }
    tools = {"text": "", "tool_calls": [{"id": "c1", "function": {"name": "now", "arguments": "{}"}}], "none": None}
    named = {"empty": {}, "prompt": ASKED, "chat": chat, "answer": {"text": "你好 👋"}, "tools": tools}
    vectors = []
    for codec in CODECS.values():
        for name, body in named.items():
            data = codec.encode(body)
            title = f"{codec.name}_{name}"
            vectors.append({**_vector(title, f"a body in {codec.name}", data), "codec": codec.name, "body": body})
    return vectors


def refused() -> list[Vector]:
    """What a server refuses after a good handshake in JSON with the limits that a server has by itself."""
    o = opcodes
    first = encode_frame(o.INFER_REQUEST, 1, write_request("chat") + JSON.encode(ASKED))
    long = encode_frame(o.INFER_REQUEST, 1, bytes(2**20 + 1))[:16]
    credit = encode_frame(o.WINDOW, 1, arg=2**31 - 1)
    mixed = encode_frame(o.INFER_REQUEST, 1, b"x", o.MORE) + encode_frame(o.MESSAGE, 1, b"{}")
    made = [
        ("stream_zero", "a request on the connection itself", encode_frame(o.INFER_REQUEST, 0, b"x")),
        ("stream_even", "a client's streams are odd", encode_frame(o.INFER_REQUEST, 2, b"x")),
        ("stream_again", "a second request on an open stream", first + first),
        ("stream_falls", "stream numbers grow", encode_frame(o.INFER_REQUEST, 5, b"x") + first),
        ("wrong_side", "only a server sends chunks", encode_frame(o.INFER_CHUNK, 1, b"x")),
        ("hello_again", "HELLO comes once", encode_frame(o.HELLO, 0, b"{}")),
        ("window_zero", "no credit at all", first + encode_frame(o.WINDOW, 1)),
        ("window_too_much", "more credit than there can be", first + credit),
        ("cancel_unopened", "nothing was opened yet", encode_frame(o.CANCEL, 1)),
        ("fragments_mixed", "another message within one", mixed),
        ("unknown_on_connection", "an opcode without meaning on stream 0", encode_frame(200, 0)),
    ]
    said = {"answer": "GOODBYE", "code": "invalid_request"}
    vectors = [{**_vector(name, why, data), **said} for name, why, data in made]
    too_long = _vector("frame_too_long", "a payload longer than frame_bytes_max: its header is enough", long)
    unknown = _vector("unknown_on_stream", "an opcode of a later version", encode_frame(200, 1, b"x"))
    return [
        *vectors,
        {**too_long, "answer": "GOODBYE", "code": "request_too_large"},
        {**unknown, "answer": "ERROR", "code": "not_implemented"},
    ]


class _Wire:
    """Both ends of a connection, and what went from the one to the other."""

    def __init__(self, store: ResumeStore | None = None, token: str = "", window: int = 262_144) -> None:
        self.steps: list[dict[str, str]] = []
        role = _Role()
        self.server = ServerConnection(role, _nothing, SETTINGS, 0.0, store)  # type: ignore[arg-type]
        role.accept = lambda: self.server.accept("c-1", token, "me")
        hello = Hello(versions=["1.0"], codecs=["json"], window=window)
        self.client = ClientConnection(hello, _Role(), _nothing, SETTINGS, 0.0)  # type: ignore[arg-type]
        self.up("the preface, and HELLO: JSON is offered")
        self.down("WELCOME: JSON is chosen")

    def up(self, meaning: str) -> None:
        """What the client has written reaches the server."""
        data = b"".join(self.client.take())
        self.steps.append({"from": "client", "meaning": meaning, "bytes_hex": data.hex()})
        self.server.receive(data, 0.0)

    def down(self, meaning: str) -> None:
        """What the server has written reaches the client."""
        data = b"".join(self.server.take())
        self.steps.append({"from": "server", "meaning": meaning, "bytes_hex": data.hex()})
        self.client.receive(data, 0.0)


class _Role:
    """Hears everything and does nothing but let clients in."""

    accept: Callable[[], None]

    def on_hello(self, hello: Hello) -> None:
        self.accept()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


def conversations() -> list[Vector]:
    """Whole conversations, by both ends of our own."""
    request = write_request("chat", "", 255, TRACE) + JSON.encode(ASKED)
    return [*_answers(request), *_hindrances(request), *_ends(request)]


def _told(name: str, meaning: str, wire: _Wire) -> Vector:
    return {"name": name, "meaning": meaning, "steps": wire.steps}


def _answers(request: bytes) -> Iterator[Vector]:
    """Requests that are answered."""
    wire = _Wire()
    stream = wire.client.request(request, 0, 5000)
    wire.up("a request with 5 s left")
    wire.server.respond(stream, write_response(3, 1, "stop", 1, "v1", "chat") + JSON.encode({"text": "Hi."}))
    wire.down("the response")
    wire.client.goodbye("client_closed", "done")
    wire.up("GOODBYE")
    yield _told("unary", "one request and its answer", wire)

    wire = _Wire()
    stream = wire.client.request(request, opcodes.STREAM, 5000)
    wire.up("a request with 5 s left, in chunks")
    wire.server.chunk(stream, b"Hi")
    wire.down("chunk 0")
    wire.server.chunk(stream, b" there.")
    wire.server.respond(stream, write_response(3, 2, "stop", 1, "v1", "chat") + JSON.encode({}))
    wire.down("chunk 1, and the response, which counts 2")
    yield _told("streamed", "an answer in chunks", wire)


def _hindrances(request: bytes) -> Iterator[Vector]:
    """Requests that wait, are not wanted, fail, or come in pieces."""
    wire = _Wire(window=65_536)
    stream = wire.client.request(request, opcodes.STREAM)
    wire.up("a request in chunks; the window is 64 KiB")
    for text in (b"x" * 32_768, b"y" * 32_768, b"the rest"):
        wire.server.chunk(stream, text)
    wire.server.respond(stream, write_response(3, 999, "length", 1, "v1", "chat") + JSON.encode({}))
    wire.down("two chunks; a third and the response wait for credit")
    wire.client.consume(stream, 65_536)
    wire.up("WINDOW gives the credit back")
    wire.down("the third chunk, and the response")
    yield _told("credit", "chunks wait for credit", wire)

    wire = _Wire()
    stream = wire.client.request(request, opcodes.STREAM)
    wire.up("a request in chunks")
    wire.server.chunk(stream, b"Hi")
    wire.client.cancel(stream)
    wire.up("CANCEL")
    wire.down("a chunk that was on its way; nothing follows it")
    yield _told("cancel", "an answer that is not wanted any more", wire)

    wire = _Wire()
    stream = wire.client.request(request)
    wire.up("a request")
    wire.server.fail(stream, ServerError("overloaded", "try again", retry_after_s=1.5), {"request_id": "req_01"})
    wire.down("ERROR: 503, retryable, in 1,500 ms")
    yield _told("error", "a request that fails", wire)

    wire = _Wire()
    stream = wire.client.request(request)
    wire.client.take()
    for start in range(0, len(request), 30):
        flags = opcodes.MORE if start + 30 < len(request) else 0
        wire.client.out.append(encode_frame(opcodes.INFER_REQUEST, stream, request[start : start + 30], flags))
    wire.up("a request in three fragments; they may be as short as one likes")
    wire.server.respond(stream, write_response(3, 1, "stop", 1, "v1", "chat") + JSON.encode({"text": "Long."}))
    wire.down("the response")
    yield _told("fragments", "a message in several frames", wire)


def _ends(request: bytes) -> Iterator[Vector]:
    """Connections that are lost, or end."""
    store = ResumeStore()
    lost = _Wire(store, "r-1")
    stream = lost.client.request(request, opcodes.STREAM | opcodes.RESUMABLE)
    lost.up("a resumable request in chunks")
    lost.server.chunk(stream, b"Hi")
    lost.down("chunk 0; then the connection is lost")
    yield _told("resume_first", "an answer whose connection is lost", lost)
    lost.server.lose(0.0)
    lost.server.chunk(stream, b" there.")
    wire = _Wire(store, "r-2")
    wire.client.resume("r-1", stream, 1)
    wire.up("RESUME from chunk 1")
    lost.server.respond(stream, write_response(3, 2, "stop", 1, "v1", "chat") + JSON.encode({}))
    wire.down("chunk 1, and the response, which counts 2")
    yield _told("resume_second", "it goes on over another connection", wire)

    wire = _Wire()
    wire.client.request(request)
    wire.server.drain(30_000, ["10.0.0.2:8080"], 0.0)
    wire.down("DRAIN: 30 s left, go to 10.0.0.2:8080; PING")
    wire.up("a request that was on its way; PONG")
    wire.down("ERROR: 503, retryable")
    wire.server.handle_timeout(0.0)
    wire.down("nothing runs, and nothing can be on its way: GOODBYE")
    yield _told("drain", "a server that stops", wire)


def signatures() -> list[Vector]:
    """Handshakes with a signature: what is computed of which key, and what goes over the wire."""
    return [
        _signature("ascii_key", "a key of this project's form", "mcp_example-key_0123456789abcdef"),
        _signature("utf8_key", "a key that is not ASCII", "钥匙 ключ"),
        _signature("long_key", "a key longer than a block of SHA-256", "k" * 100),
    ]


def _signature(name: str, meaning: str, secret: str) -> Vector:
    key = SigningKey(secret)
    hello = signed(Hello(versions=["1.0"], codecs=["json"]), key.id, NONCE)
    asking, answering = _Role(), _Role()
    server = ServerConnection(answering, _nothing, SETTINGS, 0.0)  # type: ignore[arg-type]
    answering.accept = lambda: server.challenge(key, CHALLENGE, lambda right: server.accept("c-1"))
    client = ClientConnection(hello, asking, _nothing, SETTINGS, 0.0, key)  # type: ignore[arg-type]
    steps = []
    payloads = []
    for side, one, other, said in (
        ("client", client, server, "the preface, and HELLO: which key, and a nonce"),
        ("server", server, client, "CHALLENGE"),
        ("client", client, server, "PROOF"),
        ("server", server, client, "PROOF, and WELCOME"),
    ):
        data = b"".join(one.take())
        steps.append({"from": side, "meaning": said, "bytes_hex": data.hex()})
        payloads.append(data)
        other.receive(data, 0.0)
    assert client.opened
    shown, welcome = payloads[3][HEADER_BYTES : HEADER_BYTES + 32], payloads[3][2 * HEADER_BYTES + 32 :]
    return {
        "name": name,
        "meaning": meaning,
        "key": secret,
        "key_id": key.id,
        "hello_hex": payloads[0][len(PREFACE) + HEADER_BYTES :].hex(),
        "challenge_hex": CHALLENGE.hex(),
        "client_proof_hex": payloads[2][HEADER_BYTES:].hex(),
        "welcome_hex": welcome.hex(),
        "server_proof_hex": shown.hex(),
        "steps": steps,
    }


def files() -> dict[str, bytes]:
    """Every file of the vectors, by its path in their folder."""
    kinds = (frames, preambles, bodies, conversations, refused, signatures)
    made = {}
    for kind in kinds:
        vectors = kind()
        name = kind.__name__
        made[f"{name}.json"] = (json.dumps(vectors, indent=1, ensure_ascii=False) + "\n").encode()
        for vector in vectors:
            if "steps" not in vector:
                made[f"{name}/{vector['name']}.bin"] = bytes.fromhex(vector["bytes_hex"])
                continue
            for side in ("client", "server"):
                sent = [bytes.fromhex(step["bytes_hex"]) for step in vector["steps"] if step["from"] == side]
                made[f"{name}/{vector['name']}.{side}.bin"] = b"".join(sent)
    return made


def _frame_vector(name: str, meaning: str, *fields: Any) -> Vector:
    opcode, stream, payload, flags, aux, arg = (*fields, *(0, 0, b"", 0, 0, 0)[len(fields) :])
    said = {"opcode": opcode, "flags": flags, "aux": aux, "stream": stream, "arg": arg, "payload_hex": payload.hex()}
    return {**_vector(name, meaning, encode_frame(*fields)), "fields": said}


def _payload_vector(name: str, meaning: str, data: bytes, fields: dict[str, Any], body_at: int) -> Vector:
    return {**_vector(name, meaning, data), "fields": {**fields, "body_at": body_at}}


def _vector(name: str, meaning: str, data: bytes) -> Vector:
    return {"name": name, "meaning": meaning, "bytes_hex": data.hex()}


def _nothing() -> None:
    pass


def main(folder: Path) -> None:
    """Write every file; what is no longer made is deleted."""
    made = files()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if str(path.relative_to(folder)) not in made:
            path.unlink()
    for name, data in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(made)} files in {folder}; the preface is {PREFACE.hex()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
