import json

import pytest
from tests.unit.protocol.pair import Pair, Recording, frames, names, opened_client, opened_server

from open_autoglm.errors import ServerError
from open_autoglm.protocol import ClientConnection, ConnectionSettings, Hello, encode_frame, opcodes
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.opcodes import (
    CANCEL,
    ERROR,
    INFER_CHUNK,
    INFER_REQUEST,
    INFER_RESPONSE,
    LAST,
    LOAD,
    MORE,
    NODE_COMMAND,
    NODE_RESULT,
    PONG,
    STREAM,
    TENSOR,
    TENSORS,
    UPDATE_BEGIN,
    UPDATE_CHUNK,
    USAGE_REPORT,
    WINDOW,
)

WINDOW_LEAST = 64 * 1024


def hello(window: int) -> Hello:
    return Hello(versions=["1.0"], codecs=["json"], window=window)


def asked(pair: Pair, flags: int = 0) -> int:
    stream = pair.client.request(b"body", flags, 500)
    pair.to_server()
    assert pair.answering.take() == [("request", stream, flags, 500, b"body")]
    return stream


def test_a_request_is_answered_on_its_stream() -> None:
    pair = Pair()
    first, second = pair.client.request(b"a"), pair.client.request(b"b", remaining_ms=30)
    assert (first, second) == (1, 3)
    assert (pair.client.streams, pair.client.room) == (2, 1022)
    pair.to_server()
    assert pair.answering.take() == [("request", 1, 0, 0, b"a"), ("request", 3, 0, 30, b"b")]
    assert pair.server.respond(3, b"B")
    assert pair.server.respond(1, b"A", TENSORS)
    pair.to_client()
    assert pair.asking.take() == [("response", 3, 0, 0, b"B"), ("response", 1, TENSORS, 0, b"A")]
    assert pair.client.streams == pair.server.streams == 0


def test_the_shell_is_woken_once_for_what_it_takes_at_once() -> None:
    pair = Pair()
    woken = pair.woken
    for _ in range(3):
        pair.client.request(b"a")
    assert pair.woken == woken + 1
    assert len(pair.client.take()) == 3
    pair.client.request(b"a")
    assert pair.woken == woken + 2


def test_a_second_answer_goes_nowhere() -> None:
    pair = Pair()
    stream = asked(pair)
    assert pair.server.respond(stream, b"A")
    assert not pair.server.respond(stream, b"A")
    assert not pair.server.fail(stream, ServerError("overloaded", "no"))
    assert not pair.server.send(TENSOR, stream)
    assert len(pair.server.take()) == 1


def test_chunks_are_counted_and_the_response_says_how_many_came() -> None:
    pair = Pair()
    stream = asked(pair, STREAM)
    assert pair.server.chunk(stream, b"one") == 3
    assert pair.server.chunk(stream, b"two", opcodes.REASONING, 1) == 3
    pair.server.respond(stream, b"end")
    pair.to_client()
    assert pair.asking.take() == [
        ("chunk", stream, 0, 0, 0, b"one"),
        ("chunk", stream, opcodes.REASONING, 1, 1, b"two"),
        ("response", stream, 0, 2, b"end"),
    ]


def test_chunks_wait_for_credit_and_the_response_behind_them() -> None:
    pair = Pair(window_bytes=WINDOW_LEAST, hello=hello(WINDOW_LEAST))
    stream = asked(pair, STREAM)
    piece = b"x" * 20_000
    assert [pair.server.chunk(stream, piece) for _ in range(5)] == [20_000, 20_000, 20_000, 0, 0]
    pair.server.respond(stream, b"end")
    pair.to_client()
    assert [call[0] for call in pair.asking.take()] == ["chunk"] * 3
    pair.client.consume(stream, 20_000)
    assert pair.client.take() == [], "credit is given for half a window at once"
    pair.client.consume(stream, 20_000)
    [(opcode, _, _, number, credit, _)] = frames(pair.to_server())
    assert (opcode, number, credit) == (WINDOW, stream, 40_000)
    pair.to_client()
    assert [call[0] for call in pair.asking.take()] == ["chunk", "chunk", "response"]
    assert pair.server.streams == 0
    assert pair.answering.take() == [], "nobody waits for credit once the answer has ended"


