"""What a connection does with its requests: order, keep-alive, refusals, leaving clients, slow readers, timers."""

from __future__ import annotations

import pytest
from tests.wire.connected import Wire, connect, serve, wire
from tests.wire.recording_application import RecordingApplication, answer, leave

from open_autoglm.errors import ServerError
from open_autoglm.transport.http_request import ServerRequest
from open_autoglm.transport.settings import WireLimits

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
BROKEN = b"junk\r\n\r\n"


def later() -> Wire:
    """A connection whose application answers when the test says so."""
    return wire(application=RecordingApplication(leave, leave))


class TestOrder:
    def test_a_kept_connection_serves_one_request_after_the_other(self) -> None:
        line = wire()
        for number in range(3):
            line.feed(GET % number)
        assert [request.target for request in line.application.bodies] == [b"/0", b"/1", b"/2"]
        assert line.statuses() == [200, 200, 200]
        assert line.open

    @pytest.mark.parametrize("split", [1000, 30, 1])
    def test_requests_sent_ahead_are_answered_in_order(self, split: int) -> None:
        line = wire()
        line.feed(GET % 0 + POST % 5 + b"hello" + GET % 2, split)
        assert line.application.seen == [(b"GET", b"/0", b""), (b"POST", b"/", b"hello"), (b"GET", b"/2", b"")]
        assert line.statuses() == [200, 200, 200]

    def test_a_request_waits_for_the_answer_before_it(self) -> None:
        line = later()
        line.feed(GET % 0 + GET % 1)
        line.feed(GET % 2)
        for number in range(3):
            assert [request.target for request in line.application.bodies] == [b"/%d" % n for n in range(number + 1)]
            line.application.respond(line.application.bodies[-1])
        assert line.statuses() == [200, 200, 200]

    def test_a_body_sent_ahead_is_read_when_its_turn_comes(self) -> None:
        line = later()
        line.feed(GET % 0 + POST % 10 + b"hel")
        line.feed(b"lo")
        line.feed(b"world" + GET % 2)
        line.application.respond(line.application.bodies[-1])
        assert line.application.bodies[-1].body == b"helloworld"
        line.application.respond(line.application.bodies[-1])
        assert line.application.bodies[-1].target == b"/2"

    def test_many_answers_at_once_do_not_nest(self) -> None:
        line = wire()
        line.feed((GET % 0) * 250)
        assert line.statuses() == [200] * 250

    def test_what_is_sent_ahead_is_not_read_beyond_its_limit(self) -> None:
        line = wire(WireLimits(pipeline_bytes=100), RecordingApplication(leave, leave))
        line.feed(GET % 0)
        line.feed(GET % 1 * 3)
        assert line.transport.reading
        line.feed(GET % 1)
        assert not line.transport.reading
        for number in range(5):
            line.application.respond(line.application.bodies[number])
        assert line.transport.reading
        assert line.statuses() == [200] * 5


