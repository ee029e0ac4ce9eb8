"""Every finished request is counted once, written once and explained, whoever asks first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.server.accounts import Accountant
from open_autoglm.telemetry.explain import ExplainStore
from open_autoglm.telemetry.line_file import LineFile
from open_autoglm.telemetry.metrics import Metrics
from open_autoglm.telemetry.request_log import CHUNK, RequestLog
from open_autoglm.telemetry.settings import LoggingSettings


class Page(LineFile):
    """A file that remembers what was written."""

    def __init__(self) -> None:
        super().__init__(None)
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return 0


class Timer:
    """A loop whose one timer goes off when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        assert 0 < delay_s <= 0.1
        self.waiting.append(callback)
        return self

    def cancel(self) -> None:
        self.waiting.clear()


class Books:
    """An accountant with everything that it keeps."""

    def __init__(self) -> None:
        self.page = Page()
        self.timer = Timer()
        self.metrics = Metrics(lambda: ["chat"])
        self.log = RequestLog(LoggingSettings(), file=self.page)
        self.explain = ExplainStore(1000)
        loop = cast(asyncio.AbstractEventLoop, self.timer)
        self.accountant = Accountant(self.metrics, self.log, self.explain, loop)

    def sample(self, line: str) -> str:
        """The value of one sample of a scrape, empty when there is none."""
        found = [row for row in self.metrics.render().decode().splitlines() if row.startswith(line + " ")]
        return found[0].rpartition(" ")[2] if found else ""

    @property
    def lines(self) -> int:
        self.log.flush()
        return self.page.data.count(b"\n")


@pytest.fixture
def books() -> Books:
    return Books()


def ended(status: int = 200, code: str = "", tried: bool = True, key: str = "default") -> RequestRecord:
    """A request of 20 ms whose answer began after 10."""
    record = RequestRecord("/v1/chat/completions", 100.0, 1)
    record.model = "chat"
    record.key = key
    record.status, record.code = status, code
    record.ended_s = 100.020
    if tried:
        attempt = AttemptRecord("local:8001", "chat", 0, "only one", 100.0)
        attempt.outcome = "connect" if code else "ok"
        record.attempts = [attempt]
        if not code:
            record.first_s = 100.010
            record.prompt_tokens, record.completion_tokens = 7, 3
    return record


OK = 'mcp_requests_total{route="/v1/chat/completions",model="chat",status="200",code=""}'
ATTEMPTS = 'mcp_attempts_total{model="chat",endpoint="local:8001",outcome="ok"}'


def test_a_scrape_sees_what_has_ended_until_then(books: Books) -> None:
    for _ in range(CHUNK + 3):
        books.accountant.settle(ended())
    assert books.sample(OK) == str(CHUNK + 3)
    assert books.sample(ATTEMPTS) == str(CHUNK + 3)
    assert books.sample('mcp_tokens_total{model="chat",kind="prompt"}') == str(7 * (CHUNK + 3))
    assert books.sample('mcp_tokens_total{model="chat",kind="completion"}') == str(3 * (CHUNK + 3))
    assert books.sample('mcp_first_token_seconds_count{model="chat"}') == str(CHUNK + 3)
    assert books.sample(OK) == str(CHUNK + 3), "counted once"
    assert books.lines == CHUNK + 3


def test_an_explanation_is_there_at_once(books: Books) -> None:
    record = ended()
    record.request_id = "mine"
    books.accountant.settle(record)
    assert books.explain.get("mine") is record
    books.accountant.settle(ended())
    assert len(books.explain.newest(10)) == 2


def test_a_lone_request_is_written_soon(books: Books) -> None:
    books.accountant.settle(ended())
    books.accountant.settle(ended())
    assert books.lines == 0
    assert len(books.timer.waiting) == 1
    books.timer.waiting[0]()
    assert books.lines == 2
    books.accountant.settle(ended())
    assert len(books.timer.waiting) == 1, "there is a new timer"


def test_closing_the_log_writes_what_was_put_aside(books: Books) -> None:
    books.accountant.settle(ended())
    books.log.close()
    assert books.page.data.count(b"\n") == 1


def test_what_was_turned_away_is_rejected_and_a_failure_is_not(books: Books) -> None:
    for _ in range(2):
        books.accountant.settle(ended(429, "rate_limit_exceeded", tried=False))
    books.accountant.settle(ended(502, "upstream_error"))
    assert books.sample('mcp_rejected_total{reason="rate_limit_exceeded"}') == "2"
    assert books.sample('mcp_rejected_total{reason="upstream_error"}') == ""
    assert books.sample('mcp_attempts_total{model="chat",endpoint="local:8001",outcome="connect"}') == "1"
    assert books.sample('mcp_first_token_seconds_count{model="chat"}') == ""


def test_probes_of_health_are_counted_and_not_told(books: Books) -> None:
    books.accountant.settle(ended(tried=False, key=""))
    assert books.sample(OK) == "1"
    assert books.lines == 0
    assert len(books.explain) == 0


def test_order_is_kept(books: Books) -> None:
    records = [ended(200 if n % 3 else 502, "" if n % 3 else "upstream_error") for n in range(2 * CHUNK + 5)]
    for record in records:
        books.accountant.settle(record)
    assert books.explain.newest(1000) == records[::-1]
