"""The contract of updates while serving, one test or more for each of its promises (docs/model-updates.md).

G5, one epoch for a whole cluster, is not built; stage and commit are two commands so that it can be.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.inference.worlds import KEY, NAME, Node, Reply, Update, next_version, noisy, update

from open_autoglm.engines.embedded.model import GlmModel
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.inference import embedded_versions
from open_autoglm.inference.model_store import Current, ModelStore
from open_autoglm.inference.publisher import Publisher
from open_autoglm.inference.update_receiver import Commit
from open_autoglm.inference.validation import ValidationRules, answer
from open_autoglm.resilience.token_bucket import TokenBucket
from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.chunks import cut
from open_autoglm.rollout.delta import BodySource, quantise
from open_autoglm.rollout.layout import Place
from open_autoglm.rollout.manifest import GoldenPrompt
from open_autoglm.rollout.reception import DAMAGED_MAX, Offer
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Progress, SendChunk, Transmission

LONG = "What is 847 plus 292?"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "models", ValidationRules(probes=embedded_versions.PROBES))
    made.engine.start()
    yield made
    made.close()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Node]:
    """A node whose engine was not started: requests are taken, nothing is computed."""
    made = Node(tmp_path / "models")
    yield made
    made.close()


def swap(node: Node, version: str, policy: str = "pin") -> None:
    node.receiver.commit(Commit(NAME, version, policy))  # type: ignore[arg-type]


def refused(node: Node, bad: Update) -> str:
    """Send an update that must not be taken, and see that nothing has changed."""
    before = node.engine.version, node.store.versions(NAME)
    with pytest.raises(UpdateRefused) as caught:
        node.receive(bad)
    assert (node.engine.version, node.store.versions(NAME)) == before
    assert not list((node.folder / NAME).glob(".staging-*"))
    assert node.answers() == before[0]
    return caught.value.reason


class TwoFaced(GlmModel):
    """The real model, which notes in which version's weights each pass of it was computed."""

    seen: list[tuple[str, bool]]

    def _forward(self, *arguments: object) -> object:  # type: ignore[override]
        before = self.weights
        result = super()._forward(*arguments)  # type: ignore[arg-type]
        self.seen.append((self.version, self.weights is before))
        return result


def test_g1_a_forward_pass_never_mixes_versions(tmp_path: Path) -> None:
    node = Node(tmp_path / "models")
    node.close()
    seen: list[tuple[str, bool]] = []
    models = []
    for version in ("1", None):
        manifest = embedded_versions.adopt(node.store, NAME, version)
        with node.store.open(NAME, manifest.version) as stored:
            plain = embedded_versions.load(stored)
        model = TwoFaced(plain.config, plain.weights, plain.abilities)
        model.seen = seen
        models.append(model)
    node.engine = Engine(models[0], slots=4)
    node.engine.start()
    replies = [node.ask(LONG) for _ in range(8)]
    assert replies[0].first.wait(20)
    node.engine.publish(models[1], "follow")
    for reply in replies:
        assert reply.usage.completion_tokens
    node.close()
    assert {version for version, _ in seen} <= {models[0].version, models[1].version}
    assert all(same for _, same in seen)


def test_g2_a_request_ends_on_the_version_that_it_began_with(node: Node) -> None:
    version = node.receive(update(node))
    running = [node.ask(LONG) for _ in range(4)]
    assert all(reply.first.wait(20) for reply in running)
    swap(node, version)
    for reply in running:
        assert (reply.usage.version, reply.usage.spans) == (node.old.version, ())
    assert node.answers() == version


@pytest.mark.parametrize("policy", ["pin", "follow", "restart", "abort"])
def test_g2_under_every_policy_what_was_not_begun_gets_the_new_version(idle: Node, policy: str) -> None:
    waiting = [idle.ask(LONG) for _ in range(6)]
    version = idle.receive(update(idle))
    swap(idle, version, policy)
    idle.engine.start()
    assert {reply.usage.version for reply in waiting} == {version}


def test_g2_at_most_two_versions_live(idle: Node) -> None:
    first, second = idle.receive(update(idle)), None
    swap(idle, first)
    second = idle.receive(update(idle, noisy(idle.old_body, 1e-4), delta=False))
    swap(idle, second)
    assert [live.version for live in idle.engine.versions()] == [second, first]


