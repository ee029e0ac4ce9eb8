"""The record of every run of cooperation: who was asked, what came, how it was decided, and why.

Invariants: telling the trail something costs an encoding and a list append, and never waits for the disk: a thread
writes, from the first record on. What does not fit or cannot be written is lost, counted, logged at once, and said in
the chain itself as soon as the disk takes it. Only where records are `required` does a run that cannot be recorded end
with an error.

| a run is told by | becomes the chain's records |
|---|---|
| `begin` | `begin`: strategy, settings, members, knowledge of that moment |
| `RunTrail.event` | one of each event's kind, see `run_record` |
| `RunTrail.end` | `end`: the decision, what it cost, the order of its answers |
| `label` | `label`: who said which answer was right |
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.errors import ServerError
from open_autoglm.telemetry.audit_chain import LINE_BYTES_MAX, encode_data
from open_autoglm.telemetry.audit_file import AuditFile, Pending
from open_autoglm.telemetry.run_privacy import Privacy
from open_autoglm.telemetry.run_record import EVENTS_MAX, Label, RunRecord, RunStore

QUEUE_MAX: Final = 32_768
QUEUE_BYTES_MAX: Final = 64 * 2**20
FLUSH_S: Final = 0.1
"""Longest time a record waits while the disk is well, seconds."""

RETRY_S: Final = 1.0
"""Between two tries while the disk takes nothing."""

SETTLE_S: Final = 5.0
"""For one run's records to be on the disk, where they are required."""

_BATCH: Final = 512
_TELL_S: Final = 10.0
"""Between two log lines about one and the same trouble."""

_IDLE_S: Final = 60.0
_NO_TEXTS: Final = ("settings", "members", "knowledge")
"""Of a header: what the configuration and earlier labels say; no client's words."""

_log = logging.getLogger(__name__)


