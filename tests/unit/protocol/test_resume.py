import json

from tests.unit.protocol.pair import Pair

from open_autoglm.errors import ServerError
from open_autoglm.protocol import Hello, ResumeStore
from open_autoglm.protocol.opcodes import RESUMABLE, STREAM
from open_autoglm.protocol.resume import END_BYTES_MAX, KEPT_S, RING_BYTES_MAX

WINDOW_LEAST = 64 * 1024


def begun(store: ResumeStore, token: str = "t1", **options: object) -> tuple[Pair, int]:
    pair = Pair(store=store, token=token, **options)  # type: ignore[arg-type]
    stream = pair.client.request(b"body", STREAM | RESUMABLE)
    pair.to_server()
    pair.answering.take()
    return pair, stream


def chunks(pair: Pair) -> list[tuple[int, bytes]]:
    return [(call[4], call[5]) for call in pair.asking.calls if call[0] == "chunk"]


def test_a_stream_goes_on_over_another_connection() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.chunk(stream, b"a")
    first.to_client()
    first.server.chunk(stream, b"b")
    first.server.lose(101.0)
    assert [call[0] for call in first.answering.take()] == ["closed"], "its producer goes on"
    first.server.chunk(stream, b"c")
    second = Pair(store=store, token="t2")
    resumed = second.client.resume("t1", stream, 1)
    second.to_server()
    first.server.chunk(stream, b"d")
    assert first.server.respond(stream, b"end")
    second.to_client()
    assert chunks(second) == [(1, b"b"), (2, b"c"), (3, b"d")]
    assert second.asking.calls[-1] == ("response", resumed, 0, 4, b"end")
    assert second.server.streams == second.client.streams == 0
    assert second.answering.take() == [], "the role of the first connection is the producer"


def test_a_stream_that_has_ended_meanwhile_is_told_to_its_end() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.chunk(stream, b"a")
    first.server.lose(101.0)
    first.server.chunk(stream, b"b")
    assert first.server.respond(stream, b"end")
    assert not first.server.respond(stream, b"end")
    second = Pair(store=store, token="t2")
    second.client.resume("t1", stream, 0)
    second.settle()
    assert chunks(second) == [(0, b"a"), (1, b"b")]
    assert second.asking.calls[-1][0] == "response"


def test_an_end_that_was_on_its_way_is_told_again() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.fail(stream, ServerError("overloaded", "no"))
    first.server.take()
    first.server.lose(101.0)
    second = Pair(store=store, token="t2")
    second.client.resume("t1", stream, 0)
    second.settle()
    assert second.asking.calls[-1][:3] == ("error", 1, 503)


def test_a_connection_that_only_the_client_knows_to_be_lost_lets_go() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.chunk(stream, b"a")
    second = Pair(store=store, token="t2")
    second.client.resume("t1", stream, 0)
    second.settle()
    assert first.server.streams == 0
    first.server.take()
    first.server.chunk(stream, b"b")
    assert first.server.take() == []
    second.settle()
    assert chunks(second) == [(0, b"a"), (1, b"b")]


def test_a_stream_can_be_resumed_again_and_again() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    carrier, number = first, stream
    for round_number in range(1, 5):
        carrier.server.lose(101.0)
        first.server.chunk(stream, b"%d" % round_number)
        following = Pair(store=store, token=f"t{round_number + 1}")
        number = following.client.resume(f"t{round_number}", number, 0)
        following.settle()
        carrier = following
    first.server.respond(stream, b"end")
    carrier.settle()
    assert chunks(carrier) == [(0, b"1"), (1, b"2"), (2, b"3"), (3, b"4")]
    assert carrier.asking.calls[-1][0] == "response"
    assert len(store) == 1, "only the last connection's token still finds it"


def refusal(pair: Pair, token: str, stream: int, seq: int) -> tuple[int, str]:
    pair.client.resume(token, stream, seq)
    pair.settle()
    name, _, status, _, _, payload = pair.asking.calls[-1]
    assert name == "error"
    return status, json.loads(payload)["code"]


def test_what_is_not_kept_is_gone() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.chunk(stream, b"a")
    first.server.lose(101.0)
    gone = (410, "not_found")
    assert refusal(Pair(store=store, token="t2"), "unknown", stream, 0) == gone
    assert refusal(Pair(store=store, token="t2"), "t1", stream + 2, 0) == gone
    assert refusal(Pair(store=store, token="t2"), "t1", stream, 2) == gone, "none has that number yet"
    assert refusal(Pair(store=store, token="t2", owner="somebody"), "t1", stream, 0) == gone
    assert refusal(Pair(), "t1", stream, 0) == gone, "this server keeps nothing"
    other_codec = Pair(Hello(versions=["1.0"], codecs=["msgpack"]), store=store, token="t2")
    other_codec.client.resume("t1", stream, 0)
    other_codec.settle()
    assert other_codec.asking.calls[-1][:3] == ("error", 1, 410)