def test_a_producer_hears_when_what_waited_is_off() -> None:
    pair = Pair(hello=hello(WINDOW_LEAST))
    stream = asked(pair, STREAM)
    sent = [pair.server.chunk(stream, b"x" * 30_000) for _ in range(4)]
    assert sent == [30_000, 30_000, 0, 0]
    pair.to_client()
    pair.client.consume(stream, 60_000)
    pair.to_server()
    assert pair.answering.take() == [("credit", stream, 60_000)]


def test_a_long_chunk_is_cut_between_characters() -> None:
    pair = Pair(hello=hello(WINDOW_LEAST))
    stream = asked(pair, STREAM)
    text = "中" * 12_000
    assert pair.server.chunk(stream, text.encode()) == 36_000
    pair.to_client()
    pieces = [call[5] for call in pair.asking.take()]
    assert [len(piece) for piece in pieces] == [32_766, 3_234]
    assert "".join(piece.decode() for piece in pieces) == text


def test_a_producer_that_does_not_pause_is_cut_off() -> None:
    pair = Pair(hello=hello(WINDOW_LEAST), waiting_bytes_max=100_000)
    stream = asked(pair, STREAM)
    for _ in range(6):
        pair.server.chunk(stream, b"x" * 30_000)
    assert pair.answering.take() == [("cancel", stream)]
    pair.to_client()
    last = pair.asking.take()[-1]
    assert last[:3] == ("error", stream, 503)
    assert pair.client.streams == pair.server.streams == 0


def test_a_reader_that_gives_no_credit_is_given_up() -> None:
    pair = Pair(hello=hello(WINDOW_LEAST), stall_s=60, heartbeat_ms=3_600_000)
    stream = asked(pair, STREAM)
    for _ in range(3):
        pair.server.chunk(stream, b"x" * 30_000)
    assert pair.server.next_deadline() <= 100.0, "whoever owns it says when that was"
    pair.server.handle_timeout(100.0)
    assert pair.server.next_deadline() == 160.0
    pair.server.handle_timeout(159.0)
    assert pair.answering.take() == []
    pair.server.handle_timeout(160.0)
    assert pair.answering.take() == [("cancel", stream)]
    pair.to_client()
    assert pair.asking.take()[-1][:3] == ("error", stream, 408)


def test_an_error_ends_the_stream_at_once() -> None:
    pair = Pair(hello=hello(WINDOW_LEAST))
    stream = asked(pair, STREAM)
    for _ in range(3):
        pair.server.chunk(stream, b"x" * 30_000)
    error = ServerError("overloaded", "too much", retry_after_s=1.5)
    assert pair.server.fail(stream, error, {"request_id": "r1"})
    pair.to_client()
    [*_, (name, number, status, flags, retry_after_ms, payload)] = pair.asking.take()
    assert (name, number, status, flags, retry_after_ms) == ("error", stream, 503, opcodes.RETRYABLE, 1500)
    assert json.loads(payload) == {
        "code": "overloaded", "message": "too much", "retryable": True, "retry_after_ms": 1500, "request_id": "r1",
    }  # fmt: skip


def test_cancel_reaches_the_role_and_what_is_on_its_way_is_passed_over() -> None:
    pair = Pair()
    stream = asked(pair, STREAM)
    pair.server.chunk(stream, b"late")
    pair.client.cancel(stream)
    pair.client.cancel(stream)
    assert names(pair.to_server()) == ["CANCEL"]
    assert pair.answering.take() == [("cancel", stream)]
    pair.to_client()
    assert pair.asking.take() == []
    assert pair.server.chunk(stream, b"more") == 4, "nobody waits for it"
    assert not pair.server.respond(stream, b"end")
    assert pair.server.take() == []


def test_a_large_message_travels_in_fragments() -> None:
    pair = Pair(frame_bytes_max=WINDOW_LEAST)
    large = bytes(range(256)) * 1000
    stream = pair.client.request(large, STREAM, 9)
    assert len(pair.client.out) == 4
    pair.to_server()
    assert pair.answering.take() == [("request", stream, STREAM, 9, large)]
    pair.server.chunk(stream, b"one")
    pair.server.respond(stream, large, TENSORS)
    pair.to_client()
    assert pair.asking.take()[1:] == [("response", stream, TENSORS, 1, large)]


