"""What servers and clients send, short to write in tests."""

import json
from typing import Any


def body(value: Any) -> bytes:
    """A JSON body as SDKs write it: compact."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chat_request(**fields: Any) -> dict[str, Any]:
    """A chat request with one message of the user."""
    return {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a chat stream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **fields,
    }


def usage_chunk(prompt_tokens: int = 3, completion_tokens: int = 2) -> dict[str, Any]:
    """The chunk that carries a stream's usage and nothing else."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": 5}
    return {**chunk(), "choices": [], "usage": usage}


def event(value: Any) -> bytes:
    """One server-sent event in the common form."""
    return b"data: " + (value if isinstance(value, bytes) else body(value)) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def stream(*texts: str, usage: bool = False, done: bool = True) -> bytes:
    """A whole chat stream of these pieces of text."""
    events = [event(chunk({"role": "assistant", "content": ""}))]
    events += [event(chunk({"content": text})) for text in texts]
    events.append(event(chunk(finish_reason="stop")))
    if usage:
        events.append(event(usage_chunk()))
    return b"".join(events) + (DONE if done else b"")


def parsed_events(payload: bytes) -> list[Any]:
    """The data of each event of a stream in the common form; `[DONE]` as that text."""
    assert payload == b"" or payload.endswith(b"\n\n")
    values = []
    for piece in payload.split(b"\n\n")[:-1]:
        assert piece.startswith(b"data: ")
        assert b"\n" not in piece
        values.append("[DONE]" if piece == b"data: [DONE]" else json.loads(piece[6:]))
    return values
