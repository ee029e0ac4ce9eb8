"""The framed protocol, by its promises: cuts change nothing, credit and tables hold, nothing is lost or doubled."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.protocol.pair import Pair, Recording, opened_client, opened_server

from open_autoglm.errors import ServerError
from open_autoglm.protocol import CODECS, FrameReader, Hello, ResumeStore, encode_frame
from open_autoglm.protocol.opcodes import RESUMABLE, STREAM
from open_autoglm.protocol.preambles import read_request, read_response, write_request, write_response
from open_autoglm.protocol.streams import pieces_of

WINDOW = 64 * 1024
REQUESTS_MAX = 4
NUMBERS = st.integers(0, 2**32 - 1)
NAMES = st.text(max_size=60)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)

frames = st.tuples(
    st.integers(0, 255), NUMBERS, st.binary(max_size=200), st.integers(0, 255), st.integers(0, 65_535), NUMBERS
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
bodies = st.dictionaries(
    st.sampled_from(["prompt", "messages", "stop", "seed", "temperature", "text", "extra", "retryable"]) | st.text(),
    values,
    max_size=6,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(frames, max_size=12), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cut_of_the_bytes_gives_the_same_frames(sent: list[Any], places: list[int]) -> None:
    data = b"".join(encode_frame(*frame) for frame in sent)
    sink, reader = Recording(), FrameReader(200)
    for block in cut(data, places):
        reader.feed(block, sink)  # type: ignore[arg-type]
    seen = [(opcode, stream, payload, flags, aux, arg) for _, opcode, flags, aux, stream, arg, payload in sink.calls]
    assert seen == sent
    assert reader.kept_bytes == 0


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_break_an_end(data: bytes, served: bool) -> None:
    end, role = opened_server() if served else opened_client()
    end.receive(data, 0.0)
    assert end._reader.kept_bytes <= len(data)
    end.lose(1.0)
    assert [call[0] for call in role.calls].count("closed") == 1


@given(bodies)
def test_a_body_comes_back_in_every_codec(body: dict[str, Any]) -> None:
    for codec in CODECS.values():
        assert codec.decode(codec.encode(body)) == body


@given(NAMES, NAMES, st.sampled_from([0, 1, 2, 3, 255]), st.binary(min_size=16, max_size=16), st.binary(max_size=20))
def test_a_request_preamble_comes_back(model: str, session: str, priority: int, trace: bytes, body: bytes) -> None:
    payload = write_request(model, session, priority, trace) + body
    read = read_request(payload)
    assert (read.model, read.session, read.priority, read.trace_id) == (model, session, priority, trace)
    assert payload[read.body_at :] == body


@given(NUMBERS, NUMBERS, st.sampled_from(["", "stop", "length"]), st.integers(0, 255), NAMES)
def test_a_response_preamble_comes_back(prompt: int, completion: int, finish: str, attempts: int, name: str) -> None:
    read = read_response(write_response(prompt, completion, finish, attempts, name, name))
    assert (read.prompt_tokens, read.completion_tokens, read.finish, read.attempts) == (
        prompt,
        completion,
        finish,
        attempts,
    )
    assert read.version == read.model == name


@given(st.text(), st.integers(4, 20))
def test_pieces_of_a_text_are_texts(text: str, size_max: int) -> None:
    pieces = pieces_of(text.encode(), size_max)
    assert "".join(piece.decode() for piece in pieces) == text
    assert all(len(piece) <= size_max for piece in pieces)


class Conversation(RuleBasedStateMachine):
    """Both ends, frames that are on their way for a while, and connections that are lost and resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ResumeStore(streams_max=8)
        self.tokens = 0
        self.produced: dict[int, bytes] = {}  # by the asker's number of the request
        self.heard: dict[int, bytes] = {}
        self.ends: dict[int, int] = {}
        self.producers: dict[tuple[int, int], int] = {}  # connection and stream at the server to request
        self.askers: dict[int, int] = {}  # stream of the client's present connection to request
        self.running: dict[int, tuple[Pair, int]] = {}
        self.lost: dict[int, tuple[str, int, int]] = {}  # request to token, stream and next chunk
        self.seqs: dict[int, int] = {}
        self.pairs: list[Pair] = []
        self.connect()

    def connect(self) -> None:
        self.tokens += 1
        hello = Hello(versions=["1.0"], codecs=["json"], window=WINDOW)
        pair = Pair(hello, store=self.store, token=f"t{self.tokens}", requests_max=REQUESTS_MAX, heartbeat_ms=3_600_000)
        self.pairs.append(pair)
        self.pair = pair
        self.askers = {}

    @rule(resumable=st.booleans())
    def ask(self, resumable: bool) -> None:
        stream = self.pair.client.request(b"%d" % len(self.produced), STREAM | (RESUMABLE if resumable else 0))
        if stream:
            request = len(self.produced)
            self.produced[request] = self.heard[request] = b""
            self.ends[request] = self.seqs[request] = 0
            self.askers[stream] = request

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.integers(0, 40_000))
    def produce(self, data: st.DataObject, size: int) -> None:
        request = data.draw(st.sampled_from(sorted(self.running)))
        pair, stream = self.running[request]
        text = b"%d" % (request % 10) * size
        self.produced[request] += text
        pair.server.chunk(stream, text)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data: st.DataObject, fails: bool) -> None:
        request = data.draw(st.sampled_from(sorted(self.running)))
        pair, stream = self.running.pop(request)
        if fails:
            pair.server.fail(stream, ServerError("overloaded", "no"))
        else:
            pair.server.respond(stream, b"end")

    @precondition(lambda self: self.askers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.askers)))
        self.askers.pop(stream)
        self.pair.client.cancel(stream)

    @rule()
    def up(self) -> None:
        self.pair.to_server()
        for pair in self.pairs:
            self.serve(pair)

    def serve(self, pair: Pair) -> None:
        for name, *arguments in pair.answering.take():
            if name == "request":
                self.running[int(arguments[3])] = (pair, arguments[0])
            elif name == "cancel":
                for request, place in list(self.running.items()):
                    if place == (pair, arguments[0]):
                        del self.running[request]

    @rule()
    def down(self) -> None:
        self.pair.to_client()
        for name, *arguments in self.pair.asking.take():
            request = self.askers.get(arguments[0]) if name in ("chunk", "response", "error") else None
            if request is None:
                assert name in ("credit", "welcome"), f"{name} of a stream that nobody has open"
            elif name == "chunk":
                assert arguments[3] == self.seqs[request]
                self.seqs[request] += 1
                self.heard[request] += arguments[4]
                self.pair.client.consume(arguments[0], len(arguments[4]))
            else:
                self.ends[request] += 1
                del self.askers[arguments[0]]
                if name == "response":
                    assert self.heard[request] == self.produced[request], "a response says that all has come"

    @rule()
    def lose(self) -> None:
        before = self.pair
        token = f"t{self.tokens}"
        before.server.lose(before.now_s)
        self.serve(before)
        lost = {request: (token, stream, self.seqs[request]) for stream, request in self.askers.items()}
        self.connect()
        for request, (name, stream, seq) in lost.items():
            number = self.pair.client.resume(name, stream, seq)
            if number:
                self.askers[number] = request

    @invariant()
    def nothing_is_said_twice(self) -> None:
        assert all(count <= 1 for count in self.ends.values())
        for request, text in self.heard.items():
            assert self.produced[request].startswith(text)

    @invariant()
    def limits_hold(self) -> None:
        assert self.store.size <= self.store.bytes_max
        for pair in self.pairs:
            for end in (pair.client, pair.server):
                assert end.streams <= REQUESTS_MAX
                for state in end._streams.values():
                    assert state is None or (state.credit >= 0 and 0 <= state.room <= end._window)

    def teardown(self) -> None:
        for _ in range(200):
            if not (self.pair.client.out or self.pair.server.out):
                break
            self.up()
            self.down()
        for request in list(self.running):
            pair, stream = self.running.pop(request)
            pair.server.respond(stream, b"end")
        for _ in range(200):
            if not (self.pair.client.out or self.pair.server.out):
                break
            self.up()
            self.down()
        assert not self.askers, "who waits gets an answer"
        assert self.pair.server.streams == self.pair.client.streams == 0


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