def test_g3_nothing_is_visible_before_it_was_verified(node: Node) -> None:
    sent = update(node, golden=(GoldenPrompt("12 + 30", "42"),))
    name, told = node.receiver.begin(sent.offer)
    for index in range(sent.offer.plan.count):
        assert node.store.versions(NAME) == [node.old.version]
        assert node.answers() == node.old.version
        told = node.receiver.chunk(name, index, *sent.encoded(index))
    assert told.missing == []
    assert node.store.versions(NAME) == [node.old.version]
    version = node.receiver.stage(name)
    assert version == sent.manifest.version == next_version()[0].version
    assert node.answers() == node.old.version, "staged is not published"
    swap(node, version)
    assert node.answers() == version


def test_g3_an_int8_difference_is_verified_by_what_it_rebuilds(node: Node) -> None:
    made = quantise(next_version()[1], node.old_body)
    sent = update(node, made.body)
    source = BodySource(sent.offer.plan, made.body, node.old_body, quantised=made)
    sent.damage = {index: source.encoded(index) for index in range(source.plan.count)}
    assert {codec for codec, _ in sent.damage.values()} == {2}
    swap(node, node.receive(sent))
    with node.store.open(NAME, node.engine.version) as stored:
        stored.verify()
        assert stored.body() == made.body


def with_words(body: bytes, at: int, value: float) -> bytes:
    words = np.frombuffer(body, "<f2").copy()
    words[at] = value
    return words.tobytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "not_finite"),
        ("infinite", "not_finite"),
        ("noise", "drift"),
        ("zeros", "drift"),
        ("golden", "golden"),
        ("tensor", "format"),
        ("config", "hash"),
        ("properties", "format"),
        ("task", "format"),
        ("key", "signature"),
        ("model", "unknown"),
        ("truncated", "manifest"),
        ("announced", "hash"),
        ("plan", "chunk"),
        ("chunks", "chunk"),
        ("parent", "parent"),
    ],
)
def test_g3_whatever_is_wrong_is_refused_and_the_old_version_serves_on(node: Node, kind: str, reason: str) -> None:
    body = next_version()[1]
    bad = {
        "nan": lambda: update(node, with_words(body, 5, np.nan)),
        "infinite": lambda: update(node, with_words(body, -5, np.inf)),
        "noise": lambda: update(node, noisy(body, 0.2)),
        "zeros": lambda: update(node, bytes(len(body))),
        "golden": lambda: update(node, golden=(GoldenPrompt("12 + 30", "43"),)),
        "tensor": lambda: update(node, bytes(512), places=[Place("w", "F16", (256,), 0, 512)], delta=False),
        "config": lambda: update(node, config=b"{}"),
        "properties": lambda: update(node, properties={"engine": "onnx"}),
        "task": lambda: update(
            node, properties={k: v for k, v in next_version()[0].properties.items() if k != "tasks"}
        ),
        "key": lambda: update(node, key=b"another"),
        "model": lambda: update(node, name="glm-nano"),
        "truncated": lambda: edited(update(node), manifest=update(node).offer.manifest[:-9]),
        "announced": lambda: announced(node),
        "plan": lambda: edited(update(node), plan=cut(body[:-2], 65_536)),
        "chunks": lambda: damaged(update(node)),
        "parent": lambda: edited(update(node), parent="0" * 64),
    }[kind]()
    assert refused(node, bad) == reason
    if kind not in ("key", "model", "truncated"):
        assert [event.reason for event in node.events if event.step == "refused"] == [reason]


def edited(sent: Update, **fields: object) -> Update:
    offer = Offer(**{name: fields.get(name, getattr(sent.offer, name)) for name in sent.offer.__struct_fields__})  # type: ignore[arg-type]
    return Update(sent.manifest, sent.body, sent.config, sent.parent, offer)


def announced(node: Node) -> Update:
    """An update whose chunks are those that were announced, but not those of the manifest."""
    sent, other = update(node), noisy(node.old_body, 1e-4)
    offer = Offer(sent.offer.manifest, sent.offer.config, cut(other, 65_536), None)
    return Update(sent.manifest, other, sent.config, None, offer)


def damaged(sent: Update) -> Update:
    """An update of which one chunk comes damaged, however often."""
    codec, payload = sent.encoded(2)
    sent.damage[2] = codec, payload[:-1] + bytes((payload[-1] ^ 1,))
    return sent