def test_a_ring_keeps_the_last_chunks() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.lose(101.0)
    for _ in range(5):
        first.server.chunk(stream, b"x" * 20_000)
    assert store.size == 60_000 <= RING_BYTES_MAX
    assert refusal(Pair(store=store, token="t2"), "t1", stream, 1) == (410, "not_found")
    second = Pair(store=store, token="t3")
    second.client.resume("t1", stream, 2)
    second.settle()
    assert [seq for seq, _ in chunks(second)] == [2, 3, 4]


def test_nobody_waits_for_ever() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.lose(101.0)
    first.answering.take()
    assert store.expire(101.0) == 0
    assert store.expire(101.0 + KEPT_S - 1) == 0
    assert store.expire(101.0 + KEPT_S) == 1
    assert first.answering.take() == [("cancel", stream)]
    assert (len(store), store.size) == (0, 0)
    first.server.chunk(stream, b"late")
    assert not first.server.respond(stream, b"end")
    assert store.size == 0


def test_an_answer_that_has_come_to_its_end_is_forgotten_after_a_while() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.chunk(stream, b"a")
    first.server.respond(stream, b"end")
    assert len(store) == 1
    assert store.expire(1000.0) == 0, "its time begins when somebody looks"
    assert store.expire(1000.0 + KEPT_S) == 1
    assert first.answering.take() == []
    assert store.size == 0


def test_cancel_of_a_resumed_stream_reaches_its_producer() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.lose(101.0)
    first.answering.take()
    second = Pair(store=store, token="t2")
    resumed = second.client.resume("t1", stream, 0)
    second.settle()
    second.client.cancel(resumed)
    second.settle()
    assert first.answering.take() == [("cancel", stream)]
    assert second.answering.take() == []
    assert len(store) == 0


def test_a_producer_that_waits_for_credit_is_let_go_when_the_connection_is_lost() -> None:
    hello = Hello(versions=["1.0"], codecs=["json"], window=WINDOW_LEAST)
    store = ResumeStore()
    first, stream = begun(store, hello=hello)
    assert [first.server.chunk(stream, b"x" * 30_000) for _ in range(3)] == [30_000, 30_000, 0]
    first.server.lose(101.0)
    assert first.answering.take()[0] == ("credit", stream, 30_000)
    second = Pair(hello=hello, store=store, token="t2")
    resumed = second.client.resume("t1", stream, 1)
    second.settle()
    assert first.server.chunk(stream, b"y" * 30_000) == 0, "two that were told again have taken the credit"
    second.client.consume(resumed, 60_000)
    second.settle()
    assert first.answering.take()[-1] == ("credit", stream, 30_000)
    assert [seq for seq, _ in chunks(second)] == [1, 2, 3]


def test_there_is_room_for_so_many_only() -> None:
    store = ResumeStore(streams_max=1, bytes_max=100_000)
    begun(store)
    second, stream = begun(store, "t2")
    second.server.lose(101.0)
    assert second.answering.take()[0] == ("cancel", stream), "an ordinary stream ends with its connection"
    assert len(store) == 1


def test_the_store_holds_no_more_bytes_than_it_may() -> None:
    store = ResumeStore(bytes_max=50_000)
    first, one = begun(store)
    second, two = begun(store, "t2")
    for _ in range(4):
        first.server.chunk(one, b"x" * 10_000)
        second.server.chunk(two, b"x" * 10_000)
        assert store.size <= 50_000
    second.server.respond(two, b"x" * 20_000)
    assert store.size <= 50_000
    assert refusal(Pair(store=store, token="t3"), "t2", two, 0) == (410, "not_found")


def test_an_end_that_is_too_long_is_not_kept() -> None:
    store = ResumeStore()
    first, stream = begun(store)
    first.server.respond(stream, b"x" * (END_BYTES_MAX + 1))
    assert (len(store), store.size) == (0, 0)


def test_a_resume_that_cannot_be_read_ends_its_stream_only() -> None:
    pair = Pair(store=ResumeStore(), token="t2")
    pair.client.open(7, b'{"token":1}')
    pair.settle()
    assert pair.asking.calls[-1][:3] == ("error", 1, 400)
    assert not pair.server.finished
