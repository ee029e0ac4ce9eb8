"""The exchange under any order of events: what it promises holds whatever upstreams, clients, clocks and lines do."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.line import Line
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.exchange.settings import Timeouts
from open_autoglm.resilience.hedge_budget import HedgeBudget
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group

TIMEOUTS = Timeouts(first_token_s=20.0, first_token_hedge_s=4.0, gap_s=10.0, total_s=100.0)
FAILURES = sorted(set(RULES) - {"ok"})


class CountingGate:
    """A gate that only counts: permits out must come back, each with one verdict."""

    healthy = False  # so that each call has a permit of its own
    state = "closed"
    first_token_p50_s = 0.0

    def __init__(self) -> None:
        self.out: set[int] = set()
        self.given = 0
        self.refuses = False

    def permits(self, now_s: float) -> bool:
        return not self.refuses

    def acquire(self, now_s: float) -> int:
        self.given += 1
        self.out.add(self.given)
        return self.given

    def acquire_trial(self, now_s: float) -> int:
        return 0

    def success(self, permit: int, now_s: float, first_token_s: float, gap_s: float = 0.0) -> None:
        self._take_back(permit)

    def failure(self, permit: int, now_s: float, slow: bool = False) -> None:
        self._take_back(permit)

    def release(self, permit: int, now_s: float) -> None:
        self._take_back(permit)

    def _take_back(self, permit: int) -> None:
        """A permit that came back with the first content is 0 from then on."""
        if permit:
            self.out.remove(permit)

    def weight(self, now_s: float) -> float:
        return 1.0

    def retry_at_s(self, now_s: float) -> float:
        return now_s + 1.0 if self.refuses else now_s


class JudgingSink:
    """A sink that objects to everything that must not happen."""

    def __init__(self) -> None:
        self.ready_since_s = 0.0
        self.running: list[Attempt] = []
        self.opened: list[Attempt] = []
        self.sent: list[bytes] = []
        self.begun = False
        self.ended = ""
        self.voices: list[Attempt] = []
        self.chosen: Attempt | None = None

    def open(self, attempt: Attempt) -> None:
        assert not self.ended
        assert attempt.resumes == self.begun
        self.opened.append(attempt)
        self.running.append(attempt)
        assert len(self.running) <= (1 if self.begun else 2)

    def cancel(self, attempt: Attempt) -> None:
        self.running.remove(attempt)

    def finish(self, attempt: Attempt) -> bytes:
        assert attempt.stage == 4
        if attempt in self.running:
            self.running.remove(attempt)
        return b"[closed]"

    def continuation(self, attempt: Attempt) -> bool:
        assert self.begun
        return True

    def estimate(self) -> tuple[int, int]:
        return 100, 100

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        assert not self.ended
        assert not self.begun
        assert self.running == [attempt] or (not self.running and attempt.outcome == ""), "the other was cancelled"
        self.begun = True
        self.sent.append(payload)

    def write(self, payload: bytes) -> None:
        assert self.begun
        assert not self.ended
        self.sent.append(payload)

    def end(self, attempt: Attempt, payload: bytes) -> None:
        assert self.begun
        self._over("end")
        self.sent.append(payload)

    def whole(self, attempt: Attempt, body: bytes) -> None:
        assert not self.begun
        self._over("whole")
        self.sent.append(body)

    def fail(self, error: AutoGLMError) -> None:
        assert not self.begun
        self._over("fail")

    def cut(self, error: AutoGLMError) -> None:
        assert self.begun
        self._over("cut")

    def _over(self, how: str) -> None:
        assert not self.ended, f"{how} after {self.ended}"
        self.ended = how
        assert not self.running or how in ("end", "whole"), "nothing runs on"


class ExchangeMachine(RuleBasedStateMachine):
    """One request over up to three legs, its upstreams, its client, its line and its clock."""

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        retries=st.integers(0, 3),
        stream=st.booleans(),
        goes_on=st.booleans(),
        may_retry=st.sampled_from([True, True, True, False]),
        early=st.booleans(),
        crowded=st.sampled_from([False, False, True]),
        total_s=st.sampled_from([0.01, 1.0, 30.0, 100.0]),
        seed=st.integers(0, 1000),
    )
    def begin(
        self,
        sizes: list[int],
        retries: int,
        stream: bool,
        goes_on: bool,
        may_retry: bool,
        early: bool,
        crowded: bool,
        total_s: float,
        seed: int,
    ) -> None:
        rng = random.Random(seed)
        self.now_s = 1000.0
        self.stream = stream
        self.gates: list[CountingGate] = []
        self.sink = JudgingSink()
        self.gone = False
        self.free_repeats = 0
        self.spoken: dict[Attempt, list[bytes]] = {}
        legs = []
        for number, size in enumerate(sizes):
            members = []
            for place in range(size):
                gate = CountingGate()
                self.gates.append(gate)
                endpoint = Endpoint(f"{number}.{place}", gate, continuation=rng.choice(["none", "prefill"]))
                if crowded:
                    endpoint.rooms = (0, 0, 0, 0)
                members.append(endpoint)
            hedging = None
            if early:
                hedging = HedgeBudget(0.5, 0.5, 1.0, 0.0)
                for _ in range(30):
                    hedging.observe(stream, 1.0)
            group = Group(f"group-{number}", members, make_balancer("round_robin", members, rng))
            has_alternative = size > 1 or number + 1 < len(sizes)
            leg = Leg(
                group,
                retries,
                TIMEOUTS,
                RetryBudget(),
                has_alternative=has_alternative,
                reason="x",
                line=Line(),
                hedging=hedging,
            )
            legs.append(leg)
        self.attempts_max = len(sizes) * (retries + 1)
        self.legs = tuple(legs)
        self.record = RequestRecord("/test", self.now_s, 1)
        plan = Plan("group-0", self.legs, "continue" if goes_on else "terminate")
        self.exchange = Exchange(
            plan,
            self.sink,
            self.record,
            self.now_s + total_s,
            stream=stream,
            affinity=0,
            may_retry=may_retry,
            rng=rng,
        )
        self.exchange.start(self.now_s)

    # What upstreams do: also late, after their attempt was closed.

    def _attempt(self, pick: int) -> Attempt | None:
        return self.sink.opened[pick % len(self.sink.opened)] if self.sink.opened else None

    def _runs(self, attempt: Attempt) -> bool:
        return attempt in self.sink.running

    @rule(pick=st.integers(0, 9), stage=st.sampled_from([0, 1, 2, 2, 2, 3, 4]))
    def say(self, pick: int, stage: int) -> None:
        attempt = self._attempt(pick)
        if attempt is None or not self.stream:
            return
        payload = f"<{attempt.number}:{len(self.spoken.get(attempt, []))}>".encode()
        running = self._runs(attempt)
        if running:
            self.spoken.setdefault(attempt, []).append(payload)
        before = len(self.sink.sent)
        self.exchange.content(attempt, payload, max(stage, attempt.stage), self.now_s)
        assert running or len(self.sink.sent) == before

    @rule(pick=st.integers(0, 9))
    def finish(self, pick: int) -> None:
        attempt = self._attempt(pick)
        if attempt is None:
            return
        running = self._runs(attempt)
        if running:
            self.sink.running.remove(attempt)
        if self.stream:
            self.exchange.ended(attempt, b"", self.now_s)
        else:
            self.exchange.whole(attempt, b"{}", self.now_s)
        assert not running or self.exchange.state == "over"

    @rule(
        pick=st.integers(0, 9),
        outcome=st.sampled_from(FAILURES),
        retry_after_s=st.sampled_from([None, None, 0.0, 0.5, 2.0, 100.0, inf]),
    )
    def break_down(self, pick: int, outcome: str, retry_after_s: float | None) -> None:
        attempt = self._attempt(pick)
        if attempt is None:
            return
        if self._runs(attempt):
            self.sink.running.remove(attempt)
            self.free_repeats = min(1, self.free_repeats + (outcome == "stale" and not attempt.first_s))
        error = UpstreamError("upstream_error", "scripted")
        self.exchange.failed(attempt, outcome, "scripted", self.now_s, error, retry_after_s=retry_after_s)

    # What the world does.

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 5.0, 12.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        if self.exchange.due_s <= self.now_s:
            self.exchange.handle_timeout(self.now_s)

    @rule()
    def wait_until_due(self) -> None:
        self.now_s = max(self.now_s, self.exchange.due_s)
        self.exchange.handle_timeout(self.now_s)

    @rule(room=st.integers(0, 2))
    def pump(self, room: int) -> None:
        for leg in self.legs:
            for endpoint in leg.group.endpoints:
                endpoint.rooms = (room,) * 4
            leg.line.pump(self.now_s)

    @rule(pick=st.integers(0, 9), refuses=st.booleans())
    def open_a_breaker(self, pick: int, refuses: bool) -> None:
        self.gates[pick % len(self.gates)].refuses = refuses

    @rule()
    @precondition(lambda self: len(self.sink.opened) > 2)
    def leave(self) -> None:
        self.gone = True
        self.exchange.client_gone(self.now_s)
        assert self.exchange.state == "over"

    @rule()
    @precondition(lambda self: len(self.sink.opened) > 2)
    def stop_the_server(self) -> None:
        self.exchange.drain_cut(self.now_s)
        assert self.exchange.state == "over"

    # What must hold at any time.

    @invariant()
    def promises(self) -> None:
        sink, exchange = self.sink, self.exchange
        running = [attempt for attempt in sink.opened if not attempt.outcome]
        in_flight = sum(endpoint.in_flight for leg in self.legs for endpoint in leg.group.endpoints)
        assert running == [attempt for attempt in sink.opened if attempt in sink.running]
        assert in_flight == len(running) <= 2
        assert sum(len(gate.out) for gate in self.gates) == sum(attempt.permit > 0 for attempt in running)
        assert len(sink.opened) <= self.attempts_max + self.free_repeats
        assert self.record.attempts == sink.opened
        lent = sum(leg.budget.active for leg in self.legs)
        queued = sum(leg.queue.waiting for leg in self.legs)
        assert queued == (exchange.state == "queued")
        match exchange.state:
            case "over":
                assert (running, lent) == ([], 0)
                assert bool(sink.ended) != self.gone or sink.ended
            case "open":
                assert running
            case "committed":
                assert len(running) == 1
                assert sink.begun
            case "waiting":
                assert not running
        if exchange.state != "over":
            assert not sink.ended
            assert exchange.due_s < inf

    @invariant()
    def only_winners_are_heard(self) -> None:
        """The client has, of each attempt that was heard, all that it said in order; of the others nothing."""
        heard = [attempt for attempt in self.sink.opened if attempt.first_s]
        if self.stream and self.sink.begun:
            said = b"".join(piece for attempt in heard for piece in self.spoken.get(attempt, []))
            assert b"".join(self.sink.sent).removesuffix(b"[closed]") == said
            assert len(heard) <= 2
            assert all(attempt.resumes for attempt in heard[1:])

    def teardown(self) -> None:
        """However it went so far, it ends at its deadline."""
        if not hasattr(self, "exchange"):
            return
        for _ in range(400):  # a hedge that cannot be had is asked for each second
            self.now_s = max(self.now_s, self.exchange.due_s)
            self.exchange.handle_timeout(self.now_s)
        assert self.exchange.state == "over"
        self.promises()


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules_of_many_requests_leave_nothing_behind(seed: int) -> None:
    """Requests share endpoints, budgets and a line; when all are over, everything is as before."""
    rng = random.Random(seed)
    gates = [CountingGate() for _ in range(3)]
    members = [Endpoint(f"e{number}", gate) for number, gate in enumerate(gates)]
    for endpoint in members:
        endpoint.rooms = (2, 2, 2, 2)
    group = Group("g", members, make_balancer("least_connections", members, rng))
    line = Line()
    leg = Leg(group, 2, TIMEOUTS, RetryBudget(), has_alternative=True, reason="x", line=line)
    plan = Plan("g", (leg,))
    now_s = 1000.0
    exchanges: list[tuple[Exchange, JudgingSink]] = []
    for _ in range(400):
        now_s += rng.expovariate(20.0)
        sink = JudgingSink()
        exchange = Exchange(
            plan,
            sink,
            RequestRecord("/t", now_s, 1),
            now_s + 30.0,
            stream=False,
            affinity=0,
            may_retry=True,
            rng=rng,
            tenant=rng.choice("abc"),
            priority=rng.randrange(4),
        )
        exchange.start(now_s)
        exchanges.append((exchange, sink))
        for one, heard in exchanges:
            if one.due_s <= now_s:
                one.handle_timeout(now_s)
            for attempt in list(heard.running):
                if rng.random() < 0.2:
                    heard.running.remove(attempt)
                    if rng.random() < 0.8:
                        one.whole(attempt, b"{}", now_s)
                    else:
                        one.failed(attempt, rng.choice(FAILURES), "scripted", now_s)
        line.pump(now_s)
        assert all(endpoint.in_flight <= 2 for endpoint in members)
        exchanges = [(one, heard) for one, heard in exchanges if one.state != "over"]
    for _ in range(100):
        now_s += 1.0
        for one, _ in exchanges:
            one.handle_timeout(now_s)
        line.pump(now_s)
    assert all(one.state == "over" and heard.ended for one, heard in exchanges)
    assert [endpoint.in_flight for endpoint in members] == [0, 0, 0]
    assert [len(gate.out) for gate in gates] == [0, 0, 0]
    assert (leg.budget.active, line.queue.waiting) == (0, 0)