def test_a_message_that_is_too_long_ends_its_stream_only() -> None:
    server, role = opened_server(frame_bytes_max=WINDOW_LEAST, message_bytes_max=100_000)
    piece = b"x" * 60_000
    other = encode_frame(INFER_REQUEST, 3, b"b")
    server.receive(encode_frame(INFER_REQUEST, 1, piece, MORE) + encode_frame(INFER_REQUEST, 1, piece, MORE), 0.0)
    [(opcode, _, status, stream, _, _)] = frames(b"".join(server.take()))
    assert (opcode, status, stream) == (ERROR, 413, 1)
    server.receive(other + encode_frame(INFER_REQUEST, 1, piece, MORE) + encode_frame(INFER_REQUEST, 1, piece), 0.0)
    assert role.take() == [("cancel", 1), ("request", 3, 0, 0, b"b")]
    assert not server.finished
    server.receive(encode_frame(INFER_REQUEST, 1, b"again"), 0.0)
    assert server.finished, "a number is used once"


def test_messages_that_are_not_whole_have_a_limit_together() -> None:
    server, _ = opened_server(frame_bytes_max=WINDOW_LEAST, message_bytes_max=100_000)
    piece = b"x" * 60_000
    for stream in (1, 3, 5):
        server.receive(encode_frame(INFER_REQUEST, stream, piece, MORE), 0.0)
    assert server.take() == []
    server.receive(encode_frame(INFER_REQUEST, 7, piece, MORE), 0.0)
    [(opcode, _, status, stream, _, _)] = frames(b"".join(server.take()))
    assert (opcode, status, stream) == (ERROR, 503, 7)
    server.receive(encode_frame(CANCEL, 1) + encode_frame(INFER_REQUEST, 9, piece, MORE), 0.0)
    assert server.take() == [], "a cancelled message has left its room"


@pytest.mark.parametrize("first", [encode_frame(INFER_REQUEST, 1, b"x", MORE), encode_frame(TENSOR, 1, b"t", LAST)])
def test_a_message_that_does_not_go_on_is_given_up(first: bytes) -> None:
    server, role = opened_server(heartbeat_ms=3_600_000)
    server.receive(first, 0.0)
    server.handle_timeout(1.0)
    assert server.next_deadline() == 61.0
    server.receive(first, 2.0)
    server.handle_timeout(3.0)
    assert server.next_deadline() == 63.0, "what comes counts"
    role.take()
    server.handle_timeout(63.0)
    [(opcode, _, status, stream, _, payload)] = frames(b"".join(server.take()))
    assert (opcode, status, stream) == (ERROR, 408, 1)
    assert "more of the message" in json.loads(payload)["message"]
    assert role.take() == [("cancel", 1)]
    server.receive(first, 64.0)
    assert not server.finished, "its rest is passed over"
    assert server.streams == 0


def test_a_message_that_has_come_waits_for_nothing() -> None:
    server, _ = opened_server(heartbeat_ms=3_600_000)
    server.receive(encode_frame(INFER_REQUEST, 1, b"x", MORE) + encode_frame(INFER_REQUEST, 1, b"x"), 0.0)
    server.receive(encode_frame(TENSOR, 3, b"t", LAST) + encode_frame(INFER_REQUEST, 3, b"x", TENSORS), 0.0)
    assert server.next_deadline() == 3600.0
    client, _ = opened_client(heartbeat_ms=3_600_000)
    client.request(b"a")
    client.receive(encode_frame(INFER_RESPONSE, 1, b"x", MORE) + encode_frame(INFER_RESPONSE, 1, b"x"), 100.0)
    assert client.next_deadline() == 3700.0


def test_an_answer_that_is_too_long_is_an_error_for_its_caller() -> None:
    client, role = opened_client(frame_bytes_max=WINDOW_LEAST, message_bytes_max=100_000)
    client.request(b"a")
    client.take()
    piece = b"x" * 60_000
    for _ in range(2):
        client.receive(encode_frame(INFER_RESPONSE, 1, piece, MORE), 0.0)
    assert role.take()[0][:3] == ("error", 1, 413)
    assert names(b"".join(client.take())) == ["CANCEL"]
    with pytest.raises(ProtocolError, match="the server takes 100000"):
        client.request(b"x" * 100_001)


