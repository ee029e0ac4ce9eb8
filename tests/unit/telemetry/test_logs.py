"""The standard logging module writes one clean line per event."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_autoglm.ids import new_key
from open_autoglm.secret import Secret
from open_autoglm.telemetry.logs import LogHandler, configure, json_line, text_line
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.telemetry.settings import LoggingSettings


def record(message: object, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("open_autoglm.test", level, "file.py", 1, message, args, None)
    made.created = 1e9
    vars(made).update(extra)
    return made


def test_json_has_these_fields() -> None:
    made = record("%d models", 3, request_id="r1", trace_id="t1", fields={"port": 8080, "host": "a", "none": None})
    assert json.loads(json_line(made)) == {
        "time": "2001-09-09T01:46:40.000Z",
        "level": "INFO",
        "event": "log",
        "logger": "open_autoglm.test",
        "message": "3 models",
        "request_id": "r1",
        "trace_id": "t1",
        "fields": {"port": 8080, "host": "a", "none": None},
    }


def test_text_is_one_line() -> None:
    made = record("stopped\r\nfor %s", "reasons\x1b[0m", request_id="r1", fields={"port": 8080})
    assert text_line(made).decode() == (
        "2001-09-09T01:46:40.000Z INFO    open_autoglm.test:"
        " stopped\\x0d\\x0afor reasons\\x1b[0m request_id=r1 port=8080\n"
    )


@pytest.mark.parametrize("line", [json_line, text_line])
def test_no_secret_gets_through(line: object) -> None:
    key = new_key()
    made = record(
        "key %s of %s, Bearer hunter2", key, Secret("plain-secret"), request_id=key, trace_id=key, fields={key: key}
    )
    try:
        raise ValueError(f"bad key {key}")
    except ValueError:
        made.exc_info = sys.exc_info()
    shown = line(made).decode()  # type: ignore[operator]
    assert key not in shown
    assert key[8:40] not in shown
    assert "plain-secret" not in shown
    assert "hunter2" not in shown
    assert "ValueError: bad key mcp_***" in shown


def test_a_traceback_keeps_its_end_and_cannot_forge_lines() -> None:
    made = record("failed", level=logging.ERROR)
    try:
        raise ValueError("x" * 5000 + "\n2001 forged\x1b[0m the end")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert json.loads(json_line(made))["error"].endswith("forged\\x1b[0m the end")
    assert json_line(made).count(b"\n") == 1
    first, *rest = text_line(made).decode().splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("    | ") for line in rest)
    assert rest[-1] == "    | 2001 forged\\x1b[0m the end"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_formatted_is_still_told(tmp_path: Path) -> None:
    assert json.loads(json_line(record("%d of %d", 1)))["message"] == "%d of %d (its arguments do not fit)"
    handler = LogHandler(LoggingSettings(file=str(tmp_path / "app.log")))
    handler.emit(record(Unprintable()))
    handler.emit(record("%s is odd", Unprintable()))
    handler.close()
    assert handler.failed == 1
    assert json.loads((tmp_path / "app.log").read_bytes())["message"] == "%s is odd (its arguments do not fit)"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    level = logger.level
    quiet = {name: logging.getLogger(name).level for name in ("uvicorn.error", "asyncio", "watchfiles")}
    yield logger
    for handler in [handler for handler in logger.handlers if isinstance(handler, LogHandler)]:
        logger.removeHandler(handler)
        handler.close()
    logging.captureWarnings(False)
    logger.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def test_configure_replaces_itself_and_moves_to_the_writer(root: logging.Logger, tmp_path: Path) -> None:
    configure(LoggingSettings(file=str(tmp_path / "first.log")))
    settings = LoggingSettings(file=str(tmp_path / "app.log"), level="WARNING")
    handler = configure(settings)
    assert [item for item in root.handlers if isinstance(item, LogHandler)] == [handler]
    logging.getLogger("open_autoglm.a").info("too quiet")
    logging.getLogger("open_autoglm.a").warning("directly")
    assert [json.loads(line)["message"] for line in (tmp_path / "app.log").read_bytes().splitlines()] == ["directly"]
    writer = RequestLog(settings)
    handler.writer = writer
    logging.getLogger("open_autoglm.a").error("through the writer")
    assert b"through" not in (tmp_path / "app.log").read_bytes()
    writer.flush()
    assert b"through the writer" in (tmp_path / "app.log").read_bytes()
    assert not (tmp_path / "first.log").exists()
    writer.close()
