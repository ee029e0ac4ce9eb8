"""What the client's shell makes of answers, and how its connections are used again."""

from __future__ import annotations

import pytest
from tests.wire.fake_transport import FakeTransport
from tests.wire.recording_sink import NoLoop, RecordingSink, lend_connection, pool_without_sockets, send

from open_autoglm import clock
from open_autoglm.transport.http_answer import Headers
from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.settings import PoolLimits

SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def one(limits: PoolLimits | None = None) -> tuple[HttpPool, NoLoop, FakeTransport]:
    """A pool with one idle connection."""
    pool, loop = pool_without_sockets(limits)
    return pool, loop, lend_connection(pool)


def ask(data: bytes, split: int = 0, *, lost: Exception | None = None, gone: bool = True) -> RecordingSink:
    """Send a request and let the upstream answer it with these bytes, then close."""
    pool, _, transport = one()
    sink = send(pool)
    size = split or len(data) or 1
    for start in range(0, len(data), size):
        transport.feed(data[start : start + size])
    if gone:
        transport.lose(lost)
    return sink


WHOLE = {
    "sized": (SIZED, 200, b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b""),
    "chunked": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 200, b"hello world"),
    "chunk extensions and trailers": (CHUNKED + b"5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n", 200, b"hello"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 x\r\ncontent-length: 5\r\n\r\n", 304, b""),
    "no reason": (b"HTTP/1.1 529\r\ncontent-length: 0\r\n\r\n", 529, b""),
    "after interim answers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: y\r\n\r\n" + SIZED, 200, b"hello"),
}


@pytest.mark.parametrize("split", [0, 1, 7])
@pytest.mark.parametrize(("data", "status", "body"), WHOLE.values(), ids=WHOLE.keys())
def test_whole_answers_come_whole(data: bytes, status: int, body: bytes, split: int) -> None:
    assert ask(data, split).heard == (status, body, "end")


def test_headers_are_found_in_any_spelling() -> None:
    lines = b"Content-Type: a\r\nretry-after: \t 7 \r\nCONTENT-ENCODING: gzip\r\ncontent-length: 0\r\n"
    headers = ask(b"HTTP/1.1 429 x\r\n" + lines + b"\r\n").headers
    assert headers.get(b"content-type", b"Content-Type") == "a"
    assert headers.get(b"retry-after", b"Retry-After") == "7"
    assert headers.get(b"content-encoding", b"Content-Encoding") == "gzip"
    assert headers.get(b"x-none", b"X-None") == ""


def test_headers_of_interim_answers_do_not_count() -> None:
    sink = ask(b"HTTP/1.1 103 x\r\nretry-after: 3\r\n\r\n" + SIZED)
    assert sink.headers.get(b"retry-after", b"Retry-After") == ""


