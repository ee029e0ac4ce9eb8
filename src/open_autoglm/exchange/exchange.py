"""One client request from first byte to last, over as many attempts as it takes.

A pure machine: it is told what happens to its attempts and when time has passed, and it drives a `Sink`. It holds
the answer back until the first content of an attempt, so that everything before that can be repaired unseen.

| state | the client has | a failing attempt leads to |
|---|---|---|
| open | nothing | the next endpoint, the group again after backoff, the next leg, or an error |
| waiting | nothing | (no attempt runs; backoff) |
| committed | part of an answer | `sink.cut`: an in-band error, never a second voice |
| over | all it will get | nothing; late events are dropped |

Invariants: exactly one of `whole`, `end`, `fail`, `cut` reaches the sink, unless the client leaves first; every
opened attempt is closed exactly once, with one verdict to its endpoint's gate; at most
`sum(leg.max_retries + 1)` attempts are made, free repeats on stale connections apart.
"""

from __future__ import annotations

import random
from typing import Final, Literal, Protocol

from open_autoglm.errors import AutoGLMError, ServerError, UpstreamError
from open_autoglm.exchange.outcomes import RULES, Rule
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.exchange.record import AttemptRecord, RequestRecord
from open_autoglm.resilience.backoff import backoff_s
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.endpoint import Endpoint

_REMAINING_MIN_S: Final = 0.020
"""With less time than this left, no attempt can succeed."""
_REPLY_MARGIN_S: Final = 0.050
"""Kept back from an attempt, to tell the client in time."""
_ALTERNATIVE_SHARE: Final = 0.6
"""Of the remaining time, for an attempt that has an alternative."""
_RETRY_AFTER_MAX_S: Final = 5.0
_RETRY_AFTER_TOLD_MAX_S: Final = 60.0
"""Told to clients, even when only an operator can bring an endpoint back."""
_MISCONFIGURED_S: Final = 30.0
_THROTTLED_S: Final = 1.0
"""How long an endpoint that said 429 without a time is left alone."""
_HELD_BYTES_MAX: Final = 256 * 1024
"""Of stream events without content (roles, comments) before the first one with content."""


class Attempt(AttemptRecord):
    """A running try.

    Attributes:
        target: the endpoint itself; None once the attempt is closed.
        leg: which leg it belongs to.
        permit: what the endpoint's gate gave.
        handle: whatever the sink keeps for it.
    """

    __slots__ = ("handle", "leg", "permit", "target")

    def __init__(self, target: Endpoint, leg: Leg, permit: int, number: int, now_s: float) -> None:
        # The fields of the record are set here and not by its own constructor: this runs for every request.
        self.endpoint = target.name
        self.group = leg.group.name
        self.number = number
        self.reason = leg.reason
        self.started_s = now_s
        self.sent_s = self.head_s = self.first_s = self.ended_s = 0.0
        self.status = 0
        self.outcome = self.detail = ""
        self.reused = False
        self.target: Endpoint | None = target
        self.leg = leg
        self.permit = permit
        self.handle: object = None


class Sink(Protocol):
    """What an exchange drives."""

    def open(self, attempt: Attempt) -> None:
        """Send the request to `attempt.target`. Its events may come before this returns."""

    def cancel(self, attempt: Attempt) -> None:
        """Stop the attempt's work at once; nothing more may be told of it."""

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        """Start the streamed answer with its first piece."""

    def write(self, payload: bytes) -> None:
        """Go on with the streamed answer."""

    def end(self, attempt: Attempt, payload: bytes) -> None:
        """End the streamed answer; it is whole. `begin` has been called."""

    def whole(self, attempt: Attempt, body: bytes) -> None:
        """Send the unary answer."""

    def fail(self, error: AutoGLMError) -> None:
        """Nothing was sent, and nothing will be but this error."""

    def cut(self, error: AutoGLMError) -> None:
        """Part of an answer was sent, and this error ends it."""


