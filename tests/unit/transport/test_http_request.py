"""What is a request and what is not: framing, names, sizes."""

from __future__ import annotations

import pytest
from tests.wire.connected import Wire, wire

from open_autoglm.transport.settings import WireLimits

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"

MALFORMED = {
    "length beside coding": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    "coding beside length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\n",
    "two equal lengths": POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\n",
    "a list of lengths": POST + b"content-length: 3, 3\r\n\r\n",
    "a signed length": POST + b"content-length: +3\r\n\r\n",
    "a negative length": POST + b"content-length: -3\r\n\r\n",
    "an empty length": POST + b"content-length:\r\n\r\n",
    "a hexadecimal length": POST + b"content-length: 0x3\r\n\r\n",
    "a huge length": POST + b"content-length: 99999999999999999999999\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nhost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nhost: a\n\r\n",
    "bare LF as blank line": GET + b"\n",
    "bare CR in a value": GET + b"x: a\rb\r\n\r\n",
    "a folded header": GET + b"x: a\r\n b\r\n\r\n",
    "blank before the colon": GET + b"x : a\r\n\r\n",
    "blank before the first header": b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
    "no name": GET + b": a\r\n\r\n",
    "no colon": GET + b"novalue\r\n\r\n",
    "NUL in a value": GET + b"x: a\0b\r\n\r\n",
    "control character in a value": GET + b"x: a\x01b\r\n\r\n",
    "NUL in a name": GET + b"x\0: a\r\n\r\n",
    "8-bit name": GET + b"x\xe9: a\r\n\r\n",
    "underscore in a name": GET + b"content_length: 3\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: b\r\n\r\n",
    "two keys": GET + b"authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case protocol": b"GET / http/1.1\r\nhost: a\r\n\r\n",
    "blank in the target": b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n",
    "8-bit target": b"GET /\xe9 HTTP/1.1\r\nhost: a\r\n\r\n",
    "unknown method": b"FROB / HTTP/1.1\r\nhost: a\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "coding gzip": POST + b"transfer-encoding: gzip\r\n\r\n",
    "coding gzip, chunked": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding chunked, gzip": POST + b"transfer-encoding: chunked, gzip\r\n\r\n",
    "coding chunked twice": POST + b"transfer-encoding: chunked, chunked\r\n\r\n",
    "coding in two lines": POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding identity": POST + b"transfer-encoding: identity\r\n\r\n",
    "coding almost chunked": POST + b"transfer-encoding: xchunked\r\n\r\n",
    "coding with a vertical tab": POST + b"transfer-encoding: \x0bchunked\r\n\r\n",
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size with a prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "chunk size with a blank": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunk size that is none": CHUNKED + b"zz\r\n",
    "chunk size missing": CHUNKED + b"\r\nhello",
    "chunk size overflow": CHUNKED + b"ffffffffffffffff1\r\n",
    "chunk longer than its size": CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
    "chunk ended by LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "chunk data ended by LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "NUL in a chunk extension": CHUNKED + b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "trailer without a name": CHUNKED + b"0\r\n: x\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_refused_and_the_connection_is_closed(data: bytes) -> None:
    for split in (len(data), 1, 7):
        line = wire()
        line.feed(data, split)
        assert line.application.codes == ["invalid_request"]
        assert line.statuses() == [400]
        assert b"connection: close" in line.sent
        assert line.transport.eof_sent
        assert not line.application.bodies
        line.feed(GET + b"\r\n")
        assert line.statuses() == [400]


TAKEN = {
    "blank lines before": (b"\r\n\r\n" + GET + b"\r\n", b""),
    "empty header": (GET + b"x:\r\n\r\n", b""),
    "obs-text": (GET + b"x: caf\xe9\r\n\r\n", b""),
    "tabs and blanks around a value": (GET + b"content-length: \t 0 \t\r\n\r\n", b""),
    "names in any case": (b"POST / HTTP/1.1\r\nHOST: a\r\ncOnTeNt-LeNgTh: 5\r\n\r\nhello", b"hello"),
    "empty host": (b"GET / HTTP/1.1\r\nhost:\r\n\r\n", b""),
    "absolute target": (b"GET http://a/x?y HTTP/1.1\r\nhost: a\r\n\r\n", b""),
    "a star": (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", b""),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    "leading zeros": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "upper-case hexadecimal": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "CHUNKED": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"x"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nauthorization: Bearer x\r\nhost: b\r\n\r\n", b"hello"),
}


@pytest.mark.parametrize(("data", "body"), TAKEN.values(), ids=TAKEN.keys())
def test_unusual_messages_are_taken(data: bytes, body: bytes) -> None:
    for split in (len(data), 1):
        line = wire()
        line.feed(data, split)
        assert [seen[2] for seen in line.application.seen] == [body]
        assert line.statuses() == [200]
        assert line.open


def test_kept_headers_are_handed_over_by_lower_case_name() -> None:
    line = wire()
    line.feed(GET + b"X-API-KEY: k \r\nx-other: o\r\ntraceparent: 00-1\r\n\r\n")
    headers = line.application.begun[0].headers
    assert headers["x-api-key"].strip() == b"k"
    assert headers["traceparent"] == b"00-1"
    assert "x-other" not in headers


def test_trailers_are_no_headers() -> None:
    data = CHUNKED + b"5\r\nhello\r\n0\r\nauthorization: Bearer x\r\nx-api-key: y\r\n\r\n"
    for split in (len(data), 1):
        line = wire()
        line.feed(data, split)
        assert line.application.bodies[0].headers.keys() == {"host", "transfer-encoding"}


def test_lists_in_several_lines_are_one_list() -> None:
    line = wire()
    line.feed(GET + b"accept: a/b\r\nAccept: text/event-stream\r\n\r\n")
    assert line.application.begun[0].headers["accept"] == b"a/b, text/event-stream"


def limited(**limits: int) -> Wire:
    return wire(WireLimits(**limits))


@pytest.mark.parametrize("split", [10_000, 1])
@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"x" * 99), ""),
        (b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"x" * 100), "headers_too_large"),
        (GET + b"x: %s\r\n\r\n" % (b"y" * 186), ""),
        (GET + b"x: %s\r\n\r\n" % (b"y" * 187), "headers_too_large"),
        (b"OPTIONS /%s HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n" % (b"x" * 99, b"y" * 186), ""),
        (GET + b"x: 1\r\n" * 9 + b"\r\n", ""),
        (GET + b"x: 1\r\n" * 10 + b"\r\n", "headers_too_large"),
    ],
)
def test_a_head_has_its_limits(split: int, head: bytes, code: str) -> None:
    line = limited(target_bytes=100, header_bytes=200, headers=10)
    line.feed(head, split)
    assert line.application.codes == ([code] if code else [])
    assert line.statuses() == ([431] if code else [200])


