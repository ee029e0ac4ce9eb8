"""Asks models out of one budget: reserves before each call, settles after it, and counts what was used.

Invariant: a call that does not fit is not made; one that was cancelled, or broke off after something of it was heard,
is taken to have cost its prompt and what was heard of its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from open_autoglm.cooperation.caller import ModelCaller, Reply
from open_autoglm.cooperation.team_run import Rates, Terms, billed
from open_autoglm.dialects.canonical import Message, estimate_tokens
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.scheduling.budget import Ledger, Reservation, estimate

_log = logging.getLogger(__name__)

TOKENS_MIN: Final = 16
"""An answer that may have fewer is not asked for."""

Hear = Callable[[str], None]


@runtime_checkable
class StreamedCaller(Protocol):
    """A `ModelCaller` whose answers can be heard while they are written."""

    async def ask_streamed(
        self,
        member: str,
        messages: list[Message],
        hear: Hear,
        *,
        deadline_s: float,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        tenant: str = "",
        priority: int = 2,
    ) -> Reply:
        """As `ModelCaller.ask`; `hear` is given each piece of the text at once, and all pieces are the reply's text."""


class PaidCaller:
    """See the module.

    Args:
        ledger: pays.
        terms: of the run.

    Attributes:
        prompt_tokens, completion_tokens: of all replies so far.
    """

    def __init__(self, ledger: Ledger, terms: Terms) -> None:
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._ledger = ledger
        self._terms = terms

    def estimate(self, member: str, text_bytes: int, max_tokens: int) -> tuple[int, float]:
        """Tokens and money that a call takes at most, by what its prompt is taken to have."""
        rates = self._terms.rates.get(member, Rates())
        if not rates.answers:
            return 0, 0.0  # a team, whose own asks are reserved one by one
        return estimate(estimate_tokens(text_bytes), max_tokens, rates.input_per_million, rates.output_per_million)

    async def ask(
        self,
        caller: ModelCaller,
        member: str,
        messages: list[Message],
        max_tokens: int,
        *,
        hear: Hear | None = None,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Ask one model; who has less time cancels.

        Args:
            caller: asks.
            member: whom.
            messages: the conversation.
            max_tokens: that the answer may have; fewer where the budget has no more.
            hear: told the text: while it is written where the caller can do that, else at once.
            temperature, seed: the model's own defaults where they are left out.

        Raises:
            BudgetExhausted: it does not fit.
            AutoGLMError: there is no answer.
        """
        size = sum(len(message.text().encode("utf-8", "replace")) for message in messages)
        left = self._ledger.left_tokens() - estimate_tokens(size)
        most = int(max(TOKENS_MIN, min(max_tokens, left)))
        reservation = self._ledger.reserve(*self.estimate(member, size, most))
        manner: dict[str, Any] = {
            "temperature": temperature,
            "seed": seed,
            "tenant": self._terms.tenant,
            "priority": self._terms.priority,
        }
        heard_bytes = 0

        def listen(piece: str) -> None:
            nonlocal heard_bytes
            heard_bytes += len(piece.encode("utf-8", "replace"))
            if hear is not None:
                hear(piece)

        try:
            limit_s = self._terms.asks_deadline_s
            if hear is not None and isinstance(caller, StreamedCaller):
                reply = await caller.ask_streamed(
                    member, messages, listen, deadline_s=limit_s, max_tokens=most, **manner
                )
            else:
                reply = await caller.ask(member, messages, deadline_s=limit_s, max_tokens=most, **manner)
                listen(reply.text)
        except AutoGLMError:
            if heard_bytes:
                self._settle_cut(reservation, member, size, heard_bytes)
            else:
                self._ledger.settle(reservation, 0, 0.0)
            raise
        except asyncio.CancelledError:
            self._settle_cut(reservation, member, size, heard_bytes)
            raise
        except Exception as error:  # a defect in asking one model must not end the run
            _log.exception("asking %s failed", member)
            self._settle_cut(reservation, member, size, heard_bytes)
            raise ServerError("internal_error", f"asking failed: {type(error).__name__}") from error
        self._ledger.settle(reservation, *billed(reply))
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        return reply

    def _settle_cut(self, reservation: Reservation, member: str, prompt_bytes: int, heard_bytes: int) -> None:
        tokens, money = self.estimate(member, prompt_bytes, estimate_tokens(heard_bytes) if heard_bytes else 0)
        self._ledger.settle(reservation, min(tokens, reservation.tokens), min(money, reservation.money))