class Exchange:
    """See the module.

    Args:
        plan: where the request may go.
        sink: who is driven.
        record: attempts are noted there.
        deadline_s: monotonic seconds by which everything must be over.
        stream: whether the answer comes in pieces.
        affinity: 64-bit hash that keeps related requests on one endpoint; 0 for none.
        may_retry: False when the client forbids repeats.
        rng: for backoff.
    """

    __slots__ = (
        "_affinity",
        "_attempt",
        "_attempts_in_leg",
        "_barred",
        "_borrowed",
        "_deadline_s",
        "_error",
        "_held",
        "_leg_index",
        "_may_retry",
        "_once_spent",
        "_passes",
        "_plan",
        "_record",
        "_rng",
        "_sink",
        "_stale_spent",
        "_stream",
        "_tried",
        "_window_min",
        "due_s",
        "state",
    )

    def __init__(
        self,
        plan: Plan,
        sink: Sink,
        record: RequestRecord,
        deadline_s: float,
        *,
        stream: bool,
        affinity: int,
        may_retry: bool,
        rng: random.Random,
    ) -> None:
        self._plan = plan
        self._sink = sink
        self._record = record
        self._deadline_s = deadline_s
        self._stream = stream
        self._affinity = affinity
        self._may_retry = may_retry
        self._rng = rng
        self._attempt: Attempt | None = None
        self._attempts_in_leg = 0
        self._leg_index = 0
        self._tried: tuple[Endpoint, ...] = ()
        self._barred: tuple[Endpoint, ...] = ()
        self._borrowed: RetryBudget | None = None
        self._passes = 0
        self._once_spent = False
        self._stale_spent = False
        self._window_min = 0
        self._held = b""
        self._error: AutoGLMError | None = None
        self.due_s = deadline_s
        self.state: Literal["open", "waiting", "committed", "over"] = "open"

    # Events.

    def start(self, now_s: float) -> None:
        """Begin the first attempt."""
        leg = self._plan.legs[0]
        if self._deadline_s - now_s >= _REMAINING_MIN_S:
            group = leg.group
            target = group.acquire(now_s, self._affinity)
            if target is not None:
                self._open(target, leg, now_s, group.permit)
                return
        self._next(now_s)

    def content(self, attempt: Attempt, payload: bytes, stage: int, now_s: float) -> None:
        """A piece of a streamed answer, as the client is to see it.

        Args:
            attempt: whose.
            payload: may be empty.
            stage: of the answer: below 2 there was no content yet.
            now_s: monotonic seconds.
        """
        if attempt is not self._attempt:
            return
        if stage < 2 and self.state != "committed":
            # What is no content does not prolong the wait for the first content.
            self._held += payload
            if len(self._held) > _HELD_BYTES_MAX:
                self.failed(attempt, "malformed", "too much before the first content", now_s)
            return
        self.due_s = min(now_s + attempt.leg.timeouts.gap_s, self._deadline_s)
        if self.state == "committed":
            if payload:
                self._sink.write(payload)
            return
        self._commit(attempt, payload, now_s)

    def ended(self, attempt: Attempt, payload: bytes, now_s: float) -> None:
        """The streamed answer is whole; `payload` is its last piece."""
        if attempt is not self._attempt:
            return
        if self.state != "committed":
            self._commit(attempt, b"", now_s)
        self._close(attempt, "ok", "", now_s)
        self.state = "over"
        self._sink.end(attempt, payload)

    def whole(self, attempt: Attempt, body: bytes, now_s: float) -> None:
        """The unary answer is whole."""
        if attempt is not self._attempt:
            return
        attempt.first_s = now_s
        self._close(attempt, "ok", "", now_s)
        self.state = "over"
        self._sink.whole(attempt, body)

    def failed(
        self,
        attempt: Attempt,
        outcome: str,
        detail: str,
        now_s: float,
        error: AutoGLMError | None = None,
    ) -> None:
        """An attempt has ended badly.

        Args:
            attempt: which.
            outcome: a word of `outcomes`.
            detail: a few words for people, without secrets.
            now_s: monotonic seconds.
            error: what the upstream said, where the client should hear it; its `retry_after_s` is obeyed.
        """
        if attempt is not self._attempt:
            return
        if self.state == "committed":
            self._close(attempt, "interrupted", detail, now_s)
            self.state = "over"
            self._sink.cut(UpstreamError("stream_interrupted", f"the stream from the model broke: {detail}"))
            return
        target, leg = attempt.target, attempt.leg
        assert target is not None
        self._close(attempt, outcome, detail, now_s)
        self._held = b""
        rule = RULES[outcome]
        if outcome == "stale" and not self._stale_spent:
            # Nothing was processed there: repeat at once, free, on a fresh connection.
            self._stale_spent = True
            permit = target.gate.acquire(now_s)
            if permit:
                self._attempts_in_leg -= 1
                self._open(target, leg, now_s, permit)
                return
        self._note(outcome, rule, detail, error)
        self._mark(target, outcome, error, now_s)
        if not self._may_go_on(rule, leg):
            self._fail(now_s)
            return
        self._tried = (*self._tried, target)
        if not rule.same:
            self._barred = (*self._barred, target)
        self._next(now_s)

    def handle_timeout(self, now_s: float) -> None:
        """Time has passed `due_s`."""
        attempt = self._attempt
        if self.state == "over":
            return
        if now_s >= self._deadline_s:
            self._expire(attempt, now_s)
        elif self.state == "waiting":
            self.state = "open"
            self._next(now_s)
        elif attempt is not None and now_s >= self.due_s:
            self._sink.cancel(attempt)
            if self.state == "committed":
                self.failed(attempt, "slow", f"nothing came for {attempt.leg.timeouts.gap_s:g} s", now_s)
            else:
                self.failed(attempt, "slow", f"no first token within {now_s - attempt.started_s:.1f} s", now_s)

    def client_gone(self, now_s: float) -> None:
        """The client has left: stop the work for it."""
        attempt = self._attempt
        if self.state == "over":
            return
        self.state = "over"
        self._repay()
        if attempt is not None:
            self._sink.cancel(attempt)
            self._close(attempt, "cancelled", "the client left", now_s)

    def release(self) -> None:
        """Let go of the sink, once it has heard the end, so that the two do not keep each other alive."""
        assert self.state == "over", f"an exchange that is {self.state} still needs its sink"
        del self._sink

    # Decisions.

    def _next(self, now_s: float) -> None:
        """Open the next attempt, or wait for it, or give up."""
        legs = self._plan.legs
        while self._leg_index < len(legs):
            leg = legs[self._leg_index]
            if self._attempts_in_leg <= leg.max_retries:
                if self._deadline_s - now_s < _REMAINING_MIN_S:
                    self._error = ServerError(
                        "deadline_exceeded", "the request's time ran out before an endpoint answered"
                    )
                    break
                if self._try_leg(leg, now_s):
                    return
            self._leg_index += 1
            self._attempts_in_leg = 0
            self._passes = 0
            self._tried = self._barred
        self._fail(now_s)

    def _try_leg(self, leg: Leg, now_s: float) -> bool:
        """Open an attempt in this leg or wait for one; False when the leg has nothing to offer."""
        group = leg.group
        for _ in group.endpoints:
            target = group.acquire(now_s, self._affinity, self._tried)
            if target is None:
                break
            if not self._window_min or target.context_window == 0 or target.context_window > self._window_min:
                self._open(target, leg, now_s, group.permit)
                return True
            target.gate.release(group.permit, now_s)
            self._tried = (*self._tried, target)
        return self._attempts_in_leg > 0 and self._wait(leg, now_s)

    def _wait(self, leg: Leg, now_s: float) -> bool:
        """Plan another pass over the group after backoff; False when that cannot help."""
        if self._passes > leg.max_retries or self._window_min or all(e in self._barred for e in leg.group.endpoints):
            return False
        pause_s = backoff_s(self._rng, self._passes)
        asked_s = self._error.retry_after_s if self._error is not None else None
        if asked_s is not None:
            has_next_leg = self._leg_index + 1 < len(self._plan.legs)
            if has_next_leg or asked_s > min(_RETRY_AFTER_MAX_S, (self._deadline_s - now_s) / 2):
                return False
            pause_s = max(pause_s, asked_s)
        ready_s = leg.group.retry_at_s(now_s)
        if ready_s > now_s + pause_s:
            if ready_s - now_s > min(_RETRY_AFTER_MAX_S, (self._deadline_s - now_s) / 2):
                return False
            pause_s = ready_s - now_s
        self._passes += 1
        self._tried = self._barred
        self.state = "waiting"
        self.due_s = min(now_s + pause_s, self._deadline_s)
        return True

    def _open(self, target: Endpoint, leg: Leg, now_s: float, permit: int) -> None:
        attempts = self._record.attempts
        number = len(attempts)
        attempt = Attempt(target, leg, permit, number, now_s)
        if number:
            attempt.reason = f"{leg.reason}, after {attempts[-1].outcome}"
        attempts.append(attempt)
        self._attempts_in_leg += 1
        self._attempt = attempt
        target.begin()
        remaining_s = self._deadline_s - now_s
        most_s = remaining_s - _REPLY_MARGIN_S
        if leg.has_alternative and most_s > remaining_s * _ALTERNATIVE_SHARE:
            most_s = remaining_s * _ALTERNATIVE_SHARE
        if self._stream and most_s > leg.timeouts.first_token_s:
            most_s = leg.timeouts.first_token_s
        self.due_s = now_s + most_s
        self._sink.open(attempt)

    def _commit(self, attempt: Attempt, payload: bytes, now_s: float) -> None:
        attempt.first_s = now_s
        self._record.first_s = now_s
        self.state = "committed"
        target = attempt.target
        if target is not None:
            first_token_s = now_s - attempt.started_s
            attempt.permit = target.first_token(attempt.permit, now_s, first_token_s, self._record.bytes_in)
        held = self._held
        self._held = b""
        self._sink.begin(attempt, held + payload if held else payload)

    def _close(self, attempt: Attempt, outcome: str, detail: str, now_s: float) -> None:
        """Settle an attempt with its endpoint."""
        target = attempt.target
        assert target is not None
        attempt.outcome = outcome
        attempt.detail = detail
        attempt.ended_s = now_s
        attempt.target = None
        self._attempt = None
        if self._borrowed is not None:
            self._repay()
        if outcome == "ok":
            first_token_s = attempt.first_s - attempt.started_s
            target.succeed(attempt.permit, now_s, first_token_s, self._stream, self._record.bytes_in)
            attempt.leg.budget.success()
            return
        rule = RULES[outcome]
        if rule.verdict == "failure":
            target.fail(attempt.permit, now_s, outcome == "slow", rule.overload)
        else:
            target.release(attempt.permit, now_s, rule.overload)

    def _may_go_on(self, rule: Rule, leg: Leg) -> bool:
        if rule.other == "no" or not self._may_retry:
            return False
        if rule.other == "once":
            if self._once_spent:
                return False
            self._once_spent = True
        if rule.verdict == "failure":
            leg.budget.failure()
            # A begun retry counts as in flight until its attempt is closed.
            if leg.budget.begin(leg.in_flight() + 1):
                self._borrowed = leg.budget
            elif self._leg_index + 1 < len(self._plan.legs):
                # The group's retries are spent, so this leg is; what the next one can do costs this group nothing.
                self._attempts_in_leg = leg.max_retries + 1
            else:
                return False
        return True

    def _note(self, outcome: str, rule: Rule, detail: str, error: AutoGLMError | None) -> None:
        """Remember what to tell the client if nothing else helps."""
        if self._window_min:
            return
        if error is None:
            model = self._plan.model
            error = UpstreamError(rule.code, f"the model {model!r} could not answer: {detail or outcome}")
        self._error = error

    def _mark(self, target: Endpoint, outcome: str, error: AutoGLMError | None, now_s: float) -> None:
        """Let the endpoint's state show what this outcome says about it beyond the breaker."""
        if outcome == "throttled":
            asked_s = error.retry_after_s if error is not None else None
            target.throttle(now_s + (asked_s if asked_s is not None else _THROTTLED_S))
        elif outcome == "misconfigured":
            target.misconfigure(now_s + _MISCONFIGURED_S)
        elif outcome == "too_long":
            self._window_min = target.context_window or 1

    def _expire(self, attempt: Attempt | None, now_s: float) -> None:
        if attempt is not None:
            self._sink.cancel(attempt)
            self._close(attempt, "deadline", "the request's time ran out", now_s)
        self._repay()
        committed = self.state == "committed"
        self.state = "over"
        error = ServerError("deadline_exceeded", "the request's time ran out")
        if committed:
            self._sink.cut(error)
        else:
            self._sink.fail(error)

    def _repay(self) -> None:
        if self._borrowed is not None:
            self._borrowed.end()
            self._borrowed = None

    def _fail(self, now_s: float) -> None:
        self.state = "over"
        self._repay()
        error = self._error
        if error is None:
            wait_s = max(0.0, self._plan.legs[0].group.retry_at_s(now_s) - now_s)
            error = ServerError(
                "no_healthy_endpoint",
                f"no endpoint of {self._plan.model!r} can take a request now; try again later",
                retry_after_s=min(max(1.0, wait_s), _RETRY_AFTER_TOLD_MAX_S),
            )
        self._sink.fail(error)
