"""One client request from first byte to last, over as many attempts as it takes.

A pure machine: it is told what happens to its attempts and when time has passed, and it drives a `Sink`. It holds
the answer back until the first content of an attempt, so that everything before that can be repaired unseen.

| state | the client has | attempts | a failing attempt leads to |
|---|---|---|---|
| queued | nothing | none; it stands in a line | – |
| open | nothing | one; two where the first is slow | the other, the next endpoint or leg, the line, backoff, an error |
| waiting | nothing | none, for a moment (backoff) | – |
| committed | part of an answer | one | one that goes on with the very text, or `sink.cut`: never a second voice |
| over | all it will get | none | nothing; late events are dropped |

Of two attempts the first with content wins, and the other is cancelled in the same turn. After the finish reason was
passed on nothing can make the answer less whole: it is ended as if the upstream had done so.

Invariants: exactly one of `whole`, `end`, `fail`, `cut` reaches the sink, unless the client leaves first; every
opened attempt is closed exactly once, with one verdict for its endpoint; at most two run at once, and one of the
two was never heard by the client; at most `sum(leg.max_retries + 1)` attempts are made, one free repeat on a stale
connection apart; what an attempt said before another won is never sent.

What can only happen after the first choice has failed is decided in `search.py`, which is made only then.
"""

from __future__ import annotations

import random
from typing import Final, Literal

from open_autoglm.errors import AutoGLMError, ServerError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.exchange.search import REMAINING_MIN_S, REPLY_MARGIN_S, Search
from open_autoglm.exchange.sink import Sink
from open_autoglm.routing.endpoint import Endpoint

_AMPLE_S: Final = 10.0
"""With more than this left it need not be asked whether an endpoint answers in time."""
_ALTERNATIVE_SHARE: Final = 0.6
"""Of the remaining time, for an attempt that has an alternative."""
_HEDGE_AGAIN_S: Final = 1.0
"""Until it is asked again for a second attempt that could not be had."""
_FINISHED_STAGE: Final = 4
_CONTENT_STAGE: Final = 2


