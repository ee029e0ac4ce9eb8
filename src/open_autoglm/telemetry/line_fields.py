"""The fields of a request's log line, in their order; see `request_line.py`, which fills them in."""

from __future__ import annotations

from msgspec import Struct


class RequestLine(Struct, gc=False, omit_defaults=True):
    """A line as JSON. Empty fields are left out; those that differ from request to request come first.

    Attributes:
        time: arrival, UTC, milliseconds.
        level: INFO; WARNING for 4xx, a client that left or a stream that broke; ERROR for 5xx.
        event: always `request`.
        served_by: the name that answered, when it is not the one asked for.
        request_id, trace_id, prompt_tokens, completion_tokens, bytes_in, bytes_out, route, model, key, client, stream,
            status, code, message, finish_reason, revision: as in `RequestRecord`.
        ms: from the request's head to the answer's end, milliseconds.
        first_ms: from the request's head to the answer's first byte.
        attempts: how many; `endpoint` and `outcome` are those of the one that answered, or else of the last one,
            `tried` the others, as `name:outcome`, and `detail` the last one's words when it failed.
        queued_ms: how long it stood in a line.
        rejected: why it was turned away before any attempt, where `code` does not say all.
    """

    time: str = ""
    level: str = ""
    event: str = ""
    request_id: str = ""
    trace_id: str = ""
    ms: float = -1.0
    first_ms: float = 0.0
    prompt_tokens: int = -1
    completion_tokens: int = -1
    bytes_in: int = 0
    bytes_out: int = 0
    route: str = ""
    model: str = ""
    served_by: str = ""
    key: str = ""
    client: str = ""
    stream: bool = False
    status: int = 0
    code: str = ""
    message: str = ""
    finish_reason: str = ""
    attempts: int = 0
    endpoint: str = ""
    outcome: str = ""
    tried: str = ""
    detail: str = ""
    queued_ms: float = 0.0
    rejected: str = ""
    revision: int = -1
