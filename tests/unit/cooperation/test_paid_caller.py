"""What a call out of a budget costs when it does not come to its end."""

from __future__ import annotations

from typing import Any

import pytest

from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.paid_caller import PaidCaller
from open_autoglm.cooperation.team_run import Rates, Terms
from open_autoglm.dialects.canonical import Message, TextPart, estimate_tokens
from open_autoglm.errors import UpstreamError
from open_autoglm.scheduling.budget import Ledger
from open_autoglm.testing.loop import START_S, VirtualLoop

PROMPT = "plan this"


class Breaks:
    """A model whose answer breaks off after some text."""

    def __init__(self, said: str) -> None:
        self.said = said

    async def ask(self, member: str, messages: list[Message], **_: Any) -> Reply:
        raise UpstreamError("upstream_error", "no")

    async def ask_streamed(self, member: str, messages: list[Message], hear: Any, **_: Any) -> Reply:
        if self.said:
            hear(self.said)
        raise UpstreamError("stream_interrupted", "it broke off")


@pytest.mark.parametrize("said", ["", "x" * 400])
def test_what_was_heard_of_an_answer_that_breaks_off_is_paid_for(said: str) -> None:
    ledger = Ledger(tokens=10_000, money=1.0)
    terms = Terms(START_S + 10.0, START_S + 10.0, rates={"m": Rates(1.0, 1000.0)})
    paid = PaidCaller(ledger, terms)
    heard: list[str] = []

    async def scene() -> None:
        with pytest.raises(UpstreamError, match="broke off"):
            await paid.ask(Breaks(said), "m", [Message("user", (TextPart(PROMPT),))], 900, hear=heard.append)

    VirtualLoop().run(scene())
    spent = ledger.snapshot()
    prompt, answer = (estimate_tokens(len(PROMPT)), estimate_tokens(len(said))) if said else (0, 0)
    assert "".join(heard) == said
    assert (spent.tokens, spent.tokens_reserved, spent.money_reserved) == (prompt + answer, 0, 0.0)
    assert spent.money == pytest.approx((prompt * 1.0 + answer * 1000.0) / 1e6)