class Exchange:
    """See the module.

    Attributes:
        state: see the table.
        due_s: monotonic seconds; whoever keeps time calls `handle_timeout` then, or soon after.
        affinity, may_retry, priority, tenant: as below; they may be set until `start`: named arguments cost more.

    Args:
        plan, sink: where the request may go, and who is driven.
        record: attempts are noted there.
        deadline_s: monotonic seconds by which everything must be over.
        rng, stream: for backoff; whether the answer comes in pieces.
        affinity: 64-bit hash that keeps related requests on one endpoint; 0 for none.
        may_retry: False when the client forbids repeats.
        priority, tenant: number of its class, 0 (sheddable) to 3; in whose turn it waits for room.
    """

    __deletable__ = ("_sink",)  # asked for by the compiler, see `release`
    __slots__ = (
        "_attempt",
        "_deadline_s",
        "_plan",
        "_record",
        "_rival",
        "_rng",
        "_search",
        "_sink",
        "_stream",
        "affinity",
        "due_s",
        "may_retry",
        "priority",
        "state",
        "tenant",
    )

    def __init__(
        self,
        plan: Plan,
        sink: Sink,
        record: RequestRecord,
        deadline_s: float,
        rng: random.Random,
        stream: bool = False,
        *,
        affinity: int = 0,
        may_retry: bool = True,
        priority: int = 2,
        tenant: str = "",
    ) -> None:
        self._plan = plan
        self._sink = sink
        self._record = record
        self._deadline_s = deadline_s
        self._stream = stream
        self.affinity = affinity
        self.may_retry = may_retry
        self._rng = rng
        self.priority = priority
        self.tenant = tenant
        self._attempt: Attempt | None = None
        self._rival: Attempt | None = None
        self._search: Search | None = None
        self.due_s = deadline_s
        self.state: Literal["queued", "open", "waiting", "committed", "over"] = "open"

    # The client's side.

    def start(self, now_s: float) -> None:
        """Begin the first attempt, or wait for room."""
        leg = self._plan.legs[0]
        remaining_s = self._deadline_s - now_s
        if remaining_s >= _AMPLE_S and not leg.queue.waiting:
            group = leg.group
            target = group.acquire(now_s, self.affinity, (), self.priority)
            if target is not None:
                self._open(target, leg, now_s, group.permit)
                return
        search = self._searching()
        target = search.enter(now_s, in_turn=False)
        if target is not None:
            self._open(target, search.leg, now_s, search.permit)
        elif search.crowded:
            self._queue(search, now_s)
        else:
            self._fail(now_s)

    def take_over(self, attempt: Attempt, due_s: float) -> None:
        """Go on with a first attempt that was begun without us; its limit is set, and the client has its content."""
        self._record.attempts.append(attempt)
        self._attempt = attempt
        self.due_s = due_s
        if attempt.first_s:
            self.state = "committed"

    def client_gone(self, now_s: float) -> None:
        """The client has left: stop the work for it."""
        if self.state != "over":
            self._call_off("cancelled", "the client left", now_s)

    def drain_cut(self, now_s: float) -> None:
        """The server stops and cannot wait any longer."""
        error = ServerError("server_draining", "the server is being stopped; send the request again")
        if self.state != "over":
            self._stop("cancelled", "the server stopped", error, now_s)

    def handle_timeout(self, now_s: float) -> None:
        """Time has passed `due_s`."""
        if self.state == "over" or now_s < self.due_s:
            return
        if now_s >= self._deadline_s:
            self._expire(now_s)
        elif self.state == "waiting":
            self.state = "open"
            self._next(now_s)
        elif self._attempt is not None:
            self._overdue(self._attempt, now_s)

    def doubt(self, target: Endpoint) -> None:
        """An endpoint is away: if its first word is still waited for, another one may be asked now."""
        attempt = self._attempt
        if self.state == "open" and self._rival is None and attempt is not None and attempt.target is target:
            self.due_s = 0.0

    def release(self) -> None:
        """Let go of the sink, once it has heard the end, so that the two do not keep each other alive."""
        assert self.state == "over", f"an exchange that is {self.state} still needs its sink"
        del self._sink

    def granted(self, now_s: float) -> bool:
        """As `line.Waiter`: it is this request's turn. False when there is no room; then nothing has changed."""
        if self.state != "queued":
            return True
        search = self._searching()
        target = search.enter(now_s, in_turn=True)
        if target is not None:
            self._leave_line(now_s)
            self._open(target, search.leg, now_s, search.permit)
        elif not search.crowded:
            self._fail(now_s)
        return self.state != "queued"

    def shed(self, now_s: float) -> None:
        """This request has waited long enough, and is out of the line."""
        if self.state == "queued" and now_s >= self._deadline_s:
            self._expire(now_s)
        elif self.state == "queued":
            self._turn_away("shed_in_queue", now_s)

    # The attempts' side.

    def content(self, attempt: Attempt, payload: bytes, stage: int, now_s: float) -> None:
        """A piece of a streamed answer, as the client is to see it; below `stage` 2 there was no content yet."""
        if attempt is not self._attempt and attempt is not self._rival:
            return
        if not attempt.first_s:
            if stage >= _CONTENT_STAGE:
                self._win(attempt, payload, stage, now_s)
                return
            # What is no content does not prolong the wait for the first content.
            if not attempt.hold(payload):
                self._sink.cancel(attempt)
                self.failed(attempt, "malformed", "too much before the first content", now_s)
            return
        attempt.stage = stage
        due_s = now_s + attempt.leg.gap_s
        self.due_s = due_s if due_s < self._deadline_s else self._deadline_s
        if payload:
            self._sink.write(payload)

    def ended(self, attempt: Attempt, payload: bytes, now_s: float) -> None:
        """The streamed answer is whole; `payload` is its last piece."""
        if attempt is not self._attempt and attempt is not self._rival:
            return
        if not attempt.first_s:
            self._win(attempt, b"", _FINISHED_STAGE, now_s)
        self._attempt, self.state = None, "over"
        attempt.succeed(now_s, True, self._record.bytes_in)
        self._sink.end(attempt, payload)

    def whole(self, attempt: Attempt, body: bytes, now_s: float) -> None:
        """The unary answer is whole."""
        if attempt is not self._attempt and attempt is not self._rival:
            return
        if self._rival is not None:
            self._drop_other(attempt, now_s)
        attempt.first_s = now_s
        self._attempt = None
        self.state = "over"
        attempt.succeed(now_s, False, self._record.bytes_in)
        self._sink.whole(attempt, body)

    def failed(
        self,
        attempt: Attempt,
        outcome: str,
        detail: str,
        now_s: float,
        error: AutoGLMError | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """An attempt has ended badly.

        Args:
            attempt: which.
            outcome: a word of `outcomes`.
            detail: a few words for people, without secrets.
            now_s: monotonic seconds.
            error: what the upstream said, where the client should hear it.
            retry_after_s: when the upstream wants to be asked again; infinite for never, None when it said nothing.
        """
        target = attempt.target
        if target is None or (attempt is not self._attempt and attempt is not self._rival):
            return
        if attempt.first_s:
            self._break_off(attempt, target, detail, now_s)
            return
        self._attempt = self._rival if attempt is self._attempt else self._attempt
        self._rival = None
        attempt.close(outcome, detail, now_s)
        search = self._searching()
        if outcome == "stale" and search.repeat(target, now_s):
            # Nothing was processed there: repeat at once, free, on a fresh connection.
            self._rival = self._attempt
            self._open(target, attempt.leg, now_s, search.permit)
            return
        search.note(attempt, target, now_s, error, retry_after_s)
        if self._attempt is not None:
            self._rearm()
        elif self.state == "committed":
            self._go_on(search, now_s)
        elif search.may_go_on(attempt):
            self._next(now_s)
        else:
            self._fail(now_s)

    # Where to.

    def _searching(self) -> Search:
        """The search for other endpoints, made when it is first needed."""
        if self._search is None:
            made = len(self._record.attempts)
            self._search = Search(
                self._plan, self._rng, self._deadline_s, self.affinity, self.priority, self.may_retry, made=made
            )
        return self._search

    def _queue(self, search: Search, now_s: float) -> None:
        """Every leg is full: wait in the line of the first."""
        position = self._plan.legs[0].line.join(self, self.tenant, self.priority, now_s, self._deadline_s)
        if position:
            self._record.queue_position = position
            search.since_s = now_s
            self.state, self.due_s = "queued", self._deadline_s
        else:
            self._turn_away("queue_full", now_s)

    def _leave_line(self, now_s: float) -> None:
        self._plan.legs[0].queue.discard(self)
        self.state = "open"
        self._record.queued_s += now_s - self._searching().since_s
        if now_s >= self._deadline_s - REMAINING_MIN_S:
            self._record.rejected = "expired_in_queue"

    def _turn_away(self, reason: str, now_s: float) -> None:
        """There is no room, and no place or no time to wait for it."""
        self._record.rejected = reason
        self._stop("cancelled", "", self._searching().no_room(), now_s)

    def _next(self, now_s: float) -> None:
        """Open the next attempt, or wait for it, or give up."""
        search = self._searching()
        target = search.find(now_s)
        if target is not None:
            self._open(target, search.leg, now_s, search.permit)
        elif search.again_s:
            self.state = "waiting"
            self.due_s = min(search.again_s, self._deadline_s)
        elif search.crowded:
            self._queue(search, now_s)
        else:
            self._fail(now_s)

    def _open(self, target: Endpoint, leg: Leg, now_s: float, permit: int) -> None:
        attempts = self._record.attempts
        number = len(attempts)
        self._attempt = attempt = Attempt(target, leg, permit, number, now_s)
        attempts.append(attempt)
        target.begin()
        remaining_s = self._deadline_s - now_s
        most_s = remaining_s - REPLY_MARGIN_S
        if leg.has_alternative and most_s > remaining_s * _ALTERNATIVE_SHARE:
            most_s = remaining_s * _ALTERNATIVE_SHARE
        if self._stream and most_s > leg.timeouts.first_token_s:
            most_s = leg.timeouts.first_token_s
        attempt.limit_s = now_s + most_s
        hedge_s = leg.hedge_s
        if leg.hedging is not None:
            hedge_s = min(hedge_s, leg.hedging.delay_s(self._stream))
        self.due_s = now_s + (hedge_s if hedge_s < most_s else most_s)
        if number:
            self._follow_up(attempt)
        self._sink.open(attempt)

    def _follow_up(self, attempt: Attempt) -> None:
        """What is different about an attempt that is not the first."""
        search = self._searching()
        attempt.lent, search.lent = search.lent, None
        attempt.resumes = self.state == "committed"
        if self._rival is not None:
            attempt.reason += f", beside a slow {self._rival.endpoint}"
        else:
            attempt.reason += f", after {self._record.attempts[-2].outcome}"
        if attempt.resumes or self._rival is not None:
            self._rearm()

    def _rearm(self) -> None:
        """No second attempt is to come: the next thing to happen is that a running one takes too long."""
        self.due_s = min(each.limit_s for each in (self._attempt, self._rival) if each is not None)

    def _overdue(self, attempt: Attempt, now_s: float) -> None:
        """An attempt has taken too long, or so long that a second one may run beside it."""
        if attempt.first_s:
            gap_s = attempt.leg.gap_s
            if (ready_s := self._sink.ready_since_s + gap_s) > now_s:
                # The client was slow: the upstream was not read.
                self.due_s = min(ready_s, now_s + gap_s, self._deadline_s)
                return
            if attempt.stage < _FINISHED_STAGE:
                self._sink.cancel(attempt)
            self.failed(attempt, "slow", f"nothing came for {gap_s:g} s", now_s)
            return
        late = [each for each in (attempt, self._rival) if each is not None and each.limit_s <= now_s]
        for each in late:
            self._sink.cancel(each)
            self.failed(each, "slow", f"no first token within {now_s - each.started_s:.1f} s", now_s)
        if not late:
            self._hedge(attempt, now_s)

    def _hedge(self, slow: Attempt, now_s: float) -> None:
        """Start a second attempt beside a slow one; where none can be had now, ask again soon."""
        self._rearm()
        search = self._searching()
        if search.hedged:
            return
        target = search.find_beside(now_s, slow, self._sink.estimate)
        if target is not None:
            self._rival = slow
            self._open(target, search.leg, now_s, search.permit)
        else:
            self.due_s = min(self.due_s, now_s + _HEDGE_AGAIN_S)

    # What the client gets.

    def _win(self, attempt: Attempt, payload: bytes, stage: int, now_s: float) -> None:
        """The first content: from here on the client hears this attempt and no other."""
        if self._rival is not None:
            self._drop_other(attempt, now_s)
        target = attempt.target
        assert target is not None
        attempt.first_s = now_s
        attempt.stage = stage
        attempt.permit = target.first_token(attempt.permit, now_s, now_s - attempt.started_s, self._record.bytes_in)
        due_s = now_s + attempt.leg.gap_s
        self.due_s = due_s if due_s < self._deadline_s else self._deadline_s
        if attempt.held:
            payload = attempt.held + payload
            attempt.held = b""
        if self.state != "committed":
            self.state = "committed"
            self._record.first_s = now_s
            self._sink.begin(attempt, payload)
        elif payload:
            self._sink.write(payload)

    def _drop_other(self, winner: Attempt, now_s: float) -> None:
        """Two run, and one has won: cancel the other."""
        loser = self._rival if winner is self._attempt else self._attempt
        assert loser is not None
        self._attempt, self._rival = winner, None
        self._sink.cancel(loser)
        silent = loser.is_silent(now_s, self._stream)
        loser.close("cancelled", "another attempt was faster", now_s, silent=silent)

    def _break_off(self, attempt: Attempt, target: Endpoint, detail: str, now_s: float) -> None:
        """An attempt failed after content of it was passed on."""
        if attempt.stage >= _FINISHED_STAGE:
            self._finish(attempt, detail, now_s)
            return
        self._attempt = None
        attempt.close("interrupted", detail, now_s)
        error = UpstreamError("stream_interrupted", f"the stream from the model broke: {detail}")
        once = self._plan.stream_failure == "continue" and self.may_retry and not attempt.resumes
        if once and attempt.stage == _CONTENT_STAGE and self._sink.continuation(attempt):
            search = self._searching()
            search.interrupt(attempt, target, error)
            self._go_on(search, now_s)
        else:
            self._stop("cancelled", "", error, now_s)

    def _go_on(self, search: Search, now_s: float) -> None:
        """Let another endpoint go on with the stream that broke, or tell the client that it did."""
        target = search.find_heir(now_s)
        if target is not None:
            self._open(target, search.leg, now_s, search.permit)
        elif search.interruption is not None:
            self._stop("cancelled", "", search.interruption, now_s)

    def _finish(self, attempt: Attempt, detail: str, now_s: float) -> None:
        """The client has the finish reason: what went wrong after that is for the log."""
        payload = self._sink.finish(attempt)
        self._attempt = None
        self.state = "over"
        attempt.succeed(now_s, True, self._record.bytes_in)
        attempt.detail = f"after its finish reason: {detail}"
        self._sink.end(attempt, payload)

    def _expire(self, now_s: float) -> None:
        broken = self._search.interruption if self._search is not None else None
        error = broken or ServerError("deadline_exceeded", "the request's time ran out")
        self._stop("deadline", "the request's time ran out", error, now_s)

    def _fail(self, now_s: float) -> None:
        self._stop("cancelled", "", self._searching().nothing_left(now_s), now_s)

    def _stop(self, outcome: str, detail: str, error: AutoGLMError, now_s: float) -> None:
        """Nothing more will be tried: end every attempt, and tell the client."""
        attempt = self._attempt
        committed = self.state == "committed"
        if committed and attempt is not None and attempt.stage >= _FINISHED_STAGE:
            self._finish(attempt, detail, now_s)
            return
        self._call_off(outcome, detail, now_s)
        if committed:
            self._sink.cut(error)
        else:
            self._sink.fail(error)

    def _call_off(self, outcome: str, detail: str, now_s: float) -> None:
        """End every attempt, and leave the line."""
        running = (self._attempt, self._rival)
        self._attempt = self._rival = None
        if self.state == "queued":
            self._leave_line(now_s)
        self.state = "over"
        if self._search is not None:
            self._search.repay()
        for attempt in running:
            if attempt is not None:
                self._sink.cancel(attempt)
                attempt.close(outcome, detail, now_s)
