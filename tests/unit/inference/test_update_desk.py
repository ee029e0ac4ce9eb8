"""The desk: what a connection leaves behind when it goes, and how much it may keep waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.inference.worlds import NAME, Node, Update, update

from open_autoglm.inference.update_desk import STREAMS_MAX, UpdateDesk
from open_autoglm.inference.update_receiver import Result
from open_autoglm.protocol import opcodes
from open_autoglm.rollout.pieces import split
from open_autoglm.rollout.transmission import Progress


class Line:
    """A connection that keeps what the node says."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Progress | Result]] = []

    def send(self, opcode: int, stream: int, payload: bytes = b"") -> bool:
        kind: type[Progress] | type[Result] = Progress if opcode == opcodes.UPDATE_STATE else Result
        self.told.append((stream, msgspec.json.decode(payload, type=kind)))
        return True

    end = send

    def consume(self, stream: int, size: int) -> None:
        """Credit is not looked at here."""

    def refusals(self) -> list[tuple[int, str]]:
        return [(stream, told.reason) for stream, told in self.told if isinstance(told, Result)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "models")
    yield made
    made.close()


def begin(desk: UpdateDesk, line: Line, stream: int, sent: Update) -> None:
    desk.on_message(line, opcodes.UPDATE_BEGIN, 0, 0, stream, msgspec.json.encode(sent.offer))


def chunk(desk: UpdateDesk, line: Line, stream: int, sent: Update, index: int, *, whole: bool = True) -> None:
    codec, payload = sent.encoded(index)
    (piece,) = split(index, payload, 1 << 20)
    desk.on_message(line, opcodes.UPDATE_CHUNK, 0 if whole else opcodes.MORE, codec, stream, piece)


async def settled(desk: UpdateDesk) -> None:
    """Until the thread has done what was asked, and the loop has heard of it."""
    await desk.run(lambda: None)
    await asyncio.sleep(0)


def arriving(node: Node) -> list[str]:
    return [path.name for path in (node.folder / NAME).iterdir() if path.name.startswith(".staging-")]


async def test_an_offer_whose_line_is_cut_at_once_leaves_nothing_behind(node: Node) -> None:
    desk, line = UpdateDesk(node.receiver), Line()
    begin(desk, line, 1, update(node))
    desk.gone(line)
    await settled(desk)
    assert arriving(node) == []
    assert node.receiver.arriving == frozenset()
    await asyncio.to_thread(desk.close)


async def test_what_has_arrived_is_kept_when_the_line_is_cut(node: Node) -> None:
    desk, line, sent = UpdateDesk(node.receiver), Line(), update(node)
    begin(desk, line, 1, sent)
    chunk(desk, line, 1, sent, 0)
    await settled(desk)
    desk.gone(line)
    await settled(desk)
    assert arriving(node) == [f".staging-{sent.manifest.version}"]
    assert node.receiver.arriving == frozenset()
    assert node.receiver.begin(sent.offer)[1].received == 1
    await asyncio.to_thread(desk.close)


async def test_the_end_of_an_old_line_does_not_end_the_update_on_the_new_one(node: Node) -> None:
    desk, old, new, sent = UpdateDesk(node.receiver), Line(), Line(), update(node)
    begin(desk, old, 1, sent)
    begin(desk, new, 1, sent)
    await settled(desk)
    desk.gone(old)
    chunk(desk, new, 1, sent, 0)
    await settled(desk)
    assert new.refusals() == []
    assert new.told[-1][1] == node.receiver.progress(NAME)
    assert node.receiver.progress(NAME).received == 1
    await asyncio.to_thread(desk.close)


async def test_one_connection_brings_a_few_updates_at_once(node: Node) -> None:
    desk, line, sent = UpdateDesk(node.receiver), Line(), update(node)
    for stream in range(1, STREAMS_MAX + 2):
        begin(desk, line, stream, sent)
    assert line.refusals() == [(STREAMS_MAX + 1, "busy")]
    desk.gone(line, 1)
    begin(desk, line, STREAMS_MAX + 2, sent)
    assert len(line.refusals()) == 1
    await asyncio.to_thread(desk.close)


async def test_what_waits_of_chunks_is_bounded_over_all_connections(node: Node) -> None:
    sent = update(node)
    size = len(sent.encoded(0)[1]) + 4
    desk, line, other = UpdateDesk(node.receiver, held_bytes_max=2 * size - 1), Line(), Line()
    begin(desk, line, 1, sent)
    begin(desk, other, 1, sent)
    chunk(desk, line, 1, sent, 0, whole=False)
    chunk(desk, other, 1, sent, 0, whole=False)
    assert (line.refusals(), other.refusals()) == ([], [(1, "busy")])
    desk.gone(line)
    begin(desk, other, 3, sent)
    chunk(desk, other, 3, sent, 0)
    await settled(desk)
    chunk(desk, other, 3, sent, 1)
    await settled(desk)
    assert other.refusals() == [(1, "busy")]
    assert node.receiver.progress(NAME).received == 2
    await asyncio.to_thread(desk.close)
