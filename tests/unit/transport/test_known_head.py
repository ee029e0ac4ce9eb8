"""A head that was read before is taken again only if nothing about it, or about its body, is new."""

from __future__ import annotations

import pytest
from tests.wire.connected import connect, serve, wire
from tests.wire.recording_application import RecordingApplication, leave

from open_autoglm.transport.settings import WireLimits

HEAD = b"POST /v1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\nAccept: */*\r\n\r\n"


def message(body: bytes) -> bytes:
    return HEAD % len(body) + body


class TestKnown:
    def test_it_is_read_as_the_first_one_but_for_its_body(self) -> None:
        line = wire()
        for body in (b"first", b"a longer second one", b"x"):
            line.feed(message(body))
        first, second, third = line.application.bodies
        assert [r.body for r in line.application.bodies] == [b"first", b"a longer second one", b"x"]
        assert second.headers is third.headers
        assert second.headers == {k: v for k, v in first.headers.items() if k != "content-length"}
        assert (second.method, second.target, second.body_size) == (b"POST", b"/v1", 19)
        assert line.statuses() == [200, 200, 200]

    def test_connections_share_it(self) -> None:
        server = serve(RecordingApplication(connections=9))
        lines = [connect(server) for _ in range(3)]
        for line in lines:
            line.feed(message(b"first"))
        assert len(server._heads) == 1
        for line in lines:
            line.feed(message(b"second"))
        assert not server._readers[1:]
        assert [line.statuses() for line in lines] == [[200, 200]] * 3

    @pytest.mark.parametrize("split", [1, 7, 60, 96, 1000])
    def test_a_message_in_pieces_is_read_by_the_reader(self, split: int) -> None:
        line = wire()
        line.feed(message(b"first"))
        line.feed(message(b"second"), split)
        line.feed(message(b"third"))
        assert [r.body for r in line.application.bodies] == [b"first", b"second", b"third"]

    def test_what_follows_it_is_read_too(self) -> None:
        line = wire()
        line.feed(message(b"first"))
        line.feed(message(b"second") + message(b"third"))
        assert [r.body for r in line.application.bodies] == [b"first", b"second", b"third"]

    def test_what_comes_while_it_is_served_is_kept(self) -> None:
        line = wire(application=RecordingApplication(at_body=leave))
        for body in (b"first", b"second"):
            line.feed(message(body))
            line.application.respond(line.application.bodies[-1])
        line.feed(message(b"third"))
        line.feed(message(b"fourth"))
        assert [r.body for r in line.application.bodies] == [b"first", b"second", b"third"]
        line.application.respond(line.application.bodies[-1])
        assert line.application.bodies[-1].body == b"fourth"


class TestUnknown:
    @pytest.mark.parametrize(
        ("old", "new", "status"),
        [
            (b"Host: a", b"Host: b", 200),
            (b"Host: a", b"Host: a\r\nHost: a", 400),
            (b"Length: 6", b"Length: +6", 400),
            (b"Length: 6", b"Length: ", 400),
            (b"Length: 6", b"Length: 6\r\nContent-Length: 6", 400),
            (b"Length: 6", b"Length: 6_6", 400),
            (b"Length: 6", b"Length: \xd9\xa6", 400),
            (b"Length: 6\r\n", b"Length: 6\n", 400),
            (b"Length: 6", b"Length: 006", 200),
            (b"Length: 6", b"Length: 00000000000006", 200),
            (b"Length: 6", b"Length: 5", 200),
            (b"HTTP/1.1", b"HTTP/1.2", 400),
        ],
    )
    def test_a_head_that_differs_is_judged_by_itself(self, old: bytes, new: bytes, status: int) -> None:
        line = wire()
        line.feed(message(b"first"))
        changed = message(b"second").replace(old, new)
        assert changed != message(b"second")
        line.feed(changed)
        assert line.statuses()[1] == status

    def test_a_body_above_the_limit_is_refused(self) -> None:
        line = wire(limits=WireLimits(body_bytes=100))
        line.feed(message(b"first"))
        line.feed(message(b"x" * 101))
        assert line.statuses() == [200, 413]

    def test_other_limits_make_it_unknown(self) -> None:
        server = serve(RecordingApplication(connections=9))
        line = connect(server)
        line.feed(message(b"first"))
        server.renew_limits(WireLimits(headers=2))
        line.feed(message(b"second"))
        assert line.statuses() == [200, 431]

    @pytest.mark.parametrize(
        "first",
        [
            HEAD.replace(b"1.1", b"1.0") % 1 + b"x",
            HEAD.replace(b"Accept: */*", b"Connection: close") % 1 + b"x",
            HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
            HEAD.replace(b"POST", b"GET").replace(b"Content-Length: %d\r\n", b""),
            HEAD.replace(b"*/*", b"a" * 2048) % 1 + b"x",
            b"\r\n" * 2 + message(b"x"),
            message(b"x") * 2,
            message(b"x") + b"P",
        ],
        ids=["1.0", "close", "chunked", "no body", "long", "blank lines", "two", "more"],
    )
    def test_only_an_ordinary_message_alone_in_its_block_is_remembered(self, first: bytes) -> None:
        line = wire()
        line.feed(first)
        assert line.statuses()[0] == 200
        assert not line.server._heads

    def test_whatever_byte_is_changed_a_fresh_connection_sees_the_same(self) -> None:
        good = message(b"second")
        for at in range(len(good) + 1):
            for byte in (b"", b"\r", b"\n", b" ", b"0", b"7", b":", b"\0", b"\xff", b"x", b"\r\n"):
                for changed in (good[:at] + byte + good[at + 1 :], good[:at] + byte + good[at:]):
                    known, fresh = wire(), wire()
                    known.feed(message(b"first"))
                    known.feed(changed)
                    fresh.feed(changed)
                    assert known.application.seen[1:] == fresh.application.seen, changed
                    assert known.statuses()[1:] == fresh.statuses(), changed