class TestAnswers:
    def test_a_whole_answer_says_its_length(self) -> None:
        line = later()
        line.feed(GET % 0)
        request = line.application.bodies[0]
        line.connection.respond(request, 404, "x-a: b\r\n", b"none", "text/plain")
        head, _, body = line.sent.partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 404 Not Found",
            b"content-type: text/plain",
            b"content-length: 4",
            b"x-a: b",
        ]
        assert body == b"none"

    def test_a_request_is_answered_once(self) -> None:
        line = later()
        line.feed(GET % 0)
        request = line.application.bodies[0]
        line.application.respond(request)
        line.connection.respond(request, 500, "", b"again")
        line.connection.start(request, 500, "", "text/plain", b"again")
        assert line.statuses() == [200]

    def test_large_bodies_go_out_whole(self) -> None:
        line = wire(application=RecordingApplication(size=200_000))
        line.feed(GET % 0)
        assert len(line.sent.partition(b"\r\n\r\n")[2]) == 200_000

    def test_an_answer_to_head_has_no_body(self) -> None:
        line = wire()
        line.feed(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"content-length: 3\r\n" in line.sent
        assert line.sent.endswith(b"\r\n\r\n")
        assert line.open

    def test_a_refused_head_has_no_body_either(self) -> None:
        line = wire()
        line.feed(b"HEAD / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n")
        assert line.statuses() == [413]
        assert line.sent.endswith(b"\r\n\r\n")

    def test_a_stream_is_chunked(self) -> None:
        line = later()
        line.feed(GET % 0)
        request = line.application.bodies[0]
        line.connection.start(request, 200, "", "text/event-stream", b"one")
        line.connection.write(request, b"")
        line.connection.write(request, b"x" * 40_000)
        line.connection.end(request, b"last")
        head, _, body = line.sent.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert body == b"3\r\none\r\n9c40\r\n" + b"x" * 40_000 + b"\r\n4\r\nlast\r\n0\r\n\r\n"
        assert line.open

    def test_a_stream_may_begin_and_end_with_nothing(self) -> None:
        line = later()
        line.feed(GET % 0)
        line.connection.start(line.application.bodies[0], 200, "", "text/event-stream", b"")
        assert line.sent.endswith(b"\r\n\r\n")
        line.connection.end(line.application.bodies[0])
        assert line.sent.endswith(b"\r\n\r\n0\r\n\r\n")

    def test_a_stream_that_is_cut_lacks_its_last_chunk(self) -> None:
        line = later()
        line.feed(GET % 0 + GET % 1)
        request = line.application.bodies[0]
        line.connection.start(request, 200, "", "text/event-stream", b"one")
        line.connection.cut(request, b"broken")
        assert line.sent.endswith(b"3\r\none\r\n6\r\nbroken\r\n")
        assert line.transport.eof_sent
        assert len(line.application.begun) == 1

    def test_http_1_0_gets_no_chunks_and_no_second_answer(self) -> None:
        line = later()
        line.feed(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        request = line.application.bodies[0]
        line.connection.start(request, 200, "", "text/event-stream", b"one")
        line.connection.write(request, b"two")
        line.connection.end(request, b"three")
        head, _, body = line.sent.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"onetwothree"
        assert line.transport.eof_sent


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("head", "kept"),
        [
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", True),
            (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nhost: a\r\nconnection: foo, close\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", True),
        ],
    )
    def test_the_client_decides(self, head: bytes, kept: bool) -> None:
        line = wire()
        line.feed(head)
        assert line.open == kept
        assert (b"connection: close" in line.sent) == (not kept)
        assert (b"connection: keep-alive" in line.sent) == (kept and b"HTTP/1.0" in head)

    def test_nothing_is_read_after_a_request_to_close(self) -> None:
        line = later()
        line.feed(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" + GET % 1)
        line.feed(GET % 2)
        line.application.respond(line.application.bodies[0])
        assert len(line.application.begun) == 1
        assert line.statuses() == [200]
        assert line.transport.eof_sent

    def test_an_answer_before_the_bodys_end_closes(self) -> None:
        line = wire(application=RecordingApplication(answer))
        line.feed(POST % 5)
        assert b"connection: close" in line.sent
        assert line.transport.eof_sent
        line.feed(b"hello" + GET % 1)
        assert len(line.application.begun) == 1

    def test_readers_are_lent_only_while_something_is_read(self) -> None:
        server = serve(RecordingApplication(connections=9))
        lines = [connect(server) for _ in range(10)]
        for line in lines:
            line.feed(GET % 0)
        assert len(server._readers) == 1
        lines[0].feed(b"GET /")
        assert not server._readers
        lines[1].feed(GET % 0)
        lines[0].feed(b" HTTP/1.1\r\nhost: a\r\n\r\n")
        assert len(server._readers) == 2

    def test_new_limits_reach_every_reader(self) -> None:
        server = serve(RecordingApplication(connections=9))
        busy, other = connect(server), connect(server)
        busy.feed(POST % 500 + b"x")
        server.renew_limits(WireLimits(body_bytes=100))
        busy.feed(b"x" * 499)
        other.feed(POST % 101)
        busy.feed(POST % 101)
        assert busy.statuses() == [200, 413]
        assert other.statuses() == [413]


class TestRefusals:
    @pytest.mark.parametrize("split", [1000, 1])
    def test_whole_requests_before_a_broken_one_are_served(self, split: int) -> None:
        line = wire()
        line.feed(GET % 0 + GET % 1 + BROKEN + GET % 2, split)
        assert line.statuses() == [200, 200, 400]
        assert line.transport.eof_sent

    def test_a_broken_message_waits_for_the_answer_before_it(self) -> None:
        line = later()
        line.feed(GET % 0 + BROKEN)
        assert line.statuses() == []
        line.feed(GET % 1)
        line.application.respond(line.application.bodies[0])
        assert line.statuses() == [200, 400]
        assert len(line.application.begun) == 1

    def test_a_body_that_breaks_off_is_refused_and_its_application_told(self) -> None:
        line = wire()
        line.feed(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        line.feed(b"zz\r\n")
        assert line.statuses() == [400]
        (request,) = line.application.begun
        assert line.application.gone == [request]
        assert request.problem is not None
        assert request.problem.code == "invalid_request"

    def test_a_body_that_breaks_off_under_a_stream_lets_it_end(self) -> None:
        line = wire(application=RecordingApplication(lambda application, request: application.start(request)))
        line.feed(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        line.feed(b"zz\r\n")
        request = line.application.begun[0]
        line.connection.end(request)
        assert line.statuses() == [200]
        assert line.sent.endswith(b"0\r\n\r\n")
        assert line.transport.eof_sent

    @pytest.mark.parametrize("ahead", [b"", GET % 0])
    def test_connect_is_not_served(self, ahead: bytes) -> None:
        line = wire()
        line.feed(ahead + b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n\x16\x03\x01")
        assert line.application.codes == ["method_not_allowed"]
        assert line.statuses() == [200] * bool(ahead) + [405]
        assert line.transport.eof_sent

    @pytest.mark.parametrize("split", [10_000, 1])
    @pytest.mark.parametrize(
        ("framing", "body"),
        [
            (b"content-length: 5\r\n\r\nhello", b"hello"),
            (b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"content-length: 0\r\n\r\n", b""),
            (b"\r\n", b""),
        ],
    )
    def test_an_offer_of_another_protocol_is_passed_over(self, split: int, framing: bytes, body: bytes) -> None:
        line = wire()
        offer = b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n" + framing
        line.feed(GET % 0 + offer + offer + GET % 1 + offer, split)
        offered = (b"POST", b"/x", body)
        assert line.application.seen == [(b"GET", b"/0", b""), offered, offered, (b"GET", b"/1", b""), offered]
        assert line.statuses() == [200] * 5
        assert line.open

    @pytest.mark.parametrize("framing", [b"content-length: 5\r\n\r\nhello", b"\r\n"])
    def test_an_offer_may_be_the_last_request(self, framing: bytes) -> None:
        line = wire()
        line.feed(b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade\r\nupgrade: h2c\r\n" + framing + GET % 1)
        assert line.statuses() == [200]
        assert line.transport.eof_sent

    @pytest.mark.parametrize("split", [10_000, 1])
    def test_a_body_behind_an_offer_has_the_same_limits(self, split: int) -> None:
        line = wire(WireLimits(body_bytes=10))
        offer = b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
        line.feed(offer + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n", split)
        assert line.statuses() == [413]
        line = wire(WireLimits(body_bytes=10))
        line.feed(offer + b"content-length: 11\r\n\r\nhello world", split)
        assert line.statuses() == [413]

    def test_a_broken_body_behind_an_offer_is_refused(self) -> None:
        line = wire()
        line.feed(
            b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
            b"transfer-encoding: chunked\r\n\r\nzz\r\n"
        )
        assert line.statuses() == [400]

    def test_too_many_connections_are_told_so(self) -> None:
        server = serve(RecordingApplication(connections=9), WireLimits(connections=2))
        lines = [connect(server) for _ in range(4)]
        assert [line.statuses() for line in lines] == [[], [], [503], [503]]
        assert server.refused == 2
        lines[3].feed(GET % 0)
        assert lines[3].statuses() == [503]
        for line in lines[2:]:
            line.transport.lose()
        lines[0].transport.lose()
        assert connect(server).open

    def test_a_flood_of_connections_is_closed_without_a_word(self) -> None:
        server = serve(RecordingApplication(connections=9), WireLimits(connections=1))
        lines = [connect(server) for _ in range(300)]
        assert [line.statuses() for line in lines[1:257]] == [[503]] * 256
        assert all(line.transport.aborted and not line.sent for line in lines[257:])

    def test_a_server_that_stops_closes_who_is_idle(self) -> None:
        server = serve(RecordingApplication(leave, leave, connections=9))
        idle, busy, reading = connect(server), connect(server), connect(server)
        busy.feed(GET % 0)
        reading.feed(b"GET / HT")
        server.close_listeners()
        assert idle.open
        server.close_idle()
        assert idle.transport.closing
        assert [line.connection.busy for line in (idle, busy, reading)] == [False, True, True]
        busy.application.respond(busy.application.bodies[0])
        assert b"connection: close\r\n" in busy.sent
        assert busy.transport.eof_sent
        assert not busy.connection.busy
        reading.connection.refuse(None, ServerError("server_draining", "stopping"))
        assert reading.statuses() == [503]
        assert not reading.open
        assert not reading.connection.busy

    def test_a_server_that_will_stop_asks_its_clients_to_leave(self) -> None:
        server = serve(RecordingApplication(connections=9))
        known, late = connect(server), connect(server)
        known.feed(GET % 0)
        server.ask_to_close()
        assert known.open
        for line in (known, late):
            line.feed(GET % 1)
            assert line.sent.count(b"connection: close\r\n") == 1
            assert not line.open

    def test_an_answer_that_the_client_has_not_taken_keeps_its_connection_busy(self) -> None:
        line = wire(window=10)
        line.feed(GET % 0)
        assert line.connection.busy
        line.transport.take(1 << 20)
        assert not line.connection.busy


class TestExpectation:
    HEAD = b"POST / HTTP/1.%d\r\nhost: a\r\nexpect: %b\r\ncontent-length: 5\r\n\r\n"

    def test_an_interim_answer_invites_the_body(self) -> None:
        line = wire()
        line.feed(self.HEAD % (1, b"100-Continue"))
        assert line.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.feed(b"hello")
        assert line.statuses() == [100, 200]
        assert line.open

    def test_a_refusal_takes_its_place(self) -> None:
        line = wire(application=RecordingApplication(answer))
        line.feed(self.HEAD % (1, b"100-continue"))
        assert line.statuses() == [200]

    @pytest.mark.parametrize(
        "data",
        [HEAD % (1, b"100-continue") + b"hello", HEAD % (1, b"100-continue") + b"h", HEAD % (0, b"100-continue")],
    )
    def test_a_body_on_its_way_and_http_1_0_get_none(self, data: bytes) -> None:
        line = wire()
        line.feed(data)
        assert 100 not in line.statuses()

    def test_other_expectations_are_passed_over(self) -> None:
        line = wire()
        line.feed(self.HEAD % (1, b"a pony") + b"hello")
        assert line.statuses() == [200]

    def test_the_invitation_waits_for_the_answer_before_it(self) -> None:
        line = later()
        line.feed(GET % 0 + self.HEAD % (1, b"100-continue"))
        assert line.statuses() == []
        line.application.respond(line.application.bodies[0])
        assert line.statuses() == [200, 100]


class TestLeaving:
    @pytest.mark.parametrize("answered", [False, True])
    def test_an_application_hears_once_that_its_client_left(self, answered: bool) -> None:
        line = later()
        line.feed(GET % 0 + GET % 1)
        if answered:
            line.application.start(line.application.bodies[0])
        line.transport.end()
        assert line.application.gone == line.application.begun[:1]
        line.transport.lose()
        assert line.application.gone == line.application.begun
        assert line.server.connections == 0

    def test_nobody_is_told_of_an_answered_request(self) -> None:
        line = wire()
        line.feed(GET % 0)
        line.transport.end()
        line.transport.lose()
        assert not line.application.gone

    def test_a_client_that_sent_ahead_is_seen_to_leave(self) -> None:
        line = later()
        line.feed(GET % 0)
        line.feed(GET % 1 * 10)
        assert line.transport.reading
        line.transport.end()
        assert len(line.application.gone) == 1

    def test_an_answer_to_nobody_is_dropped(self) -> None:
        line = later()
        line.feed(GET % 0)
        line.transport.lose()
        request = line.application.begun[0]
        line.application.respond(request)
        line.connection.write(request, b"x")
        line.connection.end(request)
        line.connection.cut(request)
        line.connection.close_when_idle()
        line.connection.abort()
        assert line.sent == b""

    def test_nothing_that_was_sent_ahead_is_served_after_an_abort(self) -> None:
        line = later()
        line.feed(GET % 0 + GET % 1)
        line.feed(GET % 2)
        line.connection.abort()
        line.application.respond(line.application.begun[0])
        assert len(line.application.begun) == 1

    def test_the_clients_address_is_known(self) -> None:
        assert wire().connection.address() == "192.0.2.7"


class TestSlowReaders:
    def test_the_application_is_paused_and_resumed(self) -> None:
        line = wire(WireLimits(write_buffer_bytes=1000), RecordingApplication(leave, leave), window=0)
        line.feed(GET % 0)
        request = line.application.bodies[0]
        line.application.start(request)
        line.connection.write(request, b"x" * 500)
        assert not line.application.paused
        line.connection.write(request, b"x" * 500)
        assert line.application.paused == [request]
        line.transport.take(100)
        assert not line.application.resumed
        line.transport.take(2000)
        assert line.application.resumed == [request]

    def test_requests_sent_ahead_wait_until_the_client_takes_its_answers(self) -> None:
        application = RecordingApplication(size=1000)
        line = wire(WireLimits(write_buffer_bytes=1500), application, window=0)
        line.feed(GET % 0 * 5)
        assert len(application.begun) == 2
        line.transport.take(2000)
        assert len(application.begun) == 4
        line.transport.take(10_000)
        assert len(application.begun) == 5
        assert line.statuses() == [200] * 5

    def test_who_takes_nothing_is_closed(self) -> None:
        line = wire(WireLimits(write_timeout_s=30.0), RecordingApplication(size=5000), window=100)
        line.feed(GET % 0)
        line.patrol(1.0)
        line.patrol(30.0)
        assert line.open
        line.patrol(31.5)
        assert line.transport.aborted

    def test_who_takes_a_little_is_not(self) -> None:
        application = RecordingApplication(size=5000)
        line = wire(WireLimits(write_timeout_s=30.0, write_buffer_bytes=1000), application, window=100)
        line.feed(GET % 0)
        for after_s in range(1, 200, 5):
            line.patrol(after_s)
            line.transport.take(10)
        assert line.open
        line.patrol(250.0)
        line.patrol(281.0)
        assert line.transport.aborted

    def test_what_is_written_meanwhile_is_no_sign_of_life(self) -> None:
        line = wire(WireLimits(write_buffer_bytes=1000), RecordingApplication(leave, leave), window=0)
        line.feed(GET % 0)
        request = line.application.bodies[0]
        line.application.start(request, b"x" * 2000)
        for after_s in range(1, 33, 5):
            assert line.open
            line.patrol(after_s)
            line.connection.write(request, b"more")
        line.patrol(32.0)
        assert line.transport.aborted

    def test_an_answer_before_the_close_is_given_its_time(self) -> None:
        line = wire(application=RecordingApplication(size=5000), window=100)
        line.feed(b"GET / HTTP/1.0\r\n\r\n")
        for after_s in range(1, 60, 5):
            line.patrol(after_s)
            line.transport.take(100)
        assert not line.transport.closing
        line.transport.take(10_000)
        line.patrol(57.0)
        assert not line.transport.closing
        line.patrol(60.0)
        assert line.transport.aborted


class TestTimers:
    def test_an_idle_connection_is_closed(self) -> None:
        for data, bound_s in ((b"", 30.0), (GET % 0, 75.0), (b"\r\n\r\n", 75.0)):
            line = wire()
            if data:
                line.feed(data)
            line.patrol(bound_s - 1.0)
            assert line.open
            line.patrol(bound_s + 1.0)
            assert line.transport.closing
            assert not line.application.codes

    @pytest.mark.parametrize("before", [b"", GET % 0])
    def test_a_head_has_its_time(self, before: bytes) -> None:
        line = wire()
        line.feed(before)
        line.feed(b"GET / HTTP/1.1\r\nhost")
        line.patrol(9.0)
        assert line.open
        line.patrol(10.5)
        assert line.application.codes == ["request_timeout"]
        assert line.statuses()[-1] == 408
        assert line.transport.eof_sent

    def test_a_body_has_its_pace(self) -> None:
        line = wire()
        line.feed(POST % 100_000)
        line.patrol(9.9)
        assert line.open
        line.feed(b"x" * 1024 * 5)
        line.patrol(14.5)
        assert line.open
        line.patrol(15.5)
        assert line.application.codes == ["request_timeout"]
        assert line.statuses() == [408]
        (request,) = line.application.begun
        assert line.application.gone == [request]
        assert request.problem is not None

    def test_a_request_in_service_has_its_own_deadline(self) -> None:
        line = later()
        line.feed(GET % 0)
        line.patrol(100_000.0)
        assert line.open

    def test_lingering_ends(self) -> None:
        line = wire()
        line.feed(BROKEN)
        line.patrol(1.9)
        assert not line.transport.closing
        line.patrol(2.5)
        assert line.transport.aborted

    def test_a_tls_client_that_may_still_send_closes_first(self) -> None:
        line = wire(half_close=False)
        line.feed(BROKEN)
        assert not line.transport.closing
        line.patrol(2.5)
        assert line.transport.closing
        assert not line.transport.aborted
        line.patrol(2.5)
        assert line.transport.aborted

    def test_tls_is_closed_after_a_last_answer(self) -> None:
        line = wire(half_close=False)
        line.feed(b"GET / HTTP/1.0\r\n\r\n")
        assert line.transport.closing
        assert not line.transport.aborted

    def test_a_closed_connection_is_no_more_looked_at(self) -> None:
        line = wire()
        line.transport.lose()
        line.patrol(1000.0)
        assert not line.transport.aborted


def test_a_request_without_a_call_is_never_handed_over_whole() -> None:
    def forget(application: RecordingApplication, request: ServerRequest) -> None:
        request.call = None

    line = wire(application=RecordingApplication(forget))
    line.feed(POST % 5 + b"hello")
    assert not line.application.bodies
