"""Updates over real sockets: staged, committed, cut and gone on with, refused."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.integration.inference.update_node import listening, to
from tests.unit.cli.terminals import piped
from tests.unit.inference.worlds import NAME, Node, Update, noisy, update

from open_autoglm.cli.main import run
from open_autoglm.engines.embedded.catalog import MODELS_DIR
from open_autoglm.errors import RequestError
from open_autoglm.inference.update_receiver import Abort, Commit, Result
from open_autoglm.inference.update_sender import UpdateLost, command, send_update
from open_autoglm.protocol import opcodes
from open_autoglm.resilience.token_bucket import TokenBucket
from open_autoglm.rollout.chunks import cut
from open_autoglm.rollout.delta import BodySource
from open_autoglm.rollout.reception import Offer
from open_autoglm.rollout.transmission import Progress


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "models")
    made.engine.start()
    yield made
    made.close()


async def send(update: Update, port: int, cuts: list[int] | None = None) -> Result:
    source = BodySource(update.offer.plan, update.body, update.parent)
    throttle = TokenBucket(1e9, 1e9, 0.0)
    return await send_update(to(port, cuts), update.offer, source, throttle, reconnect_s=0.01)


async def test_a_version_is_staged_and_committed(node: Node) -> None:
    async with listening(node.receiver) as (port, _):
        sent = update(node)
        assert await send(sent, port) == Result(NAME, sent.manifest.version, "staged")
        assert node.engine.version == node.old.version
        told = await command(to(port), Commit(NAME, sent.manifest.version))
        assert told.outcome == "published"
    assert node.engine.version == sent.manifest.version


async def test_chunks_larger_than_the_credit_arrive(node: Node) -> None:
    body = noisy(node.old_body, 1e-4)
    sent = update(node, body, delta=False)
    whole = cut(body, 512 << 10)
    sent.offer = Offer(sent.offer.manifest, sent.offer.config, whole, None)
    assert whole.count == 1
    async with listening(node.receiver) as (port, _):
        assert (await send(sent, port)).outcome == "staged"


async def test_a_line_that_is_cut_is_opened_again_and_goes_on(node: Node) -> None:
    async with listening(node.receiver) as (port, made):
        sent = update(node, delta=False)
        assert (await send(sent, port, cuts=[2, 1])).outcome == "staged"
        assert len(made) == 3
    assert node.publisher.staged == sent.manifest.version


async def test_a_refusal_comes_back_with_its_reason(node: Node) -> None:
    async with listening(node.receiver) as (port, _):
        told = await send(update(node, noisy(node.old_body, 0.2), key=b"another"), port)
        assert (told.outcome, told.reason) == ("refused", "signature")
        told = await command(to(port), Commit(NAME, "0" * 64))
        assert (told.outcome, told.reason) == ("refused", "unknown")
        assert (await command(to(port), Abort(NAME, "test"))).outcome == "aborted"
    assert node.engine.version == node.old.version


async def test_a_node_that_is_not_there_is_lost(node: Node) -> None:
    sent = update(node)
    source = BodySource(sent.offer.plan, sent.body, sent.parent)
    with pytest.raises(UpdateLost):
        await send_update(to(1), sent.offer, source, TokenBucket(1e9, 1e9, 0.0), attempts=2, reconnect_s=0.01)
    with pytest.raises(UpdateLost):
        await command(to(1), Abort(NAME))


async def test_who_is_turned_away_hears_why_and_does_not_ask_again(node: Node) -> None:
    refusal = RequestError("invalid_api_key", "this is not the cluster's key")
    async with listening(node.receiver, refusal) as (port, made):
        with pytest.raises(UpdateLost, match=r"invalid_api_key.*this is not the cluster's key"):
            await send(update(node), port)
        assert len(made) == 1
        with pytest.raises(UpdateLost, match=r"could not be asked.*this is not the cluster's key"):
            await command(to(port), Commit(NAME, "0" * 64))


async def test_what_is_no_node_says_so(node: Node) -> None:
    async with listening(node.receiver) as (port, made), to(port)() as line:
        made[0].answers = RequestError("forbidden", "UPDATE_COMMIT is between servers and nodes")
        line.ask(opcodes.UPDATE_COMMIT, b"{}")
        told = await line.told(10.0)
    assert told == Result("", "", "refused", "forbidden", "UPDATE_COMMIT is between servers and nodes")


async def test_every_node_is_asked_and_each_refusal_is_told(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    shutil.copytree(MODELS_DIR / NAME / "versions" / "1", folder)
    assert run(["rollout", "pack", str(folder), "--tasks", "arithmetic"], piped()) == 0
    refusal = RequestError("invalid_api_key", "this is not the cluster's key")
    async with listening(node.receiver, refusal) as (first, made), listening(node.receiver) as (second, _):
        terminal = piped()
        words = ["rollout", "push", str(folder), "--node", f"127.0.0.1:{first}", "--node", f"127.0.0.1:{second}"]
        assert await asyncio.to_thread(run, words, terminal) == 1
        assert len(made) == 1
    said = terminal.err.getvalue()  # type: ignore[attr-defined]
    assert f"127.0.0.1:{first}: " in said
    assert "this is not the cluster's key" in said
    assert f"127.0.0.1:{second} refused (signature): " in said


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 40, b'{"manifest":1}'])
async def test_what_cannot_be_read_is_refused_and_the_line_lives_on(node: Node, payload: bytes) -> None:
    async with listening(node.receiver) as (port, _), to(port)() as line:
        line.ask(opcodes.UPDATE_BEGIN, payload)
        told = await line.told(10.0)
        assert isinstance(told, Result)
        assert told.outcome == "refused"
        line.ask(opcodes.UPDATE_BEGIN, msgspec.json.encode(update(node).offer))
        assert isinstance(await line.told(10.0), Progress)
        line.ask(opcodes.UPDATE_COMMIT, payload)
        told = await line.told(10.0)
        assert isinstance(told, Result)
        assert told.outcome == "refused"


async def test_answers_flow_while_a_version_arrives(node: Node) -> None:
    async with listening(node.receiver) as (port, _):
        arriving = asyncio.create_task(send(update(node), port))
        answers = 0
        while not arriving.done():
            await asyncio.to_thread(node.answers)
            answers += 1
        assert (await arriving).outcome == "staged"
        assert answers
