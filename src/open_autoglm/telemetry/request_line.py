"""One line per request, for the log: built by the writer's thread from the request's record.

Invariant: a line is one line, holds no secret of a known form and no raw control character, and no field of it
is longer than `redact.FIELD_BYTES_MAX`. Lines are encoded as they are, many at a time; only where the result
could break the invariant (a quick search says so) are the lines built again with every text cleaned.
Cost: below 2 µs of CPU a line.
"""

from collections.abc import Callable, Sequence

import msgspec

from open_autoglm import clock
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.redact import clean

_LINE_BYTES_MAX = 2000
"""A line shorter than this holds no field above the cap, so nothing needs to be cut."""

_MARKERS = (b"sk-", b"mcp_", b"earer", b"\x7f")
"""What no line without a secret or a control character holds (the encoder escapes the other ASCII ones)."""
_TOKEN_MARKER = b"eyJ"
_RARE = b"J"
"""A letter of that marker which most lines do not have: a single one is found at memory speed."""

_MILLISECONDS = tuple(f".{ms:03d}Z" for ms in range(1000))


class RequestLine(msgspec.Struct, gc=False, omit_defaults=True):
    """The fields of a line, in their order. Empty ones are left out.

    Attributes:
        time: arrival, UTC, milliseconds.
        level: INFO; WARNING for 4xx, a client that left or a stream that broke; ERROR for 5xx.
        event: always `request`.
        served_by: the name that answered, when it is not the one asked for.
        request_id, trace_id, route, model, key, client, stream, status, code, message, finish_reason,
        prompt_tokens, completion_tokens, bytes_in, bytes_out, revision: as in `RequestRecord`.
        ms: from the request's head to the answer's end, milliseconds.
        first_ms: from the request's head to the answer's first byte.
        attempts: how many; `endpoint` and `outcome` are those of the one that answered, or else of the last one,
            `tried` the others, as `name:outcome`, and `detail` the last one's words when it failed.
        queued_ms: how long it stood in a line.
        rejected: why it was turned away before any attempt, where `code` does not say all.
    """

    time: str
    level: str
    event: str
    request_id: str
    trace_id: str = ""
    route: str = ""
    model: str = ""
    served_by: str = ""
    key: str = ""
    client: str = ""
    stream: bool = False
    status: int = 0
    code: str = ""
    message: str = ""
    ms: float = -1.0
    first_ms: float = 0.0
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    bytes_in: int = 0
    bytes_out: int = 0
    attempts: int = 0
    endpoint: str = ""
    outcome: str = ""
    tried: str = ""
    detail: str = ""
    queued_ms: float = 0.0
    rejected: str = ""
    revision: int = -1


def level_of(record: RequestRecord) -> str:
    """Return the level of a request's line: ERROR from 500, WARNING for other failures, INFO for a success."""
    if record.status >= 500:
        return "ERROR"
    return "WARNING" if record.status >= 400 or record.code else "INFO"


class LineBuilder:
    """Turns records into lines. One thread only: it remembers the current second's text."""

    def __init__(self, *, as_json: bool) -> None:
        self._encode: Callable[[list[RequestLine]], bytes] = msgspec.json.Encoder().encode_lines if as_json else _text
        self._second = -1
        self._second_text = ""

    def build(self, records: Sequence[RequestRecord]) -> bytes:
        """Return one line for each record, each with its line feed; empty for no record."""
        if not records:
            return b""
        line = self._line
        try:
            data = self._encode([line(record) for record in records])
        except (UnicodeError, ValueError):  # a lone surrogate in somebody's text
            return self._careful(records)
        if not (_harmless(data) and _is_short(data)):
            return self._careful(records)
        return data

    def _careful(self, records: Sequence[RequestRecord]) -> bytes:
        return self._encode([_cleaned(self._line(record)) for record in records])

    def _line(self, record: RequestRecord) -> RequestLine:
        wall_s = record.received_wall_s
        second = int(wall_s)
        if second != self._second:
            self._second = second
            self._second_text = clock.iso_utc(second)[:-5]
        received_s = record.received_s
        first_s = record.first_s
        status = record.status
        code = record.code
        model = record.model
        served_by = record.served_by
        attempts = record.attempts
        endpoint = outcome = tried = detail = ""
        if attempts:
            last = attempts[-1]
            if len(attempts) > 1:
                # Of two that ran at once the first may have answered.
                last = next((attempt for attempt in attempts if attempt.outcome == "ok"), last)
                tried = ",".join(f"{each.endpoint}:{each.outcome}" for each in attempts if each is not last)
            endpoint = last.endpoint
            outcome = last.outcome
            if outcome != "ok":
                detail = last.detail
        line = RequestLine(
            self._second_text + _MILLISECONDS[int((wall_s - second) * 1000)],
            "INFO" if status < 400 and not code else level_of(record),
            "request",
            record.request_id,
            record.trace_id,
            record.route,
            model,
            served_by if served_by != model else "",
            record.key,
            record.client,
            record.stream,
            status,
            code,
            record.message,
            int((record.ended_s - received_s) * 1e6) / 1e3,
            int((first_s - received_s) * 1e6) / 1e3 if first_s else 0.0,
            record.finish_reason,
            record.prompt_tokens,
            record.completion_tokens,
            record.bytes_in,
            record.bytes_out,
            len(attempts),
            endpoint,
            outcome,
            tried,
            detail,
            revision=record.revision,
        )
        if record.queue_position or record.rejected:
            line.queued_ms = round(record.queued_s * 1000, 3)
            line.rejected = record.rejected
        return line


def _harmless(data: bytes) -> bool:
    if not data.isascii() or (_RARE in data and _TOKEN_MARKER in data):
        return False
    return not any(marker in data for marker in _MARKERS)


def _is_short(data: bytes) -> bool:
    """Whether no line is longer than `_LINE_BYTES_MAX`."""
    end = 0
    while end < len(data):
        # The last line feed in reach passes over several lines at memory speed.
        end = data.rfind(b"\n", end, end + _LINE_BYTES_MAX + 1) + 1
        if not end:
            return False
    return True


_TEXT_FIELDS = tuple(
    field.name for field in msgspec.structs.fields(RequestLine) if field.type is str and field.name != "time"
)


def _cleaned(line: RequestLine) -> RequestLine:
    for name in _TEXT_FIELDS:
        setattr(line, name, clean(getattr(line, name)))
    return line


def _text(lines: list[RequestLine]) -> bytes:
    """Write lines for people; `_harmless` does not see control characters below 0x20 here, so clean them first."""
    return "".join([_one_text(_cleaned(line)) for line in lines]).encode()


def _one_text(line: RequestLine) -> str:
    who = f" key={line.key}" if line.key else ""
    what = f" {line.model or '-'}" + (f" -> {line.endpoint}" if line.endpoint else "")
    wrong = f" {line.code}: {line.message}" if line.code else ""
    tried = f" after {line.tried}" if line.tried else ""
    return (
        f"{line.time} {line.level:<7} {line.status} {line.route}{what}{tried}"
        f" {line.ms:.1f} ms{wrong} request_id={line.request_id}{who}\n"
    )