def test_g3_a_difference_to_a_version_that_is_damaged_here_is_refused(node: Node) -> None:
    path = node.folder / NAME / node.old.version / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert refused(node, update(node)) == "parent"


def test_g4_a_damaged_chunk_is_asked_for_again_and_too_many_end_the_update(node: Node) -> None:
    sent = update(node)
    name, told = node.receiver.begin(sent.offer)
    for attempt in range(1, DAMAGED_MAX):
        told = node.receiver.chunk(name, 0, 0, b"damaged")
        assert (told.received, told.damaged) == (0, attempt)
    with pytest.raises(UpdateRefused):
        node.receiver.chunk(name, 0, 0, b"damaged")
    assert not list((node.folder / NAME).glob(".staging-*"))
    swap(node, node.receive(sent))


def test_g4_a_cut_line_and_a_restart_go_on_where_they_were(node: Node) -> None:
    sent = update(node)
    name, _ = node.receiver.begin(sent.offer)
    for index in (0, 3):
        node.receiver.chunk(name, index, *sent.encoded(index))
    node.receiver.cut(name)
    assert node.answers() == node.old.version
    _, told = node.receiver.begin(sent.offer)
    assert (told.received, told.missing) == (2, [(1, 2), (4, 2)])
    swap(node, node.receive(sent))


def test_g4_what_was_written_and_then_damaged_on_disk_is_sent_again(node: Node) -> None:
    sent = update(node)
    name, _ = node.receiver.begin(sent.offer)
    node.receiver.chunk(name, 0, *sent.encoded(0))
    node.receiver.cut(name)
    (staged,) = (node.folder / NAME).glob(".staging-*/model.safetensors")
    with staged.open("r+b") as file:
        file.seek(-len(sent.body) + 10, 2)
        file.write(b"\xff")
    _, told = node.receiver.begin(sent.offer)
    assert told.received == 0
    swap(node, node.receive(sent))


def test_g4_an_abort_leaves_nothing(node: Node) -> None:
    sent = update(node)
    name, _ = node.receiver.begin(sent.offer)
    node.receiver.chunk(name, 0, *sent.encoded(0))
    node.receiver.abort(name)
    assert not list((node.folder / NAME).glob(".staging-*"))
    with pytest.raises(UpdateRefused):
        node.receiver.chunk(name, 1, *sent.encoded(1))
    assert node.answers() == node.old.version


def test_g4_rolling_back_exchanges_two_references(node: Node) -> None:
    version = node.receive(update(node))
    swap(node, version)
    assert node.answers() == version
    assert node.publisher.rollback() == node.old.version
    assert node.answers() == node.old.version
    assert node.store.current(NAME) == Current(node.old.version, version)
    assert [event.step for event in node.events] == ["staged", "published", "rolled_back"]


def test_g4_with_nothing_to_go_back_to_a_rollback_is_refused(node: Node) -> None:
    with pytest.raises(UpdateRefused) as caught:
        node.publisher.rollback()
    assert caught.value.reason == "busy"
    assert node.answers() == node.old.version


def test_g4_a_publication_while_the_last_one_drains_is_refused_and_may_be_repeated(node: Node) -> None:
    first = node.receive(update(node))
    running = Reply()
    running.gate.clear()
    node.engine.submit(GenerateRequest([{"role": "user", "content": LONG}]), running.deliver)
    assert running.first.wait(20)
    swap(node, first)
    second = node.receive(update(node, noisy(node.old_body, 1e-4), delta=False))
    with pytest.raises(UpdateRefused) as caught:
        swap(node, second)
    assert caught.value.reason == "busy"
    assert node.publisher.staged == second
    running.gate.set()
    assert running.usage.version == node.old.version
    swap(node, second)
    assert node.answers() == second


def test_g4_a_version_on_disk_that_was_damaged_since_is_refused(node: Node) -> None:
    version = node.receive(update(node))
    node.publisher.drop()
    path = node.folder / NAME / version / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UpdateRefused) as caught:
        swap(node, version)
    assert caught.value.reason == "hash"
    assert node.answers() == node.old.version


