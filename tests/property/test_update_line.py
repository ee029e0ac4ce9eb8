"""A parameter update over any line: cut, reorder, repeat or damage it, the whole arrives exactly or never."""

from __future__ import annotations

import hashlib
import heapq
import random
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.resilience.token_bucket import TokenBucket
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.chunks import (
    ALIGNMENT_BYTES,
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    CHUNKS_MAX,
    chunk_bytes_at,
    cut,
)
from open_autoglm.rollout.delta import BodySource
from open_autoglm.rollout.layout import Place
from open_autoglm.rollout.reception import Reception
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Effect, Progress, SendChunk, SendOffer, Transmission

WORDS = CHUNK_BYTES_MIN // 2 * 5 + 77
WINDOW = 4
PARENT = np.random.default_rng(1).standard_normal(WORDS).astype("<f2").tobytes()
TARGET = (
    (np.frombuffer(PARENT, "<f2").astype(np.float32) + np.random.default_rng(2).standard_normal(WORDS) * 1e-3)
    .astype("<f2")
    .tobytes()
)
PLACES = [Place("w", "F16", (WORDS,), 0, 2 * WORDS)]
MANIFEST = manifests.build("glm", PLACES, TARGET, b"{}")
PLAN = cut(TARGET, CHUNK_BYTES_MIN)


class Receiver:
    """A reception with a disk that survives it."""

    def __init__(self) -> None:
        self.disk = bytearray(len(TARGET))
        self.reception: Reception | None = None

    def begin(self) -> Progress:
        if self.reception is None:
            self.reception = Reception(MANIFEST, PLAN)
            for index in range(PLAN.count):
                start, end = PLAN.span(index)
                self.reception.recovered(index, bytes(self.disk[start:end]))
        return self.told()

    def told(self) -> Progress:
        assert self.reception is not None
        return Progress(self.reception.received, self.reception.missing(), WINDOW, self.reception.damaged)

    def take(self, index: int, codec: int, payload: bytes) -> Progress | None:
        if self.reception is None:
            return None
        start, end = PLAN.span(index) if 0 <= index < PLAN.count else (0, 0)
        try:
            data = self.reception.chunk(index, codec, payload, PARENT[start:end])
        except UpdateRefused:
            return self.told() if self.reception.state != "refused" else None
        if data is not None:
            self.disk[start:end] = data
            self.reception.written(index)
        return self.told()


@dataclass
class Line:
    """A line in virtual time that loses, damages, repeats and delays, and is cut."""

    chance: random.Random
    loss: float
    damage: float
    repeat: float
    cuts: list[float]
    events: list[tuple[float, int, object]] = field(default_factory=list)
    serial: int = 0
    jitter_s: float = 0.5  # 0 keeps the order

    def put(self, at_s: float, what: object) -> None:
        copies = 2 if self.chance.random() < self.repeat else 1
        for _ in range(copies):
            if self.chance.random() >= self.loss:
                self.serial += 1
                heapq.heappush(self.events, (at_s + 0.001 + self.chance.uniform(0.0, self.jitter_s), self.serial, what))

    def chunk(self, effect: SendChunk) -> SendChunk:
        if self.chance.random() >= self.damage:
            return effect
        damaged = bytearray(effect.payload)
        match self.chance.randrange(3):
            case 0 if damaged:
                damaged[self.chance.randrange(len(damaged))] ^= 1 << self.chance.randrange(8)
            case 1:
                del damaged[self.chance.randrange(len(damaged) + 1) :]
            case _:
                return SendChunk(self.chance.randrange(-1, PLAN.count + 2), self.chance.randrange(4), bytes(damaged))
        return SendChunk(effect.index, effect.codec, bytes(damaged))


def simulate(line: Line, with_parent: bool = True, rate: float = 1e6) -> tuple[Transmission, Receiver, float]:
    """Run sender and receiver until the sender ends or has nothing left to do."""
    source = BodySource(PLAN, TARGET, PARENT if with_parent else None)
    sender = Transmission(source, TokenBucket(rate, 2.0 * CHUNK_BYTES_MIN, 0.0))
    receiver, now_s = Receiver(), 0.0

    def send(effects: list[Effect]) -> None:
        for effect in effects:
            line.put(now_s, effect if isinstance(effect, SendOffer) else line.chunk(effect))

    send(sender.start(now_s))
    for _ in range(20_000):
        due = sender.next_deadline()
        if due is None or sender.state == "verifying":
            break
        if line.cuts and line.cuts[0] <= now_s:
            line.cuts.pop(0)
            line.events.clear()
            if line.chance.random() < 0.5:
                receiver.reception = None  # a restart: what is on the disk is all that it knows
            send(sender.start(now_s))
            continue
        if not line.events or line.events[0][0] > due:
            now_s = max(now_s, due)
            send(sender.handle_timeout(now_s))
            continue
        now_s, _, what = heapq.heappop(line.events)
        if isinstance(what, SendOffer):
            line.put(now_s, receiver.begin())
        elif isinstance(what, SendChunk):
            told = receiver.take(what.index, what.codec, what.payload)
            if told is not None:
                line.put(now_s, told)
        else:
            assert isinstance(what, Progress)
            send(sender.progress(what, now_s))
        assert len(sender._on_way) <= WINDOW
    else:
        raise AssertionError("no end within 20,000 steps")
    return sender, receiver, now_s


