"""One line per request, for the log: built from the request's record.

Invariant: a line is one line, holds no secret of a known form and no raw control character, and no field of it
is longer than `redact.FIELD_BYTES_MAX`. Most requests are plain successes whose lines differ in times, ids and sizes
alone: the rest of such a line is encoded and searched once and remembered, so that only these are filled in. Every
other line is encoded as it is; only where the result could break the invariant (a quick search says so) is it built
again with every text cleaned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from open_autoglm import clock
from open_autoglm.exchange.attempt_record import AttemptRecord
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.line_fields import RequestLine
from open_autoglm.telemetry.redact import MARKERS, clean

_LINE_BYTES_MAX: Final = 2000
"""A line shorter than this holds no field above the cap, so nothing needs to be cut."""

_MARKERS: Final = (b"sk-", b"mcp_", b"earer", b"\x7f")
"""What no line without a secret or a control character holds (the encoder escapes the other ASCII ones)."""
_TOKEN_MARKER: Final = b"eyJ"
_RARE: Final = b"J"
"""A letter of that marker which most lines do not have: a single one is found at memory speed."""

_FRAMES_MAX: Final = 1024
"""Lines whose unchanging part is remembered; clients' addresses are among what it holds."""
_FRAME_CHARS_MAX: Final = 1000
"""Of that part; ids, times and numbers take less than the other half of a line."""
_ID_CHARS_MAX: Final = 200

_THOUSANDTHS: Final = tuple([f".{number:03d}" for number in range(1000)])

_encode = msgspec.json.Encoder().encode

_FrameKey = tuple[str, str, str, str, str, bool, int, str, str, int]


def level_of(record: RequestRecord) -> str:
    """Return the level of a request's line: ERROR from 500, WARNING for other failures, INFO for a success."""
    if record.status >= 500:
        return "ERROR"
    return "WARNING" if record.status >= 400 or record.code else "INFO"


