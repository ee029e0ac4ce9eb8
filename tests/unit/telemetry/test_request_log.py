"""The log's writer: order, limits, sampling, healing, closing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.line_file import LineFile
from open_autoglm.telemetry.request_log import RequestLog
from open_autoglm.telemetry.settings import LoggingSettings

MakeRecord = Callable[..., RequestRecord]


class Disk(LineFile):
    """A disk that can be full; remembers what was written."""

    def __init__(self) -> None:
        super().__init__(None)
        self.data = b""
        self.full = False

    def write(self, data: bytes) -> int:
        if self.full:
            return data.count(b"\n")
        self.data += data
        return 0

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_order_is_kept_between_requests_and_other_lines(disk: Disk, make_record: MakeRecord) -> None:
    log = RequestLog(LoggingSettings(), file=disk)
    for n in range(200):
        log.put(make_record(request_id=f"r{n}"))
        if n % 7 == 0:
            log.put_line(b'{"request_id":"line %d"}\n' % n)
    log.flush()
    shown = [str(line["request_id"]) for line in disk.lines]
    assert len(shown) == 229
    assert [name for name in shown if name.startswith("r")] == [f"r{n}" for n in range(200)]
    assert all(shown[shown.index(f"r{n}") + 1] == f"line {n}" for n in range(0, 200, 7))


def test_what_does_not_fit_is_counted_and_told(disk: Disk, make_record: MakeRecord) -> None:
    log = RequestLog(LoggingSettings(), queue_max=3, file=disk)
    for _ in range(5):
        log.put(make_record())
    log.put_line(b"{}\n")
    assert log.dropped == 3
    log.flush()
    assert [line["event"] for line in disk.lines] == ["request", "request", "request", "log_lines_dropped"]
    assert disk.lines[-1]["count"] == 3
    log.flush()
    assert len(disk.lines) == 4, "told once"


def test_a_full_disk_loses_lines_and_heals(disk: Disk, make_record: MakeRecord) -> None:
    log = RequestLog(LoggingSettings(), file=disk)
    disk.full = True
    for _ in range(10):
        log.put(make_record())
    log.flush()
    assert log.dropped == 10
    assert disk.data == b""
    disk.full = False
    log.put(make_record(request_id="after"))
    log.flush()
    assert [line.get("request_id", line.get("count")) for line in disk.lines] == ["after", 10]
    assert log.dropped == 10


@pytest.mark.parametrize(("share", "written"), [(0.0, 0), (0.1, 10), (0.3, 30), (1.0, 100)])
def test_a_share_of_the_successes_and_every_failure(
    disk: Disk, make_record: MakeRecord, share: float, written: int
) -> None:
    log = RequestLog(LoggingSettings(requests=share), file=disk)
    for _ in range(100):
        log.put(make_record())
        log.put(make_record(status=200, code="stream_interrupted"))
    log.flush()
    assert sum("code" not in line for line in disk.lines) == pytest.approx(written, abs=1)
    assert sum("code" in line for line in disk.lines) == 100


@pytest.mark.parametrize(
    ("level", "statuses"),
    [("DEBUG", [200, 404, 502]), ("INFO", [200, 404, 502]), ("WARNING", [404, 502]), ("ERROR", [502])],
)
def test_the_level_decides_which_requests_are_written(
    disk: Disk, make_record: MakeRecord, level: str, statuses: list[int]
) -> None:
    log = RequestLog(LoggingSettings(level=level), file=disk)  # type: ignore[arg-type]
    for status in (200, 404, 502):
        log.put(make_record(status=status, code="" if status == 200 else "not_found"))
    log.flush()
    assert [line["status"] for line in disk.lines] == statuses


def test_a_record_that_cannot_be_written_down_does_not_silence_the_log(disk: Disk, make_record: MakeRecord) -> None:
    log = RequestLog(LoggingSettings(), file=disk)
    log.put(make_record(received_wall_s=float("nan")))
    log.flush()
    log.put(make_record(request_id="next"))
    log.flush()
    assert log.dropped == 1
    assert disk.lines[-1]["request_id"] == "next"


def test_the_thread_writes_and_closing_flushes(tmp_path: Path, make_record: MakeRecord) -> None:
    path = tmp_path / "app.log"
    log = RequestLog(LoggingSettings(file=str(path)))
    log.start()
    with pytest.raises(RuntimeError, match="twice"):
        log.start()
    for n in range(1000):
        log.put(make_record(request_id=f"r{n}"))
    log.close(deadline_s=10.0)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["request_id"] for line in lines] == [f"r{n}" for n in range(1000)]
    assert log.dropped == 0
    log.put(make_record())
    log.close()
    assert len(path.read_bytes().splitlines()) == 1001, "what comes after is written by the next close"


def test_reopening_leaves_the_rotated_file_alone(tmp_path: Path, make_record: MakeRecord) -> None:
    path = tmp_path / "app.log"
    log = RequestLog(LoggingSettings(file=str(path)))
    log.put(make_record(request_id="before"))
    log.flush()
    path.rename(tmp_path / "app.log.1")
    log.reopen()
    log.put(make_record(request_id="after"))
    log.flush()
    assert b"after" in path.read_bytes()
    assert b"after" not in (tmp_path / "app.log.1").read_bytes()


def test_text_format_tells_of_losses_in_text(disk: Disk, make_record: MakeRecord) -> None:
    log = RequestLog(LoggingSettings(format="text"), queue_max=1, file=disk)
    log.put(make_record())
    log.put(make_record())
    log.flush()
    assert disk.data.decode().endswith(" WARNING 1 log lines were dropped\n")
