"""Streams whose connections are broken anywhere: the text is whole, each piece once."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.integration.client.cutting_relay import CuttingRelay
from tests.integration.client.talking_node import KEY, TalkingNode

from open_autoglm.client import AsyncClient

CHUNKS = 300
TEXT = "".join(f"{number} " for number in range(CHUNKS))
PATIENCE_S = 60.0
HANDSHAKE_BYTES = 400
"""Who has never been let in is told so at once; only what was there before is waited for."""


async def read(cuts: list[int], word: str) -> tuple[str, str, int, int]:
    """Read a stream through such cuts; returns its pieces, its answer, and how many cuts and requests there were."""
    async with (
        asyncio.timeout(PATIENCE_S),
        TalkingNode() as node,
        CuttingRelay(node.port, [cut + HANDSHAKE_BYTES * (not at) for at, cut in enumerate(cuts)]) as relay,
        AsyncClient(relay.address, KEY, connect_timeout_s=PATIENCE_S) as client,
    ):
        await client.infer("m", "hello", resumable=True)
        stream = client.stream("m", f"{word} {CHUNKS}")
        pieces = [piece async for piece in stream]
        return "".join(pieces), stream.answer.text, relay.broken, len(node.requests)


@settings(max_examples=25, deadline=None)
@example(cuts=[700, 0, 700, 1, 700, 300], word="walk")
@example(cuts=[270 + at for at in range(12)], word="walk")
@example(cuts=[100, 240, 241, 260, 280, 300], word="count")
@given(cuts=st.lists(st.integers(0, 2500), max_size=6), word=st.sampled_from(["count", "walk"]))
def test_text_is_exact_wherever_the_connection_is_cut(cuts: list[int], word: str) -> None:
    text, answer, broken, requests = asyncio.run(read(cuts, word))
    assert text == answer == TEXT
    assert broken <= len(cuts)
    assert requests == 2


async def test_cuts_are_made() -> None:
    text, _, broken, _ = await read([50, 300, 10, 600], "walk")
    assert (text, broken) == (TEXT, 4)