class LineBuilder:
    """Turns records into lines. One thread at a time: it remembers the current second's text, and frames."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._second = -1
        self._second_text = ""
        self._frames: dict[_FrameKey, str] = {}

    def build(self, records: Sequence[RequestRecord]) -> bytes:
        """Return one line for each record, each with its line feed; empty for no record."""
        if not self._as_json:
            return "".join([_one_text(_cleaned(self._line(record))) for record in records]).encode()
        lines: list[str] = []
        for record in records:
            attempts = record.attempts
            lines.append((len(attempts) == 1 and self._plain(record, attempts[0])) or self._any(record))
        return "".join(lines).encode()

    def _plain(self, record: RequestRecord, attempt: AttemptRecord) -> str:
        """The line of a success at the first attempt; empty when it is not just that."""
        prompt, completion = record.prompt_tokens, record.completion_tokens
        if (
            record.code
            or not record.first_s
            or record.status >= 400
            or attempt.outcome != "ok"
            or record.queue_position
            or record.rejected
            or prompt < 0
            or completion < 0
            or not (record.own_id or _is_harmless_id(record.request_id + record.trace_id))
        ):
            return ""
        key = (
            record.route,
            record.model,
            record.served_by,
            record.key,
            record.client,
            record.stream,
            record.status,
            record.finish_reason,
            attempt.endpoint,
            record.revision,
        )
        frame = self._frames.get(key)
        if frame is None:
            frame = self._remember(key, record)
        if not frame:
            return ""
        received_s = record.received_s
        total_us = int((record.ended_s - received_s) * 1e6)
        first_us = int((record.first_s - received_s) * 1e6)
        wall_s = record.received_wall_s
        second = int(wall_s)
        if second != self._second:
            self._begin_second(second)
        return (
            f'{{"time":"{self._second_text}{_THOUSANDTHS[int((wall_s - second) * 1000)]}Z","level":"INFO",'
            f'"event":"request","request_id":"{record.request_id}","trace_id":"{record.trace_id}",'
            f'"ms":{total_us // 1000}{_THOUSANDTHS[total_us % 1000]},'
            f'"first_ms":{first_us // 1000}{_THOUSANDTHS[first_us % 1000]},'
            f'"prompt_tokens":{prompt},"completion_tokens":{completion},'
            f'"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},{frame}'
        )

    def _remember(self, key: _FrameKey, record: RequestRecord) -> str:
        """The part of a plain line that does not change; empty when it might break the invariant."""
        if len(self._frames) >= _FRAMES_MAX:
            self._frames.clear()
        whole = self._line(record)
        line = RequestLine(
            route=whole.route,
            model=whole.model,
            served_by=whole.served_by,
            key=whole.key,
            client=whole.client,
            stream=whole.stream,
            status=whole.status,
            finish_reason=whole.finish_reason,
            attempts=whole.attempts,
            endpoint=whole.endpoint,
            outcome=whole.outcome,
            revision=whole.revision,
        )
        try:
            data = _encode(line)
        except UnicodeError:  # as in `_any`
            data = b""
        frame = f"{data[1:].decode()}\n" if 0 < len(data) <= _FRAME_CHARS_MAX and _is_harmless(data) else ""
        self._frames[key] = frame
        return frame

    def _any(self, record: RequestRecord) -> str:
        """The line of any request."""
        line = self._line(record)
        try:
            data = _encode(line)
        except UnicodeError:  # a lone surrogate in somebody's text
            data = b""
        if not data or len(data) > _LINE_BYTES_MAX or not _is_harmless(data):
            data = _encode(_cleaned(line))
        return f"{data.decode()}\n"

    def _begin_second(self, second: int) -> None:
        self._second = second
        self._second_text = clock.iso_utc(second)[:-5]

    def _line(self, record: RequestRecord) -> RequestLine:
        wall_s = record.received_wall_s
        second = int(wall_s)
        if second != self._second:
            self._begin_second(second)
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
            f"{self._second_text}{_THOUSANDTHS[int((wall_s - second) * 1000)]}Z",
            "INFO" if status < 400 and not code else level_of(record),
            "request",
            record.request_id,
            record.trace_id,
            int((record.ended_s - received_s) * 1e6) / 1e3,
            int((first_s - received_s) * 1e6) / 1e3 if first_s else 0.0,
            record.prompt_tokens,
            record.completion_tokens,
            record.bytes_in,
            record.bytes_out,
            record.route,
            model,
            served_by if served_by != model else "",
            record.key,
            record.client,
            record.stream,
            status,
            code,
            record.message,
            record.finish_reason,
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


def _is_harmless(data: bytes) -> bool:
    if not data.isascii() or (_RARE in data and _TOKEN_MARKER in data):
        return False
    return not any(marker in data for marker in _MARKERS)


def _is_harmless_id(text: str) -> bool:
    """Whether an id that somebody else made may stand in a line as it is."""
    if len(text) > _ID_CHARS_MAX or not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        return False
    return not any(marker in text for marker in MARKERS)


_TEXT_FIELDS = tuple(
    field.name for field in msgspec.structs.fields(RequestLine) if field.type is str and field.name != "time"
)


def _cleaned(line: RequestLine) -> RequestLine:
    for name in _TEXT_FIELDS:
        setattr(line, name, clean(getattr(line, name)))
    return line


def _one_text(line: RequestLine) -> str:
    who = f" key={line.key}" if line.key else ""
    what = f" {line.model or '-'}" + (f" -> {line.endpoint}" if line.endpoint else "")
    wrong = f" {line.code}: {line.message}" if line.code else ""
    tried = f" after {line.tried}" if line.tried else ""
    return (
        f"{line.time} {line.level:<7} {line.status} {line.route}{what}{tried}"
        f" {line.ms:.1f} ms{wrong} request_id={line.request_id}{who}\n"
    )
