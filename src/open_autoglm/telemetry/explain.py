"""Why one request went as it did: the records of the newest requests, and their explanation as JSON.

Invariant: the stages follow each other without a gap and add up to `total_ms`; nothing in an explanation holds a
secret of a known form. Field names are stable: `autoglm trace`, the console and other people's scripts read them.

| stage | from | to |
|---|---|---|
| admit | the request's head was read | the key was known and the limits let it in |
| read | | its body was read and understood |
| route | | the first endpoint was chosen |
| upstream | | the first byte of the answer was sent (all attempts up to there) |
| answer | | the last byte was sent |

A request that ends early ends in the stage in which it was.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_autoglm import clock
from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.telemetry.redact import clean
from open_autoglm.telemetry.trace_picture import draw

__all__ = ["ExplainStore", "RequestFilter", "draw", "explain", "summarize"]

JSONObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are wanted; what is left at `None` does not matter.

    Attributes:
        model: the name asked for, or the one that answered.
        status: HTTP status sent.
        code: error code; empty for successes.
        key: name of the API key.
        endpoint: name of an endpoint that was tried.
        failed: whether it ended with an error, before or within the answer.
    """

    model: str | None = None
    status: int | None = None
    code: str | None = None
    key: str | None = None
    endpoint: str | None = None
    failed: bool | None = None

    def matches(self, record: RequestRecord) -> bool:
        """Whether `record` is one of those wanted."""
        return (
            (self.model is None or self.model in (record.model, record.served_by))
            and (self.status is None or self.status == record.status)
            and (self.code is None or self.code == record.code)
            and (self.key is None or self.key == record.key)
            and (self.failed is None or self.failed == (record.status >= 400 or bool(record.code)))
            and (self.endpoint is None or any(a.endpoint == self.endpoint for a in record.attempts))
        )


class ExplainStore:
    """The newest requests, in memory.

    Args:
        keep: how many; 0 keeps none.

    Attributes:
        catch_up: called before the store is read; whoever brings records in batches brings what it still has.
    """

    __slots__ = ("_ring", "catch_up", "extend", "put")

    put: Callable[[RequestRecord], None]
    """Keep a finished request, in place of the oldest. O(1); the record must not be changed any more."""

    extend: Callable[[Iterable[RequestRecord]], None]
    """Keep some, the newest last."""

    def __init__(self, keep: int) -> None:
        self._ring: deque[RequestRecord] = deque(maxlen=keep)
        self.put = self._ring.append
        self.extend = self._ring.extend
        self.catch_up: Callable[[], None] = _nothing

    def __len__(self) -> int:
        return len(self._ring)

    def get(self, request_id: str) -> RequestRecord | None:
        """Return the newest request with this id, or `None`. Looks through all of them: not for the request path."""
        self.catch_up()
        for record in reversed(self._ring):
            if record.request_id == request_id:
                return record
        return None

    def newest(self, limit: int, where: RequestFilter | None = None) -> list[RequestRecord]:
        """Return at most `limit` requests that fit the filter, the newest first."""
        self.catch_up()
        found: list[RequestRecord] = []
        for record in reversed(self._ring):
            if len(found) >= limit:
                break
            if where is None or where.matches(record):
                found.append(record)
        return found

    def trim(self, keep: int) -> None:
        """Forget all but the newest; memory is needed elsewhere."""
        while len(self._ring) > keep:
            self._ring.popleft()


def _nothing() -> None:
    """Nobody holds records back."""


def summarize(record: RequestRecord) -> JSONObject:
    """Return the head of an explanation: one row of a list of requests.

    Fields: `request_id, trace_id, received_at` (ISO 8601, UTC), `route, model, served_by, key, client, stream,
    status, code, message, finish_reason, version, revision, bytes_in, bytes_out, delivered_chars, attempt_count,
    total_ms, first_byte_ms`
    (null when nothing was sent) and `usage: {prompt_tokens, completion_tokens, estimated}` (tokens null when not told).
    """
    return {
        "request_id": clean(record.request_id),
        "trace_id": clean(record.trace_id),
        "received_at": clock.iso_utc(record.received_wall_s),
        "route": clean(record.route),
        "model": clean(record.model),
        "served_by": clean(record.served_by),
        "key": clean(record.key),
        "client": clean(record.client),
        "stream": record.stream,
        "status": record.status,
        "code": clean(record.code),
        "message": clean(record.message),
        "finish_reason": clean(record.finish_reason),
        "version": clean(record.version),
        "revision": record.revision,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "delivered_chars": record.delivered_chars,
        "attempt_count": len(record.attempts),
        "total_ms": _ms(record.received_s, _end(record)),
        "first_byte_ms": _ms(record.received_s, record.first_s) if record.first_s else None,
        "usage": {
            "prompt_tokens": record.prompt_tokens if record.prompt_tokens >= 0 else None,
            "completion_tokens": record.completion_tokens if record.completion_tokens >= 0 else None,
            "estimated": record.usage_estimated,
        },
    }


