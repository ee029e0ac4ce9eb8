"""Two versions of one model on one node: who gets which, and how a share ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.inference.worlds import Node, update

from open_autoglm.rollout.refusal import UpdateRefused


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "models", slots=16)
    made.engine.start()
    yield made
    made.close()


def asked(node: Node, salts: list[str]) -> list[str]:
    replies = [node.ask("12 + 30", salt=salt) for salt in salts]
    return [reply.usage.version for reply in replies]


def test_a_fifth_of_the_keys_gets_the_new_version_and_keeps_it(node: Node) -> None:
    version = node.receive(update(node))
    node.publisher.publish(version, share=0.2)
    salts = [f"key-{number}" for number in range(200)]
    first = asked(node, salts)
    assert 20 < first.count(version) < 60
    assert set(first) == {version, node.old.version}
    assert asked(node, salts) == first
    assert [live.state for live in node.engine.versions()] == ["current", "sharing"]
    node.publisher.weigh(0.5)
    more = asked(node, salts)
    assert 75 < more.count(version) < 125
    assert all(after == version for before, after in zip(first, more, strict=True) if before == version)


def test_requests_without_a_key_are_shared_too(node: Node) -> None:
    version = node.receive(update(node))
    node.publisher.publish(version, share=0.5)
    assert 60 < asked(node, [""] * 200).count(version) < 140


def test_a_share_ends_by_promotion_or_by_going_back(node: Node) -> None:
    version = node.receive(update(node))
    node.publisher.publish(version, share=0.5)
    node.publisher.weigh(1.0)
    assert set(asked(node, [str(number) for number in range(30)])) == {version}
    node.publisher.weigh(0.0)
    assert set(asked(node, [str(number) for number in range(30)])) == {node.old.version}
    node.publisher.rollback()
    assert set(asked(node, [str(number) for number in range(30)])) == {node.old.version}
    assert node.engine.versions()[1].state == "kept"


def test_a_version_that_was_taken_back_begins_again_with_its_share(node: Node) -> None:
    version = node.receive(update(node))
    salts = [f"key-{number}" for number in range(200)]
    node.publisher.publish(version, share=0.2)
    first = asked(node, salts)
    node.publisher.rollback()
    node.publisher.publish(version, share=0.2)
    assert asked(node, salts) == first
    assert 20 < first.count(version) < 60


def test_publishing_what_is_current_gives_it_another_share(node: Node) -> None:
    version = node.receive(update(node))
    salts = [str(number) for number in range(100)]
    node.publisher.publish(version, share=0.2)
    node.publisher.publish(version, share=0.0)
    assert set(asked(node, salts)) == {node.old.version}
    node.publisher.publish(version)
    assert set(asked(node, salts)) == {version}
    assert node.engine.versions()[1].state == "kept"


def test_a_share_of_the_only_version_is_refused(node: Node) -> None:
    node.publisher.publish(node.old.version)
    with pytest.raises(UpdateRefused) as caught:
        node.publisher.publish(node.old.version, share=0.2)
    assert caught.value.reason == "busy"


def test_with_one_version_there_is_nothing_to_share(node: Node) -> None:
    with pytest.raises(UpdateRefused) as caught:
        node.publisher.weigh(0.5)
    assert caught.value.reason == "busy"
