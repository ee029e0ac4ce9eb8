"""Sets up the standard `logging` module: everything that is not a request's line goes through here.

Invariant: one event is one line (text format adds a traceback, indented, below it); every text in it has been
redacted, escaped and capped (`redact.clean`); a `Secret` prints as `***` by its type. Logging never raises and,
while the log's writer runs, never waits for the disk.

Give ids and figures with `extra`: `log.warning("…", extra={"request_id": …, "trace_id": …, "fields": {…}})`.
"""

import logging
from collections.abc import Callable, Mapping

import msgspec

from open_autoglm import clock
from open_autoglm.telemetry.line_file import LineFile
from open_autoglm.telemetry.redact import clean, redact
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.telemetry.settings import LoggingSettings

FIELDS_MAX = 32
"""Entries of `extra={"fields": …}` that are written; the rest is left out."""

_QUIET = {"uvicorn.error": logging.WARNING, "asyncio": logging.WARNING, "watchfiles": logging.WARNING}
"""Loggers of libraries that tell at INFO what only they care about."""

_TRACEBACK_LINES_MAX = 60


class LogHandler(logging.Handler):
    """Turns log records into lines and passes them to the log's writer, or writes them itself while there is none.

    Args:
        settings: format and place.
        file: where lines go while no writer is set.
    """

    def __init__(self, settings: LoggingSettings, file: LineFile | None = None) -> None:
        super().__init__()
        self._line: Callable[[logging.LogRecord], bytes] = json_line if settings.format == "json" else text_line
        self._file = file if file is not None else LineFile(settings.file)
        self.writer: RequestLog | None = None
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A record that cannot be written down is counted in `failed`."""
        try:
            line = self._line(record)
        except Exception:  # an argument whose str() raises must not break what was being logged
            self.failed += 1
            return
        if self.writer is not None:
            self.writer.put_line(line, urgent=record.levelno >= logging.ERROR)
        else:
            self.failed += self._file.write(line)

    def close(self) -> None:
        """Close the file; the writer is its owner's."""
        self._file.close()
        super().close()


def configure(settings: LoggingSettings, writer: RequestLog | None = None) -> LogHandler:
    """Make `logging` write as the settings say, in place of whatever was set up before.

    Args:
        settings: level, format, place.
        writer: a started log; without one lines are written at once, by whoever logs.

    Returns:
        The handler. Set its `writer` to the log once that runs, and back to `None` before it is closed.
    """
    handler = LogHandler(settings)
    handler.writer = writer
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, LogHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(settings.level)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))
    logging.captureWarnings(True)
    return handler


def json_line(record: logging.LogRecord) -> bytes:
    """Return one record as a line of JSON: time, level, event `log`, logger, message, ids, fields, error."""
    line: dict[str, object] = {
        "time": clock.iso_utc(record.created),
        "level": record.levelname,
        "event": "log",
        "logger": record.name,
        "message": clean(_message(record), keep_lines=True),
    }
    for name in ("request_id", "trace_id"):
        value = getattr(record, name, "")
        if value:
            line[name] = clean(str(value))
    fields = _fields(record)
    if fields:
        line["fields"] = fields
    if record.exc_info:
        line["error"] = clean(_tail(redact(_traceback(record))), keep_lines=True)
    return msgspec.json.encode(line) + b"\n"


def text_line(record: logging.LogRecord) -> bytes:
    """Return one record as a line for people; a traceback follows, each of its lines indented."""
    parts = [f"{clock.iso_utc(record.created)} {record.levelname:<7} {record.name}: {clean(_message(record))}"]
    for name in ("request_id", "trace_id"):
        value = getattr(record, name, "")
        if value:
            parts.append(f"{name}={clean(str(value))}")
    parts += [f"{name}={value}" for name, value in _fields(record).items()]
    text = " ".join(parts)
    if record.exc_info:
        shown = _traceback(record).splitlines()[-_TRACEBACK_LINES_MAX:]
        text += "".join(f"\n    | {clean(line)}" for line in shown)
    return text.encode() + b"\n"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong number of arguments, or one that cannot be printed
        return f"{record.msg!s} (its arguments do not fit)"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = getattr(record, "fields", None)
    if not isinstance(given, Mapping):
        return {}
    return {clean(str(name)): _value(value) for name, value in list(given.items())[:FIELDS_MAX]}


def _value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(str(value))


_formatter = logging.Formatter()


def _traceback(record: logging.LogRecord) -> str:
    return _formatter.formatException(record.exc_info) if record.exc_info else ""


def _tail(text: str) -> str:
    """Keep a traceback's end, which says what was raised, when it is longer than a field may be."""
    return text if len(text) <= 2000 else "…" + text[-1990:]
