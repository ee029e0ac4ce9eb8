"""An answer's head that was read before is taken again only if nothing about it, or about its body, is new."""

from __future__ import annotations

import pytest
from tests.wire.recording_sink import RecordingSink, lend_connection, pool_without_sockets, send

HEAD = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: %d\r\nContent-Type: a/b\r\n\r\n"


def answer(body: bytes) -> bytes:
    return HEAD % len(body) + body


def ask(first: bytes, second: bytes, split: int = 0) -> tuple[RecordingSink, list[bytes], int]:
    """Answer two requests of one connection; return what is heard of the second, and how often a parser was fed."""
    pool, _ = pool_without_sockets()
    transport = lend_connection(pool)
    send(pool)
    transport.feed(first)
    known = [pool.known_answer.text] if pool.known_answer is not None else []
    sink = send(pool)
    size = split or len(second)
    for start in range(0, len(second), size):
        transport.feed(second[start : start + size])
    return sink, known, pool.open


class TestKnown:
    @pytest.mark.parametrize("body", [b"x", b"second", b"a longer one than the first", b"0" * 30_000])
    def test_it_is_read_as_the_first_one_but_for_its_body(self, body: bytes) -> None:
        sink, known, _ = ask(answer(b"first"), answer(body))
        assert known == [HEAD.replace(b"%d", b"")]
        assert sink.heard == (200, body, "end")
        assert sink.at_once
        assert sink.headers.raw == {b"Date": b"today", b"Content-Type": b"a/b"}

    @pytest.mark.parametrize("split", [1, 20, 60, 90])
    def test_an_answer_in_pieces_is_read_by_the_parser(self, split: int) -> None:
        sink, _, _ = ask(answer(b"first"), answer(b"second"), split)
        assert sink.heard == (200, b"second", "end")

    def test_the_connection_serves_on(self) -> None:
        pool, _ = pool_without_sockets()
        transport = lend_connection(pool)
        for body in (b"first", b"second", b"third"):
            sink = send(pool)
            transport.feed(answer(body))
            assert sink.heard == (200, body, "end")
        assert transport.is_closing() is False

    def test_another_head_takes_its_place(self) -> None:
        pool, _ = pool_without_sockets()
        transport = lend_connection(pool)
        for day in (b"today", b"tomorrow", b"tomorrow"):
            sink = send(pool)
            transport.feed(answer(b"x").replace(b"today", day))
            assert sink.headers.raw[b"Date"] == day
        assert pool.known_answer is not None
        assert b"tomorrow" in pool.known_answer.text

    def test_heads_that_always_differ_are_not_remembered_for_ever(self) -> None:
        pool, _ = pool_without_sockets()
        transport = lend_connection(pool)
        for number in range(20):
            send(pool)
            transport.feed(answer(b"x").replace(b"today", b"%d" % number))
        assert pool.known_answer is not None
        assert b"Date: 3\r" in pool.known_answer.text
        pool.sweep(0.0)
        send(pool)
        transport.feed(answer(b"x"))
        assert b"today" in pool.known_answer.text


class TestUnknown:
    @pytest.mark.parametrize(
        "first",
        [
            answer(b"first").replace(b"200 OK", b"203 OK"),
            answer(b"first").replace(b"today", b"today\r\nConnection: close"),
            answer(b"first").replace(b"today", b"a" * 2048),
            HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"5\r\nfirst\r\n0\r\n\r\n",
            b"HTTP/1.1 103 x\r\n\r\n" + answer(b"first"),
        ],
        ids=["status", "close", "long", "chunked", "interim"],
    )
    def test_only_an_ordinary_answer_alone_in_its_block_is_remembered(self, first: bytes) -> None:
        pool, _ = pool_without_sockets()
        transport = lend_connection(pool)
        sink = send(pool)
        transport.feed(first)
        assert sink.heard[1:] == (b"first", "end")
        assert pool.known_answer is None

    def test_whatever_byte_is_changed_a_fresh_connection_hears_the_same(self) -> None:
        good = answer(b"second")
        other = answer(b"first").replace(b"today", b"another day")
        for at in range(len(good) + 1):
            for byte in (b"", b"\r", b"\n", b" ", b"0", b"7", b":", b"\0", b"\xff", b"x", b"\r\n"):
                for changed in (good[:at] + byte + good[at + 1 :], good[:at] + byte + good[at:]):
                    known, _, known_open = ask(answer(b"first"), changed)
                    fresh, _, fresh_open = ask(other, changed)
                    assert (known.heard, known.detail, known_open) == (fresh.heard, fresh.detail, fresh_open), changed
