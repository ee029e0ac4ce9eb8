"""Merging takes no account of order, grouping or repetition; whatever datagrams do, the members end up the same."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.dissemination import (
    DeltaLink,
    DisseminationError,
    Entry,
    LinkSettings,
    ParityReader,
    ParityWriter,
    ReplicatedMap,
    Told,
)
from open_autoglm.dissemination.entry import read_entries, write_told
from open_autoglm.protocol.version_vector import compare, includes, join

NAMES = ["a", "b", "c", "d"]
KEYS = ["x", "y"]

Step = tuple[str, int, int, bool, int | None]
steps = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.integers(0, len(NAMES) - 1),
        st.integers(0, len(NAMES) - 1),
        st.booleans(),
        st.sampled_from([None, 1000, 5000]),
    ),
    max_size=25,
)
vectors = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 4))


def history(made: list[Step]) -> list[ReplicatedMap]:
    """Members that wrote, and sometimes heard of each other before."""
    members = [ReplicatedMap(name) for name in NAMES]
    for number, (key, writer, heard, hears, ttl_ms) in enumerate(made):
        if hears:
            members[writer].merge(members[heard].everything(0.0), 0.0)
        facts = members[writer]
        facts.write(key, str(number).encode(), facts.read(key).vector, 0.0, ttl_ms=ttl_ms)
    return members


def state(facts: ReplicatedMap) -> dict[str, tuple[Entry, ...]]:
    return {key: facts.read(key).entries for key in sorted(facts.keys())}


def merged(*parts: list[Told]) -> ReplicatedMap:
    facts = ReplicatedMap("reader")
    for part in parts:
        facts.merge(part, 0.0)
    return facts


@given(steps)
def test_merging_is_commutative_associative_and_idempotent(made: list[Step]) -> None:
    a, b, c, _ = (facts.everything(0.0) for facts in history(made))
    whole = merged(a, b, c)
    assert state(merged(b, a)) == state(merged(a, b))
    assert state(merged(merged(a, b).everything(0.0), c)) == state(whole)
    assert state(merged(a, merged(b, c).everything(0.0))) == state(whole)
    assert state(merged(a, b, c, a, b, c)) == state(whole)


@given(steps, st.randoms(use_true_random=False))
def test_single_entries_in_any_order_come_to_the_same(made: list[Step], rng: random.Random) -> None:
    told = [each for facts in history(made) for each in facts.everything(0.0)]
    shuffled = [*told, *told]
    rng.shuffle(shuffled)
    assert state(merged(*([each] for each in shuffled))) == state(merged(told))


@given(steps)
def test_none_of_a_keys_entries_knew_another_and_the_first_outranks_all_that_was_written(made: list[Step]) -> None:
    members = history(made)
    facts = merged(*(member.everything(0.0) for member in members))
    for key in KEYS:
        entries = facts.read(key).entries
        assert not any(one.knows(other) for one in entries for other in entries if one is not other)
        for member in members:
            assert all(entries[0].rank >= entry.rank for entry in member.read(key).entries)


@given(steps)
def test_the_log_has_each_conflict_that_still_stands(made: list[Step]) -> None:
    facts = merged(*(member.everything(0.0) for member in history(made)))
    open_pairs = {frozenset((conflict.winner.value, conflict.loser.value)) for conflict in facts.conflicts.open()}
    for key in KEYS:
        values = [entry.value for entry in facts.read(key).entries]
        pairs = {frozenset((one, other)) for one in values for other in values if one != other}
        assert pairs <= open_pairs


@given(vectors, vectors, vectors)
def test_vectors_join_as_a_lattice(a: dict[str, int], b: dict[str, int], c: dict[str, int]) -> None:
    assert compare(join(a, b), join(b, a)) == "equal"
    assert compare(join(join(a, b), c), join(a, join(b, c))) == "equal"
    assert compare(join(a, a), a) == "equal"
    assert includes(join(a, b), a)
    assert (compare(a, b) == "before") == (compare(b, a) == "after")


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([0, 2, 4]), st.booleans())
def test_links_that_lose_double_and_reorder_come_to_the_same(seed: int, loss: float, parity: int, synced: bool) -> None:
    rng = random.Random(seed)
    how = LinkSettings(parity=parity, window=4)
    maps = [ReplicatedMap("a", changes_max=4), ReplicatedMap("b", changes_max=4)]
    links = [DeltaLink(maps[0], "b", 1, how, synced=synced), DeltaLink(maps[1], "a", 1, how, synced=synced)]
    flying: list[tuple[float, int, bytes]] = []
    now_s = 0.0
    while now_s < 120.0:
        now_s += 0.01
        if now_s < 2.0 and rng.random() < 0.3:
            facts = rng.choice(maps)
            key = f"k{rng.randrange(12)}"
            facts.write(key, rng.randbytes(rng.randrange(600)), facts.read(key).vector, now_s)
        for end, link in enumerate(links):
            for datagram in link.send(now_s):
                copies = sum(rng.random() >= loss for _ in range(rng.choice((1, 1, 1, 2))))
                flying += [(now_s + rng.uniform(0.005, 0.08), 1 - end, datagram) for _ in range(copies)]
        for item in [item for item in flying if item[0] <= now_s]:
            flying.remove(item)
            links[item[1]].receive(item[2], now_s)
        if now_s > 2.0 and not flying and all(link.idle for link in links):
            break
    assert all(link.idle for link in links)
    assert state(maps[0]) == state(maps[1])


@given(st.lists(st.binary(max_size=80), min_size=2, max_size=8), st.data())
def test_any_one_of_a_group_comes_back(bodies: list[bytes], data: st.DataObject) -> None:
    writer, reader = ParityWriter(len(bodies)), ParityReader()
    lost = data.draw(st.integers(0, len(bodies) - 1))
    parity = None
    for number, body in enumerate(bodies, 1):
        assert parity is None
        parity = writer.add(number, body)
        if number != lost + 1:
            reader.add(number, body)
    assert parity is not None
    assert reader.recover(parity) == (lost + 1, bodies[lost])
    assert reader.recover(parity) is None, "nothing lacks any more"


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 255))
def test_bytes_of_any_kind_are_entries_or_refused(data: bytes, at: int, byte: int) -> None:
    good = bytearray(write_told(Told(Entry("k", "a", 3, 4, {"a": 3, "b": 2}, b"value"), 5)))
    good[at % len(good)] = byte
    for given_bytes in (data, bytes(good)):
        try:
            told = read_entries(given_bytes, 8)
        except DisseminationError:
            continue
        assert b"".join(map(write_told, told)) == given_bytes


@given(st.binary(max_size=300))
def test_a_link_and_a_parity_take_bytes_of_any_kind_or_refuse_them(data: bytes) -> None:
    link = DeltaLink(ReplicatedMap("a"), "b", 1, LinkSettings(parity=2))
    head = b"\x03" + (1).to_bytes(8, "big") + bytes(34)
    for datagram in (data, head + data):
        try:
            link.receive(datagram, 0.0)
        except DisseminationError:
            continue
        assert link.timeout_s > 0