def test_no_more_streams_are_open_than_was_said() -> None:
    pair = Pair(requests_max=2)
    assert [pair.client.request(b"a") for _ in range(3)] == [1, 3, 0]
    server, role = opened_server(requests_max=2)
    for stream in (1, 3, 5):
        server.receive(encode_frame(INFER_REQUEST, stream, b"a"), 0.0)
    assert [call[1] for call in role.take()] == [1, 3]
    [(opcode, flags, status, stream, _, _)] = frames(b"".join(server.take()))
    assert (opcode, flags, status, stream) == (ERROR, opcodes.RETRYABLE, 503, 5)
    server.respond(1, b"A")
    server.receive(encode_frame(INFER_REQUEST, 7, b"a"), 0.0)
    assert [call[1] for call in role.take()] == [7]


def test_silence_is_asked_about_and_ends_the_connection() -> None:
    pair = Pair(heartbeat_ms=1000)
    assert pair.server.next_deadline() == 101.0
    pair.server.handle_timeout(101.0)
    assert pair.server.next_deadline() == 102.0
    assert names(pair.to_client()) == ["PING"]
    assert names(pair.to_server()) == ["PONG"]
    pair.now_s = 101.5
    pair.client.receive(b"", 101.5)
    pair.server.receive(b"", 101.5)
    pair.server.handle_timeout(102.0)
    assert pair.server.take() == [], "it was heard"
    pair.server.handle_timeout(102.5)
    pair.server.handle_timeout(103.5)
    assert names(b"".join(pair.server.take())) == ["PING", "GOODBYE"]
    assert pair.answering.take() == [("closed", "request_timeout", "nothing was heard for 2.0 s")]
    assert pair.server.next_deadline() == float("inf")


def test_a_patrol_that_comes_late_asks_before_it_gives_up() -> None:
    pair = Pair(heartbeat_ms=1000)
    pair.server.handle_timeout(150.0)
    assert names(b"".join(pair.server.take())) == ["PING"]
    pair.server.handle_timeout(150.9)
    assert not pair.server.finished
    assert pair.server.next_deadline() == 151.0
    pair.server.handle_timeout(151.0)
    assert pair.server.finished


def test_a_draining_server_takes_no_more_and_ends_with_its_last_stream() -> None:
    pair = Pair()
    stream = asked(pair)
    late = pair.client.request(b"late")
    pair.server.drain(5000, ["10.0.0.2:8080"], 100.0)
    pair.to_client()
    [(name, grace_ms, payload)] = pair.asking.take()
    assert (name, grace_ms, json.loads(payload)) == ("drain", 5000, {"alternatives": ["10.0.0.2:8080"]})
    assert pair.client.request(b"a") == 0
    pair.to_server()
    pair.server.handle_timeout(101.0)
    pair.server.respond(stream, b"A")
    pair.to_client()
    told = pair.asking.take()
    assert told[0][:3] == ("error", late, 503)
    assert told[1] == ("response", stream, 0, 0, b"A")
    assert pair.server.settled(100.0), "PONG has come"
    assert pair.server.next_deadline() <= 101.0
    pair.server.handle_timeout(101.0)
    pair.to_client()
    assert pair.asking.take() == [("closed", "server_draining", "the server stops")]


def test_a_draining_server_hears_what_was_on_its_way_before_it_ends() -> None:
    pair = Pair()
    late = pair.client.request(b"late")
    pair.server.drain(5000, [], 100.0)
    assert not pair.server.settled(100.9)
    assert pair.server.next_deadline() == 101.0
    pair.server.handle_timeout(100.9)
    assert not pair.server.finished
    pair.to_client()
    assert names(pair.to_server()) == ["INFER_REQUEST", "PONG"]
    assert pair.server.settled(100.9)
    pair.server.handle_timeout(100.9)
    pair.to_client()
    assert [call[:2] for call in pair.asking.take()][1:] == [("error", late), ("closed", "server_draining")]