class AuditTrail:
    """See the module. One event loop; `close` ends the thread.

    Args:
        file: where records go; None keeps the newest runs in memory only.
        keep: runs in memory.
        texts: whether prompts and answers are kept.
        required: whether a run that cannot be recorded is an error.
        key: the audit's, from which keys of digests are made; empty for none.
        queue_max, queue_bytes_max: records that may wait.

    Attributes:
        runs: the newest.
        lost: records that were not written since the start.
        written: records that were.
    """

    def __init__(
        self,
        file: AuditFile | None,
        *,
        keep: int = 1024,
        texts: bool = False,
        required: bool = False,
        key: bytes = b"",
        queue_max: int = QUEUE_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        self.runs = RunStore(keep)
        self.texts = texts
        self.required = required
        self.lost = 0
        self.written = 0
        self._file = file
        self._key = key
        self._queue: deque[Pending] = deque()
        self._queue_max = queue_max
        self._queue_bytes = 0
        self._queue_bytes_max = queue_bytes_max
        self._put_count = 0
        self._done_count = 0
        self._lost_told = 0
        self._trouble = ""
        self._told_s = -_TELL_S
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    # Runs.

    def begin(self, run: str, header: Struct | Mapping[str, Any]) -> RunTrail:
        """A run begins.

        Args:
            run: its id, the request's; where a client gives the same one twice, `~2`, `~3`, … is added.
            header: what it begins with, see `run_record.RunRecord`.

        Raises:
            ServerError: `storage_full`, records are required and cannot be written.
        """
        if self.required:
            self._refuse_in_trouble()
        self._start()
        run = self.runs.free(run)
        salt = secrets.token_bytes(16)
        privacy = Privacy(texts=self.texts, key=self._digest_key(run, salt))
        plain: dict[str, Any] = msgspec.json.decode(encode_data(_plain(header)))  # as it will be read back
        data: dict[str, Any] = {name: plain.pop(name) for name in _NO_TEXTS if name in plain}
        data |= privacy.data(plain) | {"salt": salt.hex(), "texts": self.texts}
        record = RunRecord(run, clock.iso_utc(clock.wall()), data)
        trail = RunTrail(self, record, privacy)
        record.size = self._put(run, "begin", data, record.time)
        self.runs.put(record)
        return trail

    def label(self, record: RunRecord, label: Label) -> None:
        """Write down what was said of a run; the caller has seen that it may be."""
        self._start()
        record.labels.append(label)
        self._put(record.run, "label", {"by": label.by, "right": label.right, "answer": label.answer}, label.time)

    def privacy_of(self, record: RunRecord) -> Privacy:
        """What turns an answer into what that run's records have in its place."""
        salt = bytes.fromhex(str(record.header.get("salt", "")))
        return Privacy(texts=record.header.get("texts") is True, key=self._digest_key(record.run, salt))

    async def settled(self, run: RunTrail, deadline_s: float = SETTLE_S) -> None:
        """See `RunTrail.settled`."""
        if not self.required or self._file is None:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._done_count >= self._put_count:
                done.set_result(None)
            else:
                self._waiters.append((self._put_count, loop, done))
        self._hurry.set()
        try:
            async with asyncio.timeout(deadline_s):
                await done
        except TimeoutError as error:
            raise self._refusal() from error
        finally:  # whoever waits no longer is not kept until the disk is well again, which may be never
            with self._lock:
                self._waiters = [waiter for waiter in self._waiters if waiter[2] is not done]
        if self.lost > run.lost_before:
            raise self._refusal()

    # Life.

    def close(self, deadline_s: float = 2.0) -> None:
        """Write what waits and stop; what is not written within `deadline_s` is lost and counted."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._put("", "stopped", {"pid": os.getpid()})
        self._stopping = True
        self._wake.set()
        self._hurry.set()
        thread.join(deadline_s)
        if self._queue:
            _log.error("audit: %d records were lost at the end", len(self._queue))
            self.lost += len(self._queue)

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last record that this process has written; 0 before."""
        return (0, "") if self._file is None else self._file.head

    @property
    def waiting(self) -> int:
        """Runs that wait for their records to be on the disk."""
        return len(self._waiters)

    @property
    def trouble(self) -> str:
        """Why nothing can be written now; empty when all is well."""
        return self._trouble

    # The queue.

    def _put(self, run: str, kind: str, data: dict[str, Any], time: str = "") -> int:
        """Leave a record to be written; return its size. Never waits, never raises for want of room."""
        encoded = encode_data(data)
        if len(encoded) > LINE_BYTES_MAX // 2:
            encoded = encode_data({"left_out": "too long", "bytes": len(encoded), "at_ms": data.get("at_ms", 0)})
        if self._file is None:
            return len(encoded)
        pending = Pending(time or clock.iso_utc(clock.wall()), run, kind, encoded)
        with self._lock:
            fits = len(self._queue) < self._queue_max and self._queue_bytes + len(encoded) <= self._queue_bytes_max
            if fits:
                first = not self._queue
                self._queue.append(pending)
                self._queue_bytes += len(encoded)
                self._put_count += 1
            else:
                self.lost += 1
        if not fits:
            self._tell(f"the queue is full, {self.lost} records lost so far")
        elif first:
            self._wake.set()
        elif len(self._queue) == _BATCH:
            self._hurry.set()
        return len(encoded)

    def _start(self) -> None:
        """Start the thread with the first run, and tell the chain who writes from now on."""
        if self._thread is None and self._file is not None:
            self._stopping = False
            self._put("", "started", {"pid": os.getpid(), "texts": self.texts})
            self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            if not self._queue:
                self._wake.wait(_IDLE_S)
            self._wake.clear()
            self._hurry.wait(RETRY_S if self._trouble else FLUSH_S)  # what comes meanwhile is written with it
            self._hurry.clear()
            stopping = self._stopping
            try:
                self._drain()
            except Exception:  # the writer's outermost loop: one defect must not end the record
                _log.exception("audit: writing failed")
                self._trouble = "a defect; see the log"
            if stopping:
                if self._file is not None:
                    self._file.close()
                return

    def _drain(self) -> None:
        assert self._file is not None
        while self._queue or self.lost > self._lost_told:
            with self._lock:
                batch = [self._queue[i] for i in range(min(_BATCH, len(self._queue)))]
                lost = self.lost
            now = clock.iso_utc(clock.wall())
            told = [Pending(now, "", "lost", encode_data({"records": lost - self._lost_told}))]
            try:
                self._file.append(batch + (told if lost > self._lost_told else []), now)
            except OSError as error:
                trouble = error.strerror or type(error).__name__
                self._tell(f"nothing can be written: {trouble}; {len(self._queue)} records wait")
                self._trouble = trouble
                return
            self._lost_told = lost
            self._written(batch)

    def _written(self, batch: list[Pending]) -> None:
        if self._trouble:
            _log.warning("audit: records are written again")
            self._trouble = ""
        with self._lock:
            for each in batch:
                self._queue.popleft()
                self._queue_bytes -= len(each.data)
            self._done_count += len(batch)
            self.written += len(batch)
            ready = [waiter for waiter in self._waiters if waiter[0] <= self._done_count]
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > self._done_count]
        for _, loop, done in ready:
            loop.call_soon_threadsafe(_resolve, done)

    def _tell(self, words: str) -> None:
        now_s = clock.monotonic()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            _log.error("audit: %s", words)

    def _refuse_in_trouble(self) -> None:
        if self._trouble or len(self._queue) >= self._queue_max:
            raise self._refusal()

    def _refusal(self) -> ServerError:
        why = self._trouble or "the disk is too slow"
        return ServerError("storage_full", f"this run cannot be recorded, and audit.required asks for it: {why}")

    def _digest_key(self, run: str, salt: bytes) -> bytes:
        return hmac.digest(self._key or b"open-autoglm audit", b"%b\0%b" % (run.encode(), salt), "sha256")


