"""Where the next attempt of a request may go, and whether there may be one at all. Made once the first choice failed.

Attempts go to the other endpoints of a leg, to the leg again after backoff until its retries are spent, and on to
the next leg. Invariants: at most `max_retries + 1` endpoints are handed out in each leg, whatever they are for; each
comes with a permit of its gate; no endpoint is asked again before it wants to be.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf
from typing import Final

from open_autoglm.admission.classes import CRITICAL_PLUS
from open_autoglm.errors import AutoGLMError, ServerError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.resilience.backoff import backoff_s
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.endpoint import Endpoint

REMAINING_MIN_S: Final = 0.020
"""With less time than this left, no attempt can succeed."""
REPLY_MARGIN_S: Final = 0.050
"""Kept back from attempts, to tell the client in time."""
_WAIT_MAX_S: Final = 5.0
"""For an endpoint to become usable again, and at most half of what remains."""
_RETRY_AFTER_TOLD_MAX_S: Final = 60.0
"""Told to clients, even when only an operator can bring an endpoint back."""
_RETRY_AFTER_OBEYED_MAX_S: Final = 86_400.0
"""An upstream's slip must not take an endpoint away for ever."""
_HEARSAY_S: Final = 60.0
"""What an endpoint's first tokens mostly took so long ago turns nobody away: it may be another endpoint by now."""
_OVERLOADED_S: Final = 1.0
"""What clients are told when there is no room."""
_MISCONFIGURED_S: Final = 30.0
_THROTTLED_S: Final = 1.0
"""How long an endpoint that said 429 without a time is left alone."""