shares = st.sampled_from([0.0, 0.05, 0.3])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=shares,
    damage=shares,
    repeat=shares,
    cuts=st.lists(st.floats(0.0, 30.0), max_size=4).map(sorted),
)
def test_any_line_brings_the_exact_whole_or_nothing(
    seed: int, loss: float, damage: float, repeat: float, cuts: list[float]
) -> None:
    sender, receiver, _ = simulate(Line(random.Random(seed), loss, damage, repeat, cuts))
    assert receiver.reception is None or receiver.reception.state in ("complete", "receiving", "refused")
    if sender.state == "verifying":
        assert receiver.reception is not None
        assert receiver.reception.state == "complete"
        assert hashlib.sha256(receiver.disk).hexdigest() == MANIFEST.weights_sha256
    else:
        assert sender.outcome == "lost"
        assert loss or damage


def test_a_good_line_sends_every_chunk_once() -> None:
    sender, receiver, now_s = simulate(Line(random.Random(1), 0.0, 0.0, 0.0, []))
    assert sender.state == "verifying"
    assert sender.chunks_sent == PLAN.count
    assert receiver.disk == TARGET
    assert now_s < 4.0


def test_a_damaged_chunk_goes_again_at_once() -> None:
    line = Line(random.Random(5), 0.0, 0.3, 0.0, [], jitter_s=0.0)
    sender, receiver, now_s = simulate(line)
    assert receiver.disk == TARGET
    assert receiver.reception is not None
    assert receiver.reception.damaged > 0
    assert sender.chunks_sent > PLAN.count
    assert now_s < 5.0, "nobody waited for silence"


def test_after_a_cut_only_what_is_missing_goes_again() -> None:
    sender, receiver, _ = simulate(Line(random.Random(3), 0.0, 0.0, 0.0, [0.7]))
    assert receiver.disk == TARGET
    assert PLAN.count < sender.chunks_sent < 2 * PLAN.count


def test_the_throttle_holds() -> None:
    sender, _, now_s = simulate(Line(random.Random(1), 0.0, 0.0, 0.0, []), with_parent=False)
    assert sender.bytes_sent <= 2.0 * CHUNK_BYTES_MIN + 1e6 * now_s


def test_a_throttle_slower_than_the_silence_loses_nothing() -> None:
    rate = CHUNK_BYTES_MIN / 60
    sender, receiver, now_s = simulate(Line(random.Random(1), 0.0, 0.0, 0.0, []), with_parent=False, rate=rate)
    assert (sender.state, receiver.disk) == ("verifying", TARGET)
    assert sender.chunks_sent == PLAN.count
    assert now_s > 60 * (PLAN.count - 3)


def test_a_slow_throttle_does_not_hide_that_the_receiver_is_gone() -> None:
    sender = Transmission(BodySource(PLAN, TARGET), TokenBucket(CHUNK_BYTES_MIN / 60, CHUNK_BYTES_MIN, 0.0))
    sender.start(0.0)
    sent = sender.progress(Progress(0, [(0, PLAN.count)], WINDOW), 0.0)
    assert [type(effect) for effect in sent] == [SendChunk]
    while sender.state != "ended":
        due = sender.next_deadline()
        assert due is not None
        sender.handle_timeout(due)
    assert sender.outcome == "lost"


@given(rate=st.integers(1, 1 << 40), body=st.integers(1, 1 << 42))
def test_chunks_are_small_where_the_rate_is(rate: int, body: int) -> None:
    size = chunk_bytes_at(rate, body)
    assert CHUNK_BYTES_MIN <= size <= CHUNK_BYTES_MAX
    assert size % ALIGNMENT_BYTES == 0
    assert -(-body // size) <= CHUNKS_MAX
    if body <= CHUNK_BYTES_MIN * CHUNKS_MAX:
        assert size == CHUNK_BYTES_MIN or size <= rate / 4 + ALIGNMENT_BYTES


def test_silence_ends_an_update_as_lost() -> None:
    sender, _, now_s = simulate(Line(random.Random(1), 1.0, 0.0, 0.0, []))
    assert sender.outcome == "lost"
    assert now_s == 50.0


@settings(max_examples=300, deadline=None)
@given(index=st.integers(-2, 10), codec=st.integers(-1, 300), payload=st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_chunk(index: int, codec: int, payload: bytes) -> None:
    receiver = Receiver()
    receiver.begin()
    receiver.take(index, codec, payload)
    assert receiver.reception is not None
    assert receiver.reception.received == 0
    assert not any(receiver.disk)