CUT = {
    "a part of the status line": (b"HTTP/1.1 2", "reset"),
    "a part of the head": (b"HTTP/1.1 200 OK\r\ncontent-type: a\r\n", "reset"),
    "interim answers alone": (b"HTTP/1.1 100 Continue\r\n\r\n", "reset"),
    "a part of a sized body": (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", "reset"),
    "a chunk short": (CHUNKED + b"5\r\nhel", "reset"),
    "no last chunk": (CHUNKED + b"5\r\nhello\r\n", "reset"),
    "no end of the trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", "reset"),
    "a coding that is not chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc", "reset"),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46", "malformed"),
    "length and coding": (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "malformed"),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", "malformed"),
    "bare LF": (b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello", "malformed"),
    "a folded header": (b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", "malformed"),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "malformed"),
    "a status below 100": (b"HTTP/1.1 003 OK\r\n\r\nabc", "malformed"),
    "an interim answer with a length": (b"HTTP/1.1 103 x\r\ncontent-length: 2\r\n\r\nok" + SIZED, "malformed"),
    "an interim answer in chunks": (b"HTTP/1.1 103 x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "malformed"),
    "another protocol": (b"HTTP/1.1 101 x\r\nupgrade: y\r\nconnection: upgrade\r\n\r\nabc", "malformed"),
    "another protocol, unnamed": (b"HTTP/1.1 101 x\r\n\r\nabc", "malformed"),
    "a bad chunk size": (CHUNKED + b"5\r\nhello\r\nzz\r\n", "malformed"),
    "a chunk longer than its size": (CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", "malformed"),
}


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize(("data", "loss"), CUT.values(), ids=CUT.keys())
def test_broken_answers_are_lost(data: bytes, loss: str, split: int) -> None:
    sink = ask(data, split)
    assert sink.end == loss
    assert sink.detail


def test_a_reset_is_no_end_of_an_answer_without_a_length() -> None:
    assert ask(b"HTTP/1.1 200 OK\r\n\r\nhello", lost=ConnectionResetError()).end == "reset"


@pytest.mark.parametrize(
    "endless", [b"HTTP/1.1 200 OK\r\ncontent-type: a\r\nx: ", b"", b"HTTP/1.1 200 OK\r\nx", CHUNKED]
)
def test_a_head_or_framing_without_an_end_is_lost(endless: bytes) -> None:
    pool, _, transport = one(PoolLimits(head_bytes=1000))
    sink = send(pool)
    transport.feed(endless or b"HTTP/1.1 200 OK\r\n")
    piece = b"0" * 50 if endless else b"x: y\r\n" * 10
    for _ in range(50):
        transport.feed(piece)
    assert sink.end == "malformed"
    assert transport.aborted


def test_interim_answers_without_an_end_are_lost() -> None:
    pool, _, transport = one(PoolLimits(head_bytes=1000))
    sink = send(pool)
    for _ in range(50):
        transport.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert sink.end == "malformed"


def test_extensions_between_chunks_do_not_add_up() -> None:
    pool, _, transport = one(PoolLimits(head_bytes=1000))
    sink = send(pool)
    transport.feed(CHUNKED)
    for _ in range(50):
        transport.feed(b"1;" + b"x" * 100)
        transport.feed(b"\r\nx\r\n")
    transport.feed(b"0\r\n\r\n")
    assert sink.heard == (200, b"x" * 50, "end")


class TestReuse:
    @pytest.mark.parametrize(
        "data",
        [SIZED, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 100 x\r\n\r\n" + SIZED],
    )
    def test_a_kept_connection_serves_again(self, data: bytes) -> None:
        pool, loop, transport = one()
        for _ in range(3):
            sink = send(pool)
            assert sink.reused
            transport.feed(data)
            assert sink.end == "end"
        assert pool.open == 1
        assert loop.connects == 0
        assert transport.sent.count(b"POST / ") == 3

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            SIZED + b"x",
            SIZED + SIZED,
            SIZED + b"\x00\x00",
            SIZED + b"HTTP/1.1 500 x\r\ncontent-length: 1\r\n\r\n!",
            CHUNKED + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 500 x\r\n\r\n",
        ],
    )
    def test_one_that_is_not_kept_or_goes_on_does_not(self, data: bytes) -> None:
        pool, loop, transport = one()
        sink = send(pool)
        transport.feed(data)
        assert sink.heard == (200, b"hello", "end")
        assert transport.closing
        send(pool)
        assert loop.connects == 1

    def test_a_second_answer_in_one_block_changes_nothing_of_the_first(self) -> None:
        pool, _, transport = one()
        sink = send(pool)
        transport.feed(
            b"HTTP/1.1 200 OK\r\ncontent-type: a\r\ncontent-length: 2\r\n\r\nok"
            b"HTTP/1.1 500 x\r\ncontent-type: b\r\nretry-after: 9\r\ncontent-length: 3\r\n\r\nbad"
        )
        assert sink.heard == (200, b"ok", "end")
        assert sink.headers.get(b"content-type", b"Content-Type") == "a"
        assert sink.headers.get(b"retry-after", b"Retry-After") == ""

    def test_what_nobody_asked_for_ends_an_idle_connection(self) -> None:
        pool, loop, transport = one()
        transport.feed(SIZED)
        assert transport.closing
        sink = send(pool)
        assert loop.connects == 1
        assert sink.reused is None

    def test_the_newest_idle_connection_is_used_first(self) -> None:
        pool, _ = pool_without_sockets()
        older, newer = lend_connection(pool), lend_connection(pool)
        first, second = send(pool), send(pool)
        newer.feed(SIZED)
        older.feed(SIZED)
        send(pool)
        assert first.end == second.end == "end"
        assert older.sent.count(b"POST") == 2
        assert newer.sent.count(b"POST") == 1

    def test_one_that_was_closed_meanwhile_is_passed_over(self) -> None:
        pool, _ = pool_without_sockets()
        older, newer = lend_connection(pool), lend_connection(pool)
        newer.closing = True
        send(pool)
        assert older.sent
        assert not newer.sent

    def test_one_that_is_closed_before_a_byte_of_the_answer_is_stale(self) -> None:
        pool, _, transport = one()
        send(pool)
        transport.feed(SIZED)
        sink = send(pool)
        transport.lose()
        assert sink.end == "stale"
        assert pool.open == 0

    def test_not_more_than_the_limit_are_kept_idle(self) -> None:
        pool, _ = pool_without_sockets(PoolLimits(idle=1))
        kept, closed = lend_connection(pool), lend_connection(pool)
        assert not kept.closing
        assert closed.closing

    def test_idle_ones_are_closed_in_time(self) -> None:
        pool, _ = pool_without_sockets(PoolLimits(idle_timeout_s=60.0))
        transports = [lend_connection(pool), lend_connection(pool)]
        sinks = [send(pool), send(pool)]
        for transport in transports:
            transport.feed(SIZED)
        assert [sink.end for sink in sinks] == ["end", "end"]
        pool.sweep(clock.monotonic() + 59.0)
        assert not any(transport.closing for transport in transports)
        pool.sweep(clock.monotonic() + 61.0)
        assert all(transport.closing for transport in transports)

    def test_an_answer_that_outruns_its_request_ends_the_connection(self) -> None:
        pool, _ = pool_without_sockets()
        transport = lend_connection(pool, window=100)
        sink = send(pool, b"x" * 100_000)
        transport.feed(SIZED)
        assert sink.end == "end"
        assert transport.aborted


class TestWaiting:
    def busy(self, limit: int = 1) -> tuple[HttpPool, NoLoop, FakeTransport, RecordingSink]:
        pool, loop, transport = one(PoolLimits(connections=limit))
        return pool, loop, transport, send(pool)

    def test_a_request_waits_for_a_connection(self) -> None:
        pool, loop, transport, _ = self.busy()
        waiting = send(pool)
        assert waiting.reused is None
        transport.feed(SIZED)
        assert waiting.reused
        transport.feed(SIZED)
        assert waiting.end == "end"
        assert loop.connects == 0

    def test_the_oldest_is_served_first_and_the_cancelled_not_at_all(self) -> None:
        pool, _, transport, _ = self.busy()
        cancelled, second, third = send(pool), send(pool), send(pool)
        assert cancelled.transfer is not None
        cancelled.transfer.cancel()
        transport.feed(SIZED)
        assert (cancelled.reused, second.reused, third.reused) == (None, True, None)
        assert not cancelled.end

    def test_a_lost_connection_makes_room_for_another(self) -> None:
        pool, loop, transport, _ = self.busy()
        send(pool)
        transport.lose()
        assert loop.connects == 1
        assert pool.open == 1

    def test_it_waits_its_time(self) -> None:
        pool, _, _, busy = self.busy()
        waiting = send(pool)
        pool.sweep(clock.monotonic() + 0.5)
        assert not waiting.end
        pool.sweep(clock.monotonic() + 1.5)
        assert waiting.end == "connect"
        assert "busy" in waiting.detail
        assert not busy.end

    def test_not_too_many_wait(self) -> None:
        pool, _, _, _ = self.busy()
        sinks = [send(pool) for _ in range(10_001)]
        assert not sinks[9_999].end
        assert sinks[10_000].end == "connect"


class TestCancelling:
    def test_it_closes_the_connection_at_once(self) -> None:
        pool, _, transport = one()
        sink = send(pool)
        transport.feed(CHUNKED + b"5\r\nhello\r\n")
        assert sink.transfer is not None
        sink.transfer.cancel()
        sink.transfer.cancel()
        assert transport.aborted
        transport.lose()
        assert sink.heard == (200, b"hello", "")
        assert pool.open == 0

    def test_from_within_a_callback(self) -> None:
        class Leaver(RecordingSink):
            def on_head(self, status: int, headers: Headers) -> None:
                super().on_head(status, headers)
                assert self.transfer is not None
                self.transfer.cancel()

        pool, _, transport = one()
        sink = Leaver()
        sink.transfer = pool.send(b"GET / HTTP/1.1\r\n\r\n", b"", sink)
        transport.feed(SIZED[:-1])
        assert sink.heard == (200, b"", "")
        assert transport.aborted

    def test_it_leaves_a_connection_that_has_gone_on_alone(self) -> None:
        pool, _, transport = one()
        first = send(pool)
        transport.feed(SIZED)
        second = send(pool)
        assert first.transfer is not None
        first.transfer.cancel()
        first.transfer.pause()
        first.transfer.resume()
        assert transport.reading
        transport.feed(SIZED)
        assert second.end == "end"


class TestPausing:
    def test_a_paused_answer_is_not_read(self) -> None:
        pool, _, transport = one()
        sink = send(pool)
        assert sink.transfer is not None
        sink.transfer.pause()
        sink.transfer.pause()
        assert not transport.reading
        sink.transfer.resume()
        sink.transfer.resume()
        assert transport.reading

    def test_one_that_ends_while_paused_leaves_its_connection_reading(self) -> None:
        class Pauser(RecordingSink):
            def on_data(self, data: bytes) -> None:
                super().on_data(data)
                assert self.transfer is not None
                self.transfer.pause()

        pool, _, transport = one()
        sink = Pauser()
        sink.transfer = pool.send(b"GET / HTTP/1.1\r\n\r\n", b"", sink)
        transport.feed(SIZED)
        assert sink.end == "end"
        assert transport.reading


class TestClosing:
    def test_idle_connections_close_and_busy_ones_after_their_answer(self) -> None:
        pool, _ = pool_without_sockets(PoolLimits(connections=2))
        idle, busy = lend_connection(pool), lend_connection(pool)
        sink = send(pool)
        pool.close()
        assert idle.closing
        assert not busy.closing
        busy.feed(SIZED)
        assert sink.end == "end"
        assert busy.closing

    def test_who_waits_is_served_all_the_same(self) -> None:
        pool, _, transport = one(PoolLimits(connections=1))
        first = send(pool)
        waiting = send(pool)
        pool.close()
        transport.feed(SIZED)
        assert first.end == "end"
        assert not transport.closing
        transport.feed(SIZED)
        assert waiting.end == "end"
        assert transport.closing

    def test_who_comes_later_gets_a_connection_that_is_not_kept(self) -> None:
        pool, loop, transport = one()
        pool.close()
        assert transport.closing
        late = send(pool)
        assert late.end == ""
        assert loop.connects == 1

    def test_who_waits_at_a_closed_pool_does_not_wait_for_ever(self) -> None:
        pool, loop, _ = one(PoolLimits(connections=1))
        send(pool)
        waiting = send(pool)
        pool.close()
        ((delay_s, sweep),) = loop.later
        assert delay_s == pool.connect_timeout_s
        pool.sweep(clock.monotonic() + 2 * delay_s)
        assert waiting.end == "connect"
        sweep()


class TestAtOnce:
    @pytest.mark.parametrize("name", WHOLE)
    def test_an_answer_in_one_block_is_told_of_in_one_call(self, name: str) -> None:
        data, status, body = WHOLE[name]
        sink = ask(data)
        assert sink.heard == (status, body, "end")
        assert sink.at_once == (name not in ("until the end", "HTTP/1.0")), "those are whole when the close comes"

    def test_its_headers_are_its_own_while_it_is_told(self) -> None:
        class Reader(RecordingSink):
            def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
                follower = send(pool)
                assert headers.get(b"x-a", b"X-A") == "b"
                assert not follower.end
                super().on_whole(status, headers, body, now_s)

        pool, loop, transport = one()
        sink = Reader()
        sink.transfer = pool.send(b"GET / HTTP/1.1\r\n\r\n", b"", sink)
        transport.feed(b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\n\r\n")
        assert sink.heard == (200, b"", "end")
        assert loop.connects == 1

    def test_leaving_then_keeps_the_connection(self) -> None:
        class Leaver(RecordingSink):
            def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
                assert self.transfer is not None
                self.transfer.cancel()

        pool, _, transport = one()
        sink = Leaver()
        sink.transfer = pool.send(b"GET / HTTP/1.1\r\n\r\n", b"", sink)
        transport.feed(SIZED)
        assert not transport.aborted
        assert send(pool).reused
