"""The log's writer: a bounded queue, and a thread that turns what is in it into lines.

Invariant: putting something in costs a list append and never waits, whatever the disk does. What does not fit
or cannot be written is lost and counted; writing goes on by itself as soon as the disk takes it again.

While many requests end, whoever puts a whole chunk of them in turns it into text: their records are still in the cache
then, are free for the next requests, and no second thread asks for the interpreter; the thread is left with writing.
While few end, the thread does both, in small chunks, so that it never delays the event loop by more than a fraction of
a millisecond.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import cast

import msgspec

from open_autoglm import clock
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.telemetry.line_file import LineFile
from open_autoglm.telemetry.request_line import LineBuilder, level_of
from open_autoglm.telemetry.settings import LoggingSettings

QUEUE_MAX = 32_768
"""Lines that may wait: a second at 33,000 requests a second, 50 MB of records."""

FLUSH_S = 0.2
"""Longest time a line waits while the disk is well, seconds."""

CHUNK = 64
"""Lines built and written at a time: about 100 µs of work."""

_CHUNKS_WRITTEN = 16
"""Chunks written at a time: half a megabyte at most, joined in a tenth of a millisecond."""

_RANK = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3}


def _nothing() -> None:
    """Nobody holds records back."""


class RequestLog:
    """Writes one line per request, and the lines of everything else.

    Args:
        settings: where to, in which format, from which level, and which share of the successes.
        queue_max: lines that may wait.
        file: where lines go; made from `settings.file` when left out.

    Attributes:
        catch_up: called when the log is closed; whoever brings records in batches brings what it still has.
    """

    def __init__(self, settings: LoggingSettings, *, queue_max: int = QUEUE_MAX, file: LineFile | None = None) -> None:
        self._settings = settings
        self.catch_up: Callable[[], None] = _nothing
        self._queue: deque[RequestRecord | bytes] = deque()
        self._ready: deque[bytes] = deque()
        self._queue_max = queue_max
        self._ready_max = queue_max // CHUNK
        self._refused = 0
        self._lost = 0
        self._told = 0
        self._share = 0.0
        self._file = file if file is not None else LineFile(settings.file)
        self._reopen = False
        self._builder = LineBuilder(as_json=settings.format == "json")
        self._rank = _RANK[settings.level]
        self._everything = settings.requests >= 1.0 and self._rank <= _RANK["INFO"]
        self._wake = threading.Event()
        self._stop = False
        self._worker: threading.Thread | None = None
        self._writing = threading.Lock()

    def put(self, record: RequestRecord) -> None:
        """Leave a finished request to be written."""
        self.put_all([record])

    def put_all(self, records: list[RequestRecord]) -> None:
        """Leave finished requests to be written. Less than 0.1 µs; from a chunk of them on, some 70 µs for each."""
        room = self._queue_max - len(self._queue)
        if len(records) > room:
            self._refused += len(records) - room
            records = records[:room]
        self._queue.extend(records)
        while (
            len(self._queue) >= CHUNK and len(self._ready) < self._ready_max and self._writing.acquire(blocking=False)
        ):
            try:
                self._prepare()
            finally:
                self._writing.release()

    def put_line(self, line: bytes, *, urgent: bool = False) -> None:
        """Leave a ready line (with its line feed) to be written, at once when it is urgent. Any thread may call."""
        if len(self._queue) < self._queue_max:
            self._queue.append(line)
        else:
            self._refused += 1
        if urgent:
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines lost since the start: `mcp_log_dropped_total`."""
        return self._refused + self._lost

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it is running.
        """
        if self._worker is not None:
            raise RuntimeError("the request log was started twice")
        self._stop = False
        self._worker = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._worker.start()

    def reopen(self) -> None:
        """Open the file anew before the next line, as log rotation asks for with a signal."""
        self._reopen = True
        self._wake.set()

    def close(self, deadline_s: float = 2.0) -> None:
        """Write what waits and stop; what is not written within `deadline_s` is lost and counted."""
        self.catch_up()
        thread, self._worker = self._worker, None
        self._stop = True
        self._wake.set()
        if thread is not None:
            thread.join(deadline_s)
        if thread is None or not thread.is_alive():
            self.flush()
            self._file.close()
        self._refused += len(self._queue) + sum(data.count(b"\n") for data in self._ready)
        self._queue.clear()
        self._ready.clear()

    def flush(self) -> None:
        """Write everything that waits, in the calling thread."""
        with self._writing:
            self._drain()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self.flush()

    def _drain(self) -> None:
        if self._reopen:
            self._reopen = False
            self._file.close()
        self._write_ready()
        while self._queue:
            self._prepare()
            self._write_ready()
        if self.dropped > self._told:
            self._tell()

    def _write_ready(self) -> None:
        """Write what is text already, many chunks at a time: each write hands the interpreter to and fro."""
        ready = self._ready
        while ready:
            chunks = [ready.popleft() for _ in range(min(_CHUNKS_WRITTEN, len(ready)))]
            self._lost += self._file.write(b"".join(chunks))

    def _prepare(self) -> None:
        """Turn a chunk of what waits into text that is ready to be written."""
        queue = self._queue
        chunk = [queue.popleft() for _ in range(min(CHUNK, len(queue)))]
        try:
            data = self._encode(chunk)
        except Exception:  # the log's outermost loop: one bad record must not silence it
            self._lost += len(chunk)
            return
        if data:
            self._ready.append(data)

    def _encode(self, chunk: list[RequestRecord | bytes]) -> bytes:
        """Turn neighbours of one kind into lines together, keeping the order."""
        if self._everything and bytes not in set(map(type, chunk)):
            return self._builder.build(cast("list[RequestRecord]", chunk))
        parts: list[bytes] = []
        records: list[RequestRecord] = []
        for item in chunk:
            if isinstance(item, bytes):
                parts += (self._builder.build(records), item)
                records = []
            elif self._everything or self._wanted(item):
                records.append(item)
        parts.append(self._builder.build(records))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wanted(self, record: RequestRecord) -> bool:
        rank = _RANK[level_of(record)]
        if rank < self._rank:
            return False
        if rank > _RANK["INFO"]:
            return True
        self._share += self._settings.requests
        if self._share < 1.0:
            return False
        self._share -= 1.0
        return True

    def _tell(self) -> None:
        """Say in the log itself that lines are missing, once it can be written again."""
        lost = self.dropped - self._told
        now = clock.iso_utc(clock.wall())
        if self._settings.format == "json":
            fields = {"time": now, "level": "WARNING", "event": "log_lines_dropped", "count": lost}
            line = msgspec.json.encode(fields) + b"\n"
        else:
            line = f"{now} WARNING {lost} log lines were dropped\n".encode()
        if self._file.write(line) == 0:
            self._told += lost