def test_a_draining_server_does_not_wait_long_for_a_client_that_is_silent() -> None:
    pair = Pair()
    pair.server.drain(5000, [], 100.0)
    pair.server.receive(encode_frame(PONG, 0, arg=7), 100.5)  # of another PING
    pair.server.handle_timeout(100.9)
    assert not pair.server.finished
    pair.server.handle_timeout(101.0)
    assert pair.server.finished


def test_a_drain_has_an_end() -> None:
    pair = Pair(heartbeat_ms=3_600_000)
    stream = asked(pair)
    pair.server.drain(5000, [], 100.0)
    assert pair.server.next_deadline() == 105.0
    pair.server.handle_timeout(105.0)
    assert pair.answering.take()[0] == ("cancel", stream)
    pair.to_client()
    assert [call[0] for call in pair.asking.take()] == ["drain", "error", "closed"]


def test_goodbye_is_the_last_word() -> None:
    pair = Pair()
    stream = asked(pair)
    pair.client.goodbye("client_closed", "enough")
    pair.client.goodbye("client_closed", "twice")
    assert pair.client.request(b"a") == 0
    assert names(pair.to_server()) == ["GOODBYE"]
    assert pair.answering.take() == [("cancel", stream), ("closed", "client_closed", "enough")]
    assert not pair.server.respond(stream, b"A")
    pair.server.receive(encode_frame(INFER_REQUEST, 9, b"a"), 0.0)
    assert pair.server.take() == []
    assert pair.answering.take() == []


@pytest.mark.parametrize("how", ["goodbye", "drain", "stall"])
def test_a_role_that_answers_from_within_a_cancel_sends_nothing_more(how: str) -> None:
    pair = Pair(heartbeat_ms=3_600_000)
    first, second = asked(pair), asked(pair)
    told: list[bool] = []

    def on_cancel(stream: int) -> None:
        told.append(pair.server.respond(first + second - stream, b"late"))
        pair.server.goodbye("internal_error", "enough")

    pair.answering.on_cancel = on_cancel  # type: ignore[attr-defined]
    if how == "goodbye":
        pair.server.goodbye("internal_error", "enough")
        assert told == [False, False]
    elif how == "drain":
        pair.server.drain(1000, [], 100.0)
        pair.server.handle_timeout(101.0)
        assert told == [True]
    else:
        for stream in (first, second):
            pair.server._wait(stream)
        pair.server.handle_timeout(100.0)
        pair.server.handle_timeout(160.0)
        assert told == [True]
    assert pair.server.finished
    assert names(b"".join(pair.server.take()))[-1] == "GOODBYE"


def test_a_lost_connection_cancels_what_runs() -> None:
    pair = Pair()
    stream = asked(pair)
    pair.server.lose(101.0)
    pair.server.lose(101.0)
    assert pair.answering.take() == [
        ("cancel", stream),
        ("closed", "stream_interrupted", "the connection was lost"),
    ]


def test_json_messages_are_answered_by_messages() -> None:
    pair = Pair()
    stream = pair.client.message(b'{"opcode":10}')
    pair.to_server()
    assert pair.answering.take() == [("message", stream, b'{"opcode":10}')]
    pair.server.message(stream, b'{"opcode":12}', last=False)
    pair.server.message(stream, b'{"opcode":11}')
    pair.to_client()
    assert pair.asking.take() == [
        ("message", stream, 0, b'{"opcode":12}'),
        ("message", stream, LAST, b'{"opcode":11}'),
    ]
    assert pair.client.streams == pair.server.streams == 0


def test_tensors_come_before_their_request_and_before_their_answer() -> None:
    pair = Pair()
    stream = pair.client.open(TENSOR, b"t1", LAST)
    assert pair.client.send(INFER_REQUEST, stream, b"body", TENSORS)
    pair.to_server()
    assert pair.answering.take() == [
        ("other", TENSOR, LAST, 0, stream, 0, b"t1"),
        ("request", stream, TENSORS, 0, b"body"),
    ]
    assert pair.server.send(TENSOR, stream, b"t2", LAST)
    pair.server.respond(stream, b"end", TENSORS)
    pair.to_client()
    assert [call[0] for call in pair.asking.take()] == ["other", "response"]


