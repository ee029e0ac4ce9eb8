"""What a well-behaved model's server says: the openai dialect, and the generate dialect in its forms."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from tests.integration.upstreams import Behaviour, Wire

TEXT = "你好，世界 — 晴 21°C"
TEXT_PIECES = ("你好", "，世界", " — 晴", " 21°C")
VECTOR = [0.25, -1.5, 3.0]
"""Exact in 32 bits."""
TOOL_ARGUMENTS = '{"city": "北京"}'
JSON_TEXT = '{"city":"北京","degrees":21}'
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def dumps(value: object) -> bytes:
    """JSON as servers write it: no spaces, no escapes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def delta(text: str, model: str = "upstream", **more: Any) -> bytes:
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event(_chunk(model, [choice]) | more)


def finish(model: str = "upstream", reason: str = "stop") -> bytes:
    """The event that ends one."""
    return event(_chunk(model, [{"index": 0, "delta": {}, "finish_reason": reason}]))


async def speak(wire: Wire) -> None:
    """Answer as the path asks."""
    body = wire.seen.json
    path = wire.seen.path
    if path.endswith("/generate"):
        await generate("text")(wire)
    elif path.endswith("/embeddings"):
        await wire.respond(dumps(_embeddings(body)))
    elif path.endswith("/chat/completions"):
        await (_stream(wire, _chat_events(body)) if body.get("stream") else wire.respond(dumps(_chat(body))))
    elif path.endswith("/completions"):
        await (_stream(wire, _text_events(body)) if body.get("stream") else wire.respond(dumps(_completion(body))))
    else:
        await wire.respond(b"{}", 404)


def generate(form: str, text: str = TEXT, parts: tuple[str, ...] = TEXT_PIECES) -> Behaviour:
    """The generate dialect in one of its forms.

    Args:
        form: `text`, `response` (each line a JSON document, as Ollama), `generated_text` (a list of one), `vllm`
            (the prompt is repeated, streams repeat the whole text), `sglang` (`meta_info`, streams repeat the text).
        text: of the answer; `parts` of a streamed one.
    """

    async def behave(wire: Wire) -> None:
        body = wire.seen.json
        if not body.get("stream"):
            await wire.respond(dumps(_generated(form, text, body["prompt"])))
            return
        grown = ""
        kind = "application/x-ndjson" if form == "response" else "text/event-stream"
        await wire.start_stream(kind)
        for part in parts:
            grown += part
            match form:
                case "response":
                    await wire.chunk(dumps({"response": part, "done": False}) + b"\n")
                case "vllm":
                    await wire.chunk(event({"text": [body["prompt"] + grown]}))
                case "sglang":
                    await wire.chunk(event({"text": grown, "meta_info": {"finish_reason": None}}))
                case "generated_text":
                    await wire.chunk(event({"token": {"text": part}, "generated_text": None}))
                case _:
                    await wire.chunk(event({"text": part}))
        if form == "response":
            await wire.chunk(dumps({"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 5}))
        elif form in ("text", "sglang"):
            await wire.chunk(DONE)
        await wire.end_stream()

    return behave


def _generated(form: str, text: str, prompt: str) -> object:
    match form:
        case "response":
            return {"response": text, "done": True, "prompt_eval_count": 7, "eval_count": 5}
        case "generated_text":
            return [{"generated_text": text}]
        case "vllm":
            return {"text": [prompt + text]}
        case "sglang":
            meta = {"finish_reason": {"type": "stop"}, "prompt_tokens": 7, "completion_tokens": 5}
            return {"text": text, "meta_info": meta}
        case _:
            return {"text": text}


async def _stream(wire: Wire, events: list[bytes]) -> None:
    await wire.start_stream()
    for part in events:
        await wire.chunk(part)
    await wire.end_stream()


def _said(body: dict[str, Any]) -> str:
    """The text of an answer, which shows what of the request arrived."""
    if "response_format" in body:
        return JSON_TEXT
    parts = [m["content"] for m in body["messages"] if isinstance(m.get("content"), list)]
    images = sum(part["type"] == "image_url" for content in parts for part in content)
    return f"{images} image" if images else TEXT


def _chunk(model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}


def _logprobs(text: str) -> dict[str, Any]:
    return {"content": [{"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}]}


def _tool_call(body: dict[str, Any]) -> dict[str, Any]:
    name = body["tools"][0]["function"]["name"]
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": TOOL_ARGUMENTS}}


def _chat(body: dict[str, Any]) -> dict[str, Any]:
    choices = []
    for index in range(body.get("n") or 1):
        message: dict[str, Any] = {"role": "assistant", "content": _said(body)}
        reason = "stop"
        if body.get("tools"):
            message |= {"content": None, "tool_calls": [_tool_call(body)]}
            reason = "tool_calls"
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": reason}
        if body.get("logprobs"):
            choice["logprobs"] = _logprobs(_said(body))
        choices.append(choice)
    return _chunk(body["model"], choices) | {"object": "chat.completion", "usage": USAGE}


def _chat_events(body: dict[str, Any]) -> list[bytes]:
    model = body["model"]
    out: list[dict[str, Any]] = []
    for index in range(body.get("n") or 1):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if body.get("tools"):
            call = _tool_call(body)
            half = len(TOOL_ARGUMENTS) // 2
            head = call | {"index": 0, "function": call["function"] | {"arguments": TOOL_ARGUMENTS[:half]}}
            rest = {"index": 0, "function": {"arguments": TOOL_ARGUMENTS[half:]}}
            deltas += [{"tool_calls": [head]}, {"tool_calls": [rest]}]
        else:
            said = _said(body)
            deltas += [{"content": part} for part in (TEXT_PIECES if said == TEXT else (said[:5], said[5:]))]
        for part in deltas:
            choice: dict[str, Any] = {"index": index, "delta": part, "finish_reason": None}
            if body.get("logprobs") and part.get("content"):
                choice["logprobs"] = _logprobs(part["content"])
            out.append(_chunk(model, [choice]))
        reason = "tool_calls" if body.get("tools") else "stop"
        out.append(_chunk(model, [{"index": index, "delta": {}, "finish_reason": reason}]))
    return [event(chunk) for chunk in out] + _usage_event(body, _chunk(model, [])) + [DONE]


def _usage_event(body: dict[str, Any], chunk: dict[str, Any]) -> list[bytes]:
    asked = (body.get("stream_options") or {}).get("include_usage")
    return [event(chunk | {"usage": USAGE})] if asked else []


def _text(model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model, "choices": choices}


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    choices = [
        {"index": index, "text": TEXT, "logprobs": None, "finish_reason": "stop"} for index in range(body.get("n") or 1)
    ]
    return _text(body["model"], choices) | {"usage": USAGE}


def _text_events(body: dict[str, Any]) -> list[bytes]:
    choices = [{"index": 0, "text": part, "logprobs": None, "finish_reason": None} for part in TEXT_PIECES]
    choices.append({"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"})
    chunks = [event(_text(body["model"], [choice])) for choice in choices]
    return chunks + _usage_event(body, _text(body["model"], [])) + [DONE]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    vector: object = packed if body.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