def explain(record: RequestRecord, candidates: Mapping[str, Sequence[str]] | None = None) -> JSONObject:
    """Return everything that is known about one request.

    Args:
        record: of a finished request.
        candidates: per model group, the names of its endpoints in the revision that served the request.

    Returns:
        The fields of `summarize`, and

        - `rejected`: why it was turned away before any attempt; empty when it was not, or when `code` says all;
        - `queue`: `{position, ms}` of a request that stood in a line, `position` when it came; null for others;
        - `stages`: `[{name, at_ms, ms}]`, `at_ms` from the request's head;
        - `candidates`: `[{group, endpoint, tried}]`, only those tried when `candidates` is not known;
        - `attempts`: `[{number, group, endpoint, reason, outcome, status, detail, reused, at_ms, ms, send_ms, head_ms,
          first_ms}]`; the last three count from the attempt's start, null when it did not come so far.
    """
    return {
        **summarize(record),
        "rejected": clean(record.rejected),
        "queue": _queue(record),
        "stages": _stages(record),
        "candidates": _candidates(record, candidates or {}),
        "attempts": [_attempt(attempt, record) for attempt in record.attempts],
    }


def _queue(record: RequestRecord) -> JSONObject | None:
    if not record.queue_position:
        return None
    return {"position": record.queue_position, "ms": _ms(0.0, record.queued_s)}


def _stages(record: RequestRecord) -> list[JSONObject]:
    """Cut the time from head to end at the marks that were reached."""
    end_s = _end(record)
    routed_s = record.attempts[0].started_s if record.attempts else 0.0
    marks = [("admit", record.admitted_s), ("read", record.read_s), ("route", routed_s), ("upstream", record.first_s)]
    marks.append(("answer", end_s))
    while len(marks) > 1 and not marks[-2][1]:
        marks.pop(-2)  # what was not reached after the last mark is not a stage of its own
    if len(marks) < 5:
        marks[-1] = (_STAGES[_STAGES.index(marks[-2][0]) + 1] if len(marks) > 1 else "admit", end_s)
    stages, at_s = [], record.received_s
    for name, mark_s in marks:
        if mark_s:
            until_s = min(max(mark_s, at_s), end_s)
            stages.append({"name": name, "at_ms": _ms(record.received_s, at_s), "ms": _ms(at_s, until_s)})
            at_s = until_s
    return stages


_STAGES = ("admit", "read", "route", "upstream", "answer")


def _candidates(record: RequestRecord, known: Mapping[str, Sequence[str]]) -> list[JSONObject]:
    tried = {(attempt.group, attempt.endpoint): True for attempt in record.attempts}
    groups = dict.fromkeys(group for group, _ in tried)
    pairs = {(group, endpoint): False for group in groups for endpoint in known.get(group, ())}
    return [
        {"group": clean(group), "endpoint": clean(endpoint), "tried": (group, endpoint) in tried}
        for group, endpoint in {**pairs, **tried}
    ]


def _attempt(attempt: AttemptRecord, record: RequestRecord) -> JSONObject:
    start_s = attempt.started_s
    return {
        "number": attempt.number,
        "group": clean(attempt.group),
        "endpoint": clean(attempt.endpoint),
        "reason": clean(attempt.reason),
        "outcome": clean(attempt.outcome),
        "status": attempt.status,
        "detail": clean(attempt.detail),
        "reused": attempt.reused,
        "at_ms": _ms(record.received_s, start_s),
        "ms": _ms(start_s, attempt.ended_s or _end(record)),
        "send_ms": _ms(start_s, attempt.sent_s) if attempt.sent_s else None,
        "head_ms": _ms(start_s, attempt.head_s) if attempt.head_s else None,
        "first_ms": _ms(start_s, attempt.first_s) if attempt.first_s else None,
    }


def _end(record: RequestRecord) -> float:
    """When the request was over; while it runs, the last thing that is known of it."""
    return record.ended_s or max(record.received_s, record.admitted_s, record.read_s, record.first_s)


def _ms(from_s: float, to_s: float) -> float:
    return round(max(0.0, to_s - from_s) * 1000, 3)