def test_the_head_of_a_message_that_was_sent_ahead_has_the_same_limits() -> None:
    line = limited(target_bytes=100, header_bytes=200, headers=10)
    line.feed(GET + b"\r\n" + GET + b"x: %s\r\n\r\n" % (b"y" * 187))
    assert line.statuses() == [200, 431]


@pytest.mark.parametrize("part", [b"GET /", GET + b"x: ", GET + b"x"])
def test_a_head_without_an_end_is_refused_before_it_ends(part: bytes) -> None:
    line = limited(target_bytes=100, header_bytes=200, headers=10)
    line.feed(part)
    for _ in range(40):
        line.feed(b"y" * 10)
    assert line.application.codes == ["headers_too_large"]
    assert line.statuses() == [431]


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes() -> None:
    line = limited(body_bytes=10)
    line.feed(POST + b"content-length: 11\r\n\r\n")
    assert line.application.codes == ["request_too_large"]
    assert line.statuses() == [413]
    assert not line.application.begun


def test_a_body_of_just_the_limit_is_taken() -> None:
    line = limited(body_bytes=10)
    line.feed(POST + b"content-length: 10\r\n\r\n0123456789" + CHUNKED + b"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n")
    assert line.statuses() == [200, 200]


def test_chunks_over_the_limit_are_refused() -> None:
    line = limited(body_bytes=10)
    line.feed(CHUNKED + b"5\r\nhello\r\n")
    assert line.statuses() == []
    line.feed(b"6\r\nhello!\r\n")
    assert line.application.codes == ["request_too_large"]
    assert line.statuses() == [413]
    assert line.application.gone == line.application.begun


def test_framing_may_not_outweigh_the_body() -> None:
    line = limited(body_bytes=1000, header_bytes=200)
    line.feed(CHUNKED)
    for _ in range(500):
        line.feed(b"1\r\nx\r\n")
    assert line.application.codes == ["request_too_large"]


@pytest.mark.parametrize("endless", [b"1;x=", b"0\r\nx: ", b"0\r\nx", b"00000000"])
def test_extensions_and_trailers_without_an_end_are_refused(endless: bytes) -> None:
    line = limited(body_bytes=100_000, header_bytes=200)
    line.feed(CHUNKED + b"1\r\nx\r\n" + endless)
    for _ in range(60):
        line.feed(b"0" * 10)
    assert line.application.codes == ["headers_too_large"]


def test_small_pieces_of_a_body_cost_little() -> None:
    line = limited(body_bytes=100_000)
    line.feed(CHUNKED)
    for _ in range(200):
        line.feed(b"2\r\nab\r\n" * 10)
    parts = line.application.begun[0].parts
    assert parts is not None
    assert len(parts) == 2
    line.feed(b"200\r\n%s\r\n3\r\nxyz\r\n0\r\n\r\n" % (b"z" * 512))
    assert line.application.seen[0][2] == b"ab" * 2000 + b"z" * 512 + b"xyz"


def test_requests_sent_ahead_have_a_limit() -> None:
    line = wire()
    line.feed((GET + b"\r\n") * 300)
    assert line.statuses() == [200] * 256 + [400]