class Search:
    """See the module.

    Attributes:
        leg, permit: of the endpoint that was handed out last.
        again_s: when to look again after `find` found nothing; 0.0 when that would not help.
        crowded: after `enter` or `find` found nothing: an endpoint would do, had it room.
        error: what the client is told if nothing helps; None while no attempt has failed.
        lent: the budget in which a retry has begun that no attempt carries yet.
        hedged: a second attempt has been started beside a slow first one.
        interruption: why the stream broke that is to be gone on with.
        since_s: monotonic seconds since when the request has stood in a line.

    Args:
        plan: of the request.
        rng, deadline_s, affinity, priority, may_retry: see `Exchange`.
        made: attempts in the first leg so far.
    """

    __slots__ = (
        "_affinity",
        "_barred",
        "_deadline_s",
        "_final",
        "_former",
        "_index",
        "_legs",
        "_made",
        "_may_retry",
        "_model",
        "_once_spent",
        "_passes",
        "_priority",
        "_rng",
        "_stale_spent",
        "_tried",
        "_window_min",
        "again_s",
        "crowded",
        "error",
        "hedged",
        "interruption",
        "leg",
        "lent",
        "permit",
        "since_s",
    )

    def __init__(
        self,
        plan: Plan,
        rng: random.Random,
        deadline_s: float,
        affinity: int,
        priority: int,
        may_retry: bool,
        *,
        made: int,
    ) -> None:
        self._model = plan.model
        self._legs = plan.legs
        self._affinity = affinity
        self._priority = priority
        self._deadline_s = deadline_s
        self._may_retry = may_retry
        self._rng = rng
        self._index = 0
        self._made = [made] + [0] * (len(plan.legs) - 1)
        self._tried: tuple[Endpoint, ...] = ()
        self._barred: tuple[Endpoint, ...] = ()
        self._passes = 0
        self._once_spent: tuple[str, ...] = ()
        self._stale_spent = False
        self._final = False
        self._former: Endpoint | None = None
        self._window_min = 0
        self.leg = plan.legs[0]
        self.permit = 0
        self.again_s = 0.0
        self.crowded = False
        self.error: AutoGLMError | None = None
        self.lent: RetryBudget | None = None
        self.hedged = not may_retry
        self.interruption: AutoGLMError | None = None
        self.since_s = 0.0

    # Endpoints.

    def enter(self, now_s: float, *, in_turn: bool) -> Endpoint | None:
        """Find an endpoint in the first leg that has room; whoever waits in a line comes before us.

        Args:
            now_s: monotonic seconds.
            in_turn: this request is the next of the first leg's line.
        """
        self.crowded = False
        if self._is_late(now_s):
            return None
        for index, leg in enumerate(self._legs):
            if self._made[index] > leg.max_retries:
                continue
            if leg.queue.waiting and not (in_turn and index == 0):
                self.crowded = True
                continue
            target = self._acquire(leg, now_s, self._tried)
            if target is not None:
                self._index = index
                return self._hand_out_in_time(target, now_s)
            self.crowded = self.crowded or leg.group.full
        return None

    def find(self, now_s: float) -> Endpoint | None:
        """Find the next endpoint after a failure; see `again_s` and `crowded`."""
        self.again_s = 0.0
        self.crowded = False
        tried = self._tried
        while self._index < len(self._legs):
            leg = self._legs[self._index]
            if self._made[self._index] <= leg.max_retries:
                if self._is_late(now_s):
                    return None
                target = self._acquire(leg, now_s, self._tried)
                if target is not None:
                    return self._hand_out_in_time(target, now_s)
                if leg.group.full:
                    self.crowded = True
                elif self._made[self._index] and self._plan_pass(leg, now_s):
                    return None
            self._index += 1
            self._passes = 0
            self._tried = self._barred
        # Those that failed have room, which is no reason to ask them again at once.
        self._tried = tried
        return None

    def find_beside(self, now_s: float, running: Attempt, estimate: Callable[[], tuple[int, int]]) -> Endpoint | None:
        """Find an endpoint that was not tried, for a second attempt beside a slow one; nobody waits for it.

        Args:
            now_s: monotonic seconds.
            running: the slow one.
            estimate: see `Sink.estimate`.
        """
        assert running.target is not None
        tried = (*self._tried, running.target)
        for index in range(self._index, len(self._legs)):
            leg = self._legs[index]
            if self._made[index] > leg.max_retries or leg.queue.waiting:
                continue
            target = self._acquire(leg, now_s, tried)
            if target is not None and self._in_time(target, now_s):
                if self._pay_hedge(target, leg, running, estimate, now_s):
                    self.hedged = True
                    return self._hand_out(target, index)
                self._give_back(target, now_s)
        return None

    def find_heir(self, now_s: float) -> Endpoint | None:
        """Find an endpoint that goes on with the stream that broke: the same model there, and it knows how."""
        former, leg = self._former, self.leg
        assert former is not None, "find an heir without a break"
        index = self._legs.index(leg)
        if self._made[index] > leg.max_retries or self._deadline_s - now_s < REMAINING_MIN_S or not self._borrow(leg):
            return None
        # The client has half of an answer: its rest comes before new work.
        self._priority = CRITICAL_PLUS
        unfit = tuple(
            endpoint
            for endpoint in leg.group.endpoints
            if endpoint.continuation == "none" or endpoint.upstream_model != former.upstream_model
        )
        target = self._acquire(leg, now_s, (*unfit, *self._tried, former))
        if target is None:
            # Behind one address there may be many servers.
            target = self._acquire(leg, now_s, (*unfit, *self._tried))
        if target is not None and self._in_time(target, now_s):
            return self._hand_out(target, index)
        self.repay()
        return None

    def repeat(self, target: Endpoint, now_s: float) -> bool:
        """Whether the attempt may be repeated at once and free, since its connection was stale. Once a request."""
        if self._stale_spent:
            return False
        self._stale_spent = True
        self.permit = target.gate.acquire(now_s)
        return self.permit > 0

    # Failures.

    def note(
        self, attempt: Attempt, target: Endpoint, now_s: float, error: AutoGLMError | None, retry_after_s: float | None
    ) -> None:
        """Take a closed attempt's failure into account: what it says to the client, of its endpoint, for the search.

        Args:
            attempt: before any content.
            target: where it was.
            now_s: monotonic seconds.
            error: what the client should hear; made of the outcome when left out.
            retry_after_s: as the upstream said, infinite where it wants no repeat; None when it said nothing.
        """
        outcome = attempt.outcome
        rule = RULES[outcome]
        # What an endpoint cannot express is told only where nothing else was wrong: another one may have been able to.
        told = outcome != "unsupported" or self.error is None
        if told and not self._window_min and not self._final:
            self.error = error or UpstreamError(
                rule.code, f"the model {self._model!r} could not answer: {attempt.detail or outcome}"
            )
        if outcome == "misconfigured":
            target.misconfigure(now_s + _MISCONFIGURED_S)
        elif outcome == "too_long":
            self._window_min = target.context_window or 1
        elif outcome in ("throttled", "unavailable"):
            self._leave_alone(target, outcome, now_s, retry_after_s)
        self._tried = (*self._tried, target)
        only_once = rule.other == "once" and self._index + 1 < len(self._legs)
        if not rule.same or only_once or retry_after_s == inf:
            self._barred = (*self._barred, target)
        if rule.other == "no" or not self._may_retry or outcome in self._once_spent:
            self._final = True
        elif rule.other == "once":
            self._once_spent = (*self._once_spent, outcome)
        if rule.costs_budget:
            attempt.leg.budget.failure()

    def interrupt(self, attempt: Attempt, target: Endpoint, error: AutoGLMError) -> None:
        """A stream broke after content; from now on `find_heir` may be asked. All endpoints count as untried again."""
        self.interruption = error
        self.leg = attempt.leg
        self._former = target
        self._tried = self._barred
        attempt.leg.budget.failure()

    def may_go_on(self, attempt: Attempt) -> bool:
        """Whether one more attempt may be made after the one noted last, with nothing else running."""
        if self._final:
            return False
        leg = attempt.leg
        if RULES[attempt.outcome].costs_budget and not self._borrow(leg):
            # The group's retries are spent, so this leg is; what another one can do costs this group nothing.
            self._made[self._legs.index(leg)] = leg.max_retries + 1
        return True

    def repay(self) -> None:
        """A retry that has begun is not made."""
        if self.lent is not None:
            self.lent.end()
            self.lent = None

    # Words for the client.

    def nothing_left(self, now_s: float) -> AutoGLMError:
        """What the client is told when nothing helps."""
        if self.error is not None:
            return self.error
        wait_s = max(1.0, self._legs[0].group.retry_at_s(now_s) - now_s)
        return ServerError(
            "no_healthy_endpoint",
            f"no endpoint of {self._model!r} can take a request now; try again later",
            retry_after_s=min(wait_s, _RETRY_AFTER_TOLD_MAX_S),
        )

    def no_room(self) -> AutoGLMError:
        """What the client is told when every endpoint has all that it can do."""
        return ServerError(
            "overloaded",
            f"the model {self._model!r} has more requests than it can serve; try again later",
            retry_after_s=_OVERLOADED_S,
        )

    # Inside.

    def _is_late(self, now_s: float) -> bool:
        if self._deadline_s - now_s >= REMAINING_MIN_S:
            return False
        self.error = ServerError("deadline_exceeded", "the request's time ran out before an endpoint answered")
        return True

    def _acquire(self, leg: Leg, now_s: float, tried: tuple[Endpoint, ...]) -> Endpoint | None:
        """An endpoint whose context is large enough."""
        group = leg.group
        for _ in group.endpoints:
            target = group.acquire(now_s, self._affinity, tried, self._priority)
            self.permit = group.permit
            if target is None or not self._window_min or not 0 < target.context_window <= self._window_min:
                return target
            self._give_back(target, now_s)
            tried = (*tried, target)
        return None

    def _in_time(self, target: Endpoint, now_s: float) -> bool:
        """Whether an endpoint's first token can be expected in the time that is left; if not, it is given back."""
        if self._deadline_s - now_s >= target.gate.first_token_p50_s or target.latency_at_s < now_s - _HEARSAY_S:
            return True
        self._give_back(target, now_s)
        return False

    def _give_back(self, target: Endpoint, now_s: float) -> None:
        target.gate.release(self.permit, now_s)

    def _hand_out(self, target: Endpoint, index: int) -> Endpoint:
        self._made[index] += 1
        self.leg = self._legs[index]
        return target

    def _hand_out_in_time(self, target: Endpoint, now_s: float) -> Endpoint | None:
        """Hand out an endpoint, or give up now rather than when the time is over."""
        if self._in_time(target, now_s):
            return self._hand_out(target, self._index)
        self.crowded = False
        self.error = ServerError(
            "deadline_exceeded", "less time is left than the model mostly needs for its first token"
        )
        return None

    def _pay_hedge(
        self,
        target: Endpoint,
        leg: Leg,
        running: Attempt,
        estimate: Callable[[], tuple[int, int]],
        now_s: float,
    ) -> bool:
        """Whether a hedge may be sent: one for silence takes a retry's token, an early one what hedges may spend.

        To leave an endpoint whose breaker is open costs nothing: it does no work that could be doubled.
        """
        if running.target is not None and running.target.gate.state == "open":
            return True
        budget, early = leg.budget, running.leg.hedging
        if now_s - running.started_s >= running.leg.timeouts.first_token_hedge_s:
            if not budget.begin_hedge(leg.in_flight() + 1):
                return False
        elif early is None or not budget.begin(leg.in_flight() + 1):
            return False
        else:
            prompt_tokens, completion_tokens = estimate()
            cost = (prompt_tokens * target.price_in + completion_tokens * target.price_out) / 1e6
            if not early.begin(now_s, cost):
                budget.end()
                return False
        self.lent = budget
        return True

    def _leave_alone(self, target: Endpoint, outcome: str, now_s: float, retry_after_s: float | None) -> None:
        """Obey what an overloaded endpoint said about coming back."""
        if retry_after_s is not None and retry_after_s != inf:
            target.throttle(now_s + min(retry_after_s, _RETRY_AFTER_OBEYED_MAX_S))
        elif outcome == "throttled":
            target.throttle(now_s + _THROTTLED_S)

    def _plan_pass(self, leg: Leg, now_s: float) -> bool:
        """Plan another pass over the group after backoff; False when that cannot help."""
        if self._passes > leg.max_retries or self._window_min or all(e in self._barred for e in leg.group.endpoints):
            return False
        ready_s = leg.group.retry_at_s(now_s)
        if self._index + 1 < len(self._legs) and (leg.group.full or ready_s > now_s):
            return False
        if ready_s - now_s > min(_WAIT_MAX_S, (self._deadline_s - now_s) / 2.0):
            return False
        again_s = max(now_s + backoff_s(self._rng, self._passes), ready_s)
        if again_s >= self._deadline_s - REPLY_MARGIN_S:
            return False
        self.again_s = again_s
        self._passes += 1
        self._tried = self._barred
        return True

    def _borrow(self, leg: Leg) -> bool:
        """Begin a retry in the leg's budget; it is in flight until the attempt that carries it is closed."""
        self.repay()
        if leg.budget.begin(leg.in_flight() + 1):
            self.lent = leg.budget
            return True
        return False
