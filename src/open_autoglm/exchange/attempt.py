"""One try at one endpoint while it runs: what an exchange knows of it, and how its end is told to its endpoint.

Invariant: an attempt that was begun is closed exactly once, by `succeed` or by `close`; after that it has no target,
holds no permit and counts in no budget.
"""

from __future__ import annotations

from typing import Final

from open_autoglm.exchange.attempt_record import AttemptRecord
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.exchange.plan import Leg
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.endpoint import Endpoint

_HELD_BYTES_MAX: Final = 256 * 1024
"""Of stream events without content (roles, comments) before the first one with content."""


class Attempt(AttemptRecord):
    """See the module.

    Attributes:
        target: the endpoint itself; None once the attempt is closed.
        leg: which leg it belongs to.
        permit: what the endpoint's gate gave.
        handle: whatever the sink keeps for it; None once the attempt is closed.
        limit_s: monotonic seconds by which it must have its first content.
        lent: the budget in which it counts as a retry in flight, if it does.
        held: bytes that came before its first content, kept from the client.
        stage: of its answer, as `dialects.relay` counts; it follows the pieces that the client got.
        resumes: it goes on with a stream that broke elsewhere.
    """

    __slots__ = ("handle", "held", "leg", "lent", "limit_s", "permit", "resumes", "stage", "target")

    def __init__(self, target: Endpoint, leg: Leg, permit: int, number: int, now_s: float) -> None:
        # The fields of the record are set here and not by its own constructor: this runs for every request.
        self.endpoint = target.name
        self.group = leg.group.name
        self.number = number
        self.reason = leg.reason
        self.started_s = now_s
        self.sent_s = self.head_s = self.first_s = self.ended_s = self.limit_s = 0.0
        self.status = self.stage = 0
        self.outcome = self.detail = ""
        self.reused = self.resumes = False
        self.target: Endpoint | None = target
        self.leg = leg
        self.permit = permit
        self.handle: object = None
        self.lent: RetryBudget | None = None
        self.held = b""

    def hold(self, payload: bytes) -> bool:
        """Keep what is no content yet from the client; False when that is more than a beginning can be."""
        self.held += payload
        return len(self.held) <= _HELD_BYTES_MAX

    def is_silent(self, now_s: float, stream: bool) -> bool:
        """Whether its endpoint has not said a word in the time after which another one is asked.

        A stream has its head soon. A unary answer's head comes with the answer, which may be long, so there it counts
        that nobody else has got an answer either since this one was asked for.
        """
        if self.head_s or self.target is None or now_s - self.started_s < self.leg.timeouts.first_token_hedge_s:
            return False
        return stream or self.target.latency_at_s < self.started_s

    def succeed(self, now_s: float, stream: bool, prompt_bytes: int) -> None:
        """Its answer is whole; `first_s` has been set."""
        target, leg = self.target, self.leg
        assert target is not None
        self.target = self.handle = None
        self.outcome = "ok"
        self.ended_s = now_s
        first_token_s = self.first_s - self.started_s
        target.succeed(self.permit, now_s, first_token_s, stream, prompt_bytes)
        leg.budget.success()
        if leg.hedging is not None:
            leg.hedging.observe(stream, first_token_s)
        if self.lent is not None:
            self._repay()
        if leg.queue.waiting:
            leg.line.wake()

    def close(self, outcome: str, detail: str, now_s: float, *, silent: bool = False) -> None:
        """It has ended in any other way.

        Args:
            outcome: a word of `outcomes`, never `ok`.
            detail: a few words for people, without secrets.
            now_s: monotonic seconds.
            silent: the endpoint had not said a word for so long that this speaks against it, whatever the outcome.
        """
        target, leg = self.target, self.leg
        assert target is not None
        self.target = self.handle = None
        self.held = b""
        self.outcome = outcome
        self.detail = detail
        self.ended_s = now_s
        judged = "slow" if silent else outcome
        rule = RULES[judged]
        if rule.verdict == "failure":
            target.fail(self.permit, now_s, judged == "slow", rule.overload)
        else:
            target.release(self.permit, now_s, rule.overload)
        if self.lent is not None:
            self._repay()
        if leg.queue.waiting:
            leg.line.wake()

    def _repay(self) -> None:
        assert self.lent is not None
        self.lent.end()
        self.lent = None