def test_commands_and_updates_have_streams_of_their_own() -> None:
    pair = Pair(window_bytes=WINDOW_LEAST)
    command = pair.client.open(NODE_COMMAND, b"c")
    update = pair.client.open(UPDATE_BEGIN, b"u")
    piece = b"x" * 32_768
    assert [pair.client.chunk(update, piece, opcode=UPDATE_CHUNK) for _ in range(3)] == [32_768, 32_768, 0]
    with pytest.raises(ProtocolError, match="32768 at most"):
        pair.client.chunk(update, piece + b"x", opcode=UPDATE_CHUNK)
    pair.to_server()
    told = pair.answering.take()
    assert [(call[1], call[4], call[5]) for call in told] == [
        (NODE_COMMAND, command, 0),
        (UPDATE_BEGIN, update, 0),
        (UPDATE_CHUNK, update, 0),
        (UPDATE_CHUNK, update, 1),
    ]
    pair.server.consume(update, 40_000)
    pair.server.end(NODE_RESULT, command, b"done")
    pair.to_client()
    assert pair.asking.take() == [("credit", update, 32_768), ("other", NODE_RESULT, 0, 0, command, 0, b"done")]
    pair.to_server()
    assert pair.answering.take()[0][5] == 2
    pair.server.end(opcodes.UPDATE_RESULT, update, b"taken")
    pair.to_client()
    assert pair.client.streams == pair.server.streams == 0


def test_reports_need_no_stream() -> None:
    pair = Pair()
    assert pair.server.send(LOAD, 0, b"l")
    assert pair.server.send(USAGE_REPORT, 0, b"u", arg=4)
    pair.to_client()
    assert pair.asking.take() == [("other", LOAD, 0, 0, 0, 0, b"l"), ("other", USAGE_REPORT, 0, 0, 0, 4, b"u")]
    assert pair.client.send(opcodes.USAGE_ACK, 0, arg=4)
    pair.to_server()
    assert pair.answering.take() == [("other", opcodes.USAGE_ACK, 0, 0, 0, 4, b"")]


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(INFER_REQUEST, 0, b"a"),
        encode_frame(INFER_REQUEST, 2, b"a"),
        encode_frame(INFER_RESPONSE, 1, b"a"),
        encode_frame(INFER_CHUNK, 1, b"a"),
        encode_frame(opcodes.HELLO, 0, b"{}"),
        encode_frame(opcodes.DRAIN, 0),
        encode_frame(200, 0),
        encode_frame(CANCEL, 3),
        encode_frame(CANCEL, 0),
        encode_frame(WINDOW, 0, arg=1),
        encode_frame(WINDOW, 1, arg=0),
        encode_frame(LOAD, 0),
        encode_frame(INFER_REQUEST, 1, b"a") * 2,
        encode_frame(INFER_REQUEST, 3, b"a") + encode_frame(INFER_REQUEST, 1, b"a"),
        encode_frame(INFER_REQUEST, 1, b"a", MORE) + encode_frame(opcodes.MESSAGE, 1, b"a"),
        encode_frame(INFER_REQUEST, 1, b"a") + encode_frame(WINDOW, 1, arg=2**31 - 1),
        encode_frame(UPDATE_BEGIN, 1) + encode_frame(UPDATE_CHUNK, 1, b"a", arg=1),
        encode_frame(UPDATE_BEGIN, 1) + encode_frame(UPDATE_CHUNK, 1, b"x" * 300_000),
    ],
)
def test_what_breaks_the_rules_ends_the_servers_end(frame: bytes) -> None:
    server, role = opened_server()
    server.receive(frame, 0.0)
    assert server.finished
    assert names(b"".join(server.take())) == ["GOODBYE"]
    assert role.take()[-1][:2] == ("closed", "invalid_request")


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(INFER_REQUEST, 1, b"a"),
        encode_frame(INFER_RESPONSE, 3, b"a"),
        encode_frame(INFER_RESPONSE, 2, b"a"),
        encode_frame(INFER_RESPONSE, 1, b"a", arg=1),
        encode_frame(INFER_CHUNK, 1, b"a", arg=1),
        encode_frame(INFER_CHUNK, 1, b"x" * 300_000),
        encode_frame(INFER_CHUNK, 0, b"a"),
        encode_frame(opcodes.WELCOME, 0, b"{}"),
        encode_frame(ERROR, 0, b"{}"),
        encode_frame(INFER_CHUNK, 1, b"a") + encode_frame(INFER_RESPONSE, 1, b"a"),
    ],
)
def test_what_breaks_the_rules_ends_the_clients_end(frame: bytes) -> None:
    client, role = opened_client()
    client.request(b"a", STREAM)
    client.take()
    client.receive(frame, 0.0)
    assert client.finished
    assert names(b"".join(client.take())) == ["GOODBYE"]
    assert role.take()[-1][:2] == ("closed", "invalid_request")