class RunTrail:
    """One run's part of the trail; made by `AuditTrail.begin`.

    Attributes:
        record: what is known of it so far.
        lost_before: records that the trail had lost when it began.
    """

    __slots__ = ("_begun_s", "_privacy", "_trail", "lost_before", "record")

    def __init__(self, trail: AuditTrail, record: RunRecord, privacy: Privacy) -> None:
        self._trail = trail
        self._privacy = privacy
        self._begun_s = clock.monotonic()
        self.lost_before = trail.lost
        self.record = record

    def event(self, kind: str, data: Struct | Mapping[str, Any]) -> None:
        """Something happened; `at_ms` is added where it is missing."""
        record = self.record
        if len(record.events) >= EVENTS_MAX:
            record.events_lost += 1
            return
        given = _plain(data)
        given.pop("kind", None)
        if kind == "asked" and given.get("purpose") == "judge":
            self._privacy.judges.add(given.get("number"))
        plain = self._privacy.data(given)
        plain.setdefault("at_ms", self._at_ms())
        record.events.append({"kind": kind, **plain})
        self._trail.runs.grow(record, self._trail._put(record.run, kind, plain))

    def end(self, decision: Struct | Mapping[str, Any] | None, **more: object) -> None:
        """It is over.

        Args:
            decision: what was decided; None where nothing was.
            more: what else should be known, as `failure` or `cost`.
        """
        record = self.record
        data: dict[str, Any] = {"ms": self._at_ms(), **more}
        if decision is not None:
            data["decision"] = _plain(decision)
        plain = self._privacy.data(data)
        if record.events_lost:
            plain["events_lost"] = record.events_lost
        plain["answers"] = self._privacy.order()
        record.end = plain
        self._privacy.answers = {}
        self._trail.runs.grow(record, self._trail._put(record.run, "end", plain))

    async def settled(self, deadline_s: float = SETTLE_S) -> None:
        """Wait until all that was told is written; at once where records are not required.

        Raises:
            ServerError: `storage_full`, it is not within `deadline_s`, or some of it was lost.
        """
        await self._trail.settled(self, deadline_s)

    def _at_ms(self) -> float:
        return round((clock.monotonic() - self._begun_s) * 1000, 3)


def _plain(value: Struct | Mapping[str, Any]) -> dict[str, Any]:
    """Structs and tuples made dicts and lists."""
    built: dict[str, Any] = msgspec.to_builtins(value if isinstance(value, Struct) else dict(value))
    return built


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
