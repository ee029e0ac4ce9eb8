"""Size and time of one request in each codec: `python benchmarks/serialization.py [--json]`.

Three requests: a question, a conversation of some kilobytes, a long one with tools. A codec of ours writes a dictionary
and reads one, with its checks. "gRPC" is what a gRPC client does with the same `.proto`: it fills a message object that
it has made for the request, writes it, and on the other side parses it and reads every field; its size has the five
bytes of gRPC's prefix and the nine of an HTTP/2 frame, without headers. Ours has the frame's 16 bytes and a preamble of
24. CPU time, best of several runs, one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from open_autoglm.protocol import CODECS, encode_frame
from open_autoglm.protocol.opcodes import INFER_REQUEST
from open_autoglm.protocol.preambles import write_request
from open_autoglm.protocol.protobuf_body import _BODY

RUNS = 7
SECONDS_PER_RUN = 0.05
GRPC_FRAMING_BYTES = 5 + 9
_SENTENCE = "The gateway sends it to the endpoint that has the fewest requests in flight, and counts what came of it. "


def conversation(turns: int, sentences: int) -> list[dict[str, str]]:
    """Messages of a user and an assistant in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[turn % 2], "content": _SENTENCE * sentences} for turn in range(turns)]


def requests() -> dict[str, dict[str, Any]]:
    """The bodies, by their name."""
    question = {"prompt": "Say in one sentence what a gateway is for.", "max_tokens": 64, "temperature": 0.7}
    talk = {"messages": conversation(9, 4), "max_tokens": 512, "temperature": 0.7, "stop": ["\n\n"], "seed": 7}
    parameters = {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(12)}}
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": _SENTENCE, "parameters": parameters}}
        for n in range(8)
    ]
    return {
        "question": question,
        "conversation": talk,
        "long": {**talk, "messages": conversation(61, 10), "tools": tools},
    }


def microseconds(call: Callable[[], object]) -> float:
    """Least CPU time of a call."""
    call()
    start = time.process_time()
    call()
    count = max(3, int(SECONDS_PER_RUN / max(time.process_time() - start, 1e-6)))
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - start) / count)
    return best * 1e6


def row(data: bytes, framing: int, write: Callable[[], object], read: Callable[[], object]) -> dict[str, float]:
    """One line of the table."""
    return {
        "bytes": len(data) + framing,
        "encode_us": round(microseconds(write), 2),
        "decode_us": round(microseconds(read), 2),
    }


def grpc_row(body: dict[str, Any]) -> dict[str, float]:
    """The same request by message objects."""
    extra = CODECS["json"].encode({"tools": body["tools"]}) if "tools" in body else b""

    def write() -> bytes:
        message = _BODY()
        message.max_tokens, message.temperature = body["max_tokens"], body["temperature"]
        if "prompt" in body:
            message.prompt = body["prompt"]
        else:
            message.seed = body["seed"]
            message.stop.extend(body["stop"])
            for item in body["messages"]:
                message.messages.add(role=item["role"], content=item["content"])
        if extra:
            message.extra = extra
        data: bytes = message.SerializeToString()
        return data

    data = write()

    def read() -> object:
        message = _BODY.FromString(data)
        texts = [(item.role, item.content) for item in message.messages]
        return texts, message.prompt, message.max_tokens, message.temperature, list(message.stop), message.extra

    return row(data, GRPC_FRAMING_BYTES, write, read)


def measure() -> dict[str, Any]:
    """All requests in all codecs."""
    framing = len(encode_frame(INFER_REQUEST, 1, write_request("chat")))
    table: dict[str, Any] = {}
    for name, body in requests().items():
        rows = {}
        for title, codec in (("JSON", "json"), ("MessagePack", "msgpack"), ("Protobuf", "protobuf")):
            of = CODECS[codec]
            data = of.encode(body)
            assert of.decode(data) == body
            rows[title] = row(
                data, framing, lambda of=of, body=body: of.encode(body), lambda of=of, d=data: of.decode(d)
            )  # type: ignore[misc]
        rows["gRPC"] = grpc_row(body)
        table[name] = rows
    return table


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    table = measure()
    if as_json:
        print(
            json.dumps({"python": platform.python_version(), "unit": "CPU microseconds", "requests": table}, indent=2)
        )
        return
    print("| request | codec | bytes | encode µs | decode µs |\n|---|---|---|---|---|")
    for name, rows in table.items():
        for codec, figures in rows.items():
            size = f"{figures['bytes']:,}"
            print(f"| {name} | {codec} | {size} | {figures['encode_us']:.2f} | {figures['decode_us']:.2f} |")


if __name__ == "__main__":
    main()