def test_an_opcode_of_a_later_version_ends_its_stream_only() -> None:
    server, role = opened_server()
    server.receive(encode_frame(200, 1, b"?") + encode_frame(INFER_REQUEST, 3, b"a"), 0.0)
    [(opcode, _, status, stream, _, _)] = frames(b"".join(server.take()))
    assert (opcode, status, stream) == (ERROR, 501, 1)
    assert role.take() == [("request", 3, 0, 0, b"a")]


def test_a_client_goes_elsewhere_when_the_numbers_are_used_up() -> None:
    client, _ = opened_client()
    client._next_stream = 2**32 - 1
    assert client.request(b"a") == 2**32 - 1
    assert client.request(b"a") == 0
    assert client.room == 0


@pytest.mark.parametrize("end", ["fail", "too large", "too many", "draining", "late"])
def test_a_request_behind_tensors_that_were_refused_is_passed_over(end: str) -> None:
    pair = Pair(requests_max=1, frame_bytes_max=64 * 1024, message_bytes_max=100_000)
    if end == "too many":
        asked(pair)
    if end == "draining":
        asked(pair)
        pair.server.drain(1000, (), 100.0)
        first = 3
    else:
        first = pair.client._next_stream
    size = 90_000 if end != "too large" else 120_000
    frames_of = [
        encode_frame(TENSOR, first, b"x" * 60_000, opcodes.MORE),
        encode_frame(TENSOR, first, b"x" * (size - 60_000)),
        encode_frame(TENSOR, first, b"y", opcodes.LAST),
        encode_frame(opcodes.INFER_REQUEST, first, b"body", opcodes.MORE | TENSORS),
        encode_frame(opcodes.INFER_REQUEST, first, b"body", TENSORS),
    ]
    at_once = 2 if end in ("fail", "late") else 0
    for frame in frames_of[:at_once]:
        pair.server.receive(frame, 100.0)
    if end == "fail":
        pair.server.fail(first, ServerError("overloaded", "no"))
    if end == "late":
        pair.server.handle_timeout(100.0)
        pair.server.handle_timeout(160.0)
    pair.answering.take()
    for frame in frames_of[at_once:]:
        pair.server.receive(frame, 160.0)
    heard = [call for call in pair.answering.take() if call[0] != "cancel"]
    assert heard == []
    assert not pair.server.finished
    assert [name for name in names(b"".join(pair.server.take())) if name in ("ERROR", "GOODBYE")] == ["ERROR"]
    with_request = encode_frame(opcodes.INFER_REQUEST, first, b"again")
    pair.server.receive(with_request, 160.0)
    assert pair.server.finished, "a stream has one request"


def test_only_the_newest_of_those_streams_are_remembered() -> None:
    pair = Pair(requests_max=4)
    for _ in range(10):
        stream = pair.client.open(TENSOR, b"x")
        pair.to_server()
        pair.server.fail(stream, ServerError("overloaded", "no"))
        pair.to_client()
    for stream in (13, 15, 17, 19):
        pair.server.receive(encode_frame(opcodes.INFER_REQUEST, stream, b"late"), 100.0)
        assert not pair.server.finished
    pair.server.receive(encode_frame(opcodes.INFER_REQUEST, 11, b"too late"), 100.0)
    assert pair.server.finished


def test_a_client_says_that_the_other_side_speaks_http() -> None:
    heard = Recording()
    client = ClientConnection(hello(WINDOW_LEAST), heard, lambda: None, ConnectionSettings(), 0.0)
    client.receive(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", 0.1)
    assert client.finished
    [(name, code, message)] = heard.take()
    assert (name, code) == ("closed", "invalid_request")
    assert "answers in HTTP" in message