def test_g6_every_answer_says_its_version_and_which_tokens_are_whose(node: Node) -> None:
    version = node.receive(update(node))
    running = [node.ask(LONG) for _ in range(4)]
    assert all(reply.first.wait(20) for reply in running)
    swap(node, version, "follow")
    for reply in running:
        usage = reply.usage
        if usage.spans:
            assert [span.version for span in usage.spans] == [node.old.version, version]
            assert usage.spans[0].start == 0
            assert usage.spans[0].end == usage.spans[1].start
            assert usage.spans[1].end == usage.completion_tokens
        assert usage.version in (node.old.version, version)


def test_g6_prefixes_that_one_version_read_are_not_reused_by_another(tmp_path: Path) -> None:
    node = Node(tmp_path / "models")
    node.close()
    with node.store.open(NAME, node.old.version) as stored:
        serving = embedded_versions.load(stored)
    node.engine = Engine(serving, slots=2, prefix_bytes_max=1 << 20)
    node.publisher = Publisher(node.engine, node.store, embedded_versions.load, serving, on_event=node.events.append)
    node.receiver._publishers = {NAME: node.publisher}
    node.engine.start()
    swapped = node.receive(update(node, noisy(node.old_body, 0.05), delta=False))
    for _ in range(2):
        node.ask(LONG).usage  # noqa: B018 - waits for the end
    hits = node.engine.load().prefix_hits_total
    swap(node, swapped)
    told = node.ask(LONG)
    assert told.usage.version == swapped
    assert node.engine.load().prefix_hits_total == hits
    with node.store.open(NAME, swapped) as stored:
        alone = answer(embedded_versions.load(stored), LONG, 256)[1]
    assert told.usage.completion_tokens - 1 == len(alone)
    node.close()


def test_g7_a_transfer_is_throttled(node: Node) -> None:
    sent = update(node)
    sender = Transmission(BodySource(sent.offer.plan, sent.body), TokenBucket(100_000.0, 65_536.0, 0.0))
    now_s, moved = 0.0, 0
    effects = [*sender.start(now_s)]
    name, told = node.receiver.begin(sent.offer)
    effects = sender.progress(told, now_s)
    while sender.state != "verifying":
        assert len(effects) <= told.window
        for effect in effects:
            assert isinstance(effect, SendChunk)
            moved += len(effect.payload)
            told = node.receiver.chunk(name, effect.index, effect.codec, effect.payload)
        assert moved <= 65_536 + 100_000 * now_s + 1
        effects = sender.progress(told, now_s) if effects else []
        if sender.state == "verifying":
            break
        due_s = sender.next_deadline()
        assert due_s is not None
        now_s = max(now_s, due_s)
        effects = effects or sender.handle_timeout(now_s)
    assert now_s >= (len(sent.body) - 65_536) / 100_000 - 0.01
    swap(node, node.receiver.stage(name))


def test_g7_what_a_swap_held_up_is_measured(node: Node) -> None:
    version = node.receive(update(node))
    running = node.ask(LONG)
    assert running.first.wait(20)
    swap(node, version)
    assert running.usage.completion_tokens
    figures = node.engine.swap_figures()
    assert figures.swaps_total == 1
    assert figures.pause_max_s >= figures.pause_p99_s >= 0.0


def test_a_node_that_starts_again_serves_what_it_served(node: Node) -> None:
    version = node.receive(update(node))
    swap(node, version)
    again = ModelStore(node.folder, key=KEY)
    current = again.current(NAME)
    assert current is not None
    with again.open(NAME, current.version) as stored:
        stored.verify()
        assert embedded_versions.load(stored).version == version


def test_random_bytes_are_no_offer_and_no_chunk(node: Node) -> None:
    chance = random.Random(1)
    sent = update(node)
    name, _ = node.receiver.begin(sent.offer)
    for _ in range(DAMAGED_MAX - 1):
        told = node.receiver.chunk(
            name, chance.randrange(-2, 9), chance.randrange(5), chance.randbytes(chance.randrange(300))
        )
        assert told == Progress(0, [(0, sent.offer.plan.count)], told.window, told.damaged)
    for manifest in ("", "{}", chance.randbytes(40).decode("latin-1")):
        with pytest.raises(UpdateRefused):
            node.receiver.begin(edited(sent, manifest=manifest).offer)
    assert manifests.read_manifest(sent.offer.manifest.encode(), KEY) == sent.manifest
