"""An exchange with real groups and breakers, driven by hand, in virtual time."""

import random

from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.line import Line
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.exchange.settings import StreamFailure, Timeouts
from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.hedge_budget import HedgeBudget
from open_autoglm.resilience.retry_budget import RetryBudget
from open_autoglm.resilience.settings import BreakerSettings
from open_autoglm.routing.balancers import make_balancer
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.gate import Gate
from open_autoglm.routing.group import Group


class Recorder:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.opened: list[Attempt] = []
        self.cancelled: list[Attempt] = []
        self.finished: list[Attempt] = []
        self.continues = True
        self.sent = b""
        self.ends: list[str] = []
        self.ready_since_s = 0.0
        self.error: AutoGLMError | None = None

    def open(self, attempt: Attempt) -> None:
        self.opened.append(attempt)

    def cancel(self, attempt: Attempt) -> None:
        self.cancelled.append(attempt)

    def finish(self, attempt: Attempt) -> bytes:
        self.finished.append(attempt)
        return b"[closed]"

    def continuation(self, attempt: Attempt) -> bool:
        return self.continues

    def estimate(self) -> tuple[int, int]:
        return 1000, 500

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        self.ends.append("begin")
        self.sent += payload

    def write(self, payload: bytes) -> None:
        self.sent += payload

    def end(self, attempt: Attempt, payload: bytes) -> None:
        self.sent += payload
        self.ends.append("end")

    def whole(self, attempt: Attempt, body: bytes) -> None:
        self.sent += body
        self.ends.append("whole")

    def fail(self, error: AutoGLMError) -> None:
        self.error = error
        self.ends.append("fail")

    def cut(self, error: AutoGLMError) -> None:
        self.error = error
        self.ends.append("cut")


class Rig:
    """A plan of named endpoints, `a,b | c` being two legs, and one exchange over it."""

    def __init__(
        self,
        legs: str = "a,b",
        *,
        retries: int = 2,
        stream: bool = False,
        timeouts: Timeouts | None = None,
        total_s: float = 600.0,
        windows: dict[str, int] | None = None,
        may_retry: bool = True,
        endpoints_open: bool = False,
        at_s: float = 1000.0,
        gate: Gate | None = None,
        seed: int = 1,
        stream_failure: StreamFailure = "terminate",
        continuations: dict[str, str] | None = None,
        models: dict[str, str] | None = None,
        hedging: HedgeBudget | None = None,
        rooms: dict[str, int] | None = None,
        prices: dict[str, float] | None = None,
        lines: tuple[Line, ...] = (),
        known_s: float = 0.0,
        priority: int = 2,
        start: bool = True,
    ) -> None:
        rng = random.Random(seed)
        self.now_s = 1000.0
        self.endpoints: dict[str, Endpoint] = {}
        plan_legs = []
        names = [[name.strip() for name in leg.split(",")] for leg in legs.split("|")]
        for number, leg in enumerate(names):
            members = []
            for name in leg:
                breaker = CircuitBreaker(BreakerSettings(), rng)
                for _ in range(5 if endpoints_open else 0):
                    breaker.failure(breaker.acquire(self.now_s), self.now_s)
                endpoint = Endpoint(
                    name,
                    gate or breaker,
                    context_window=(windows or {}).get(name, 0),
                    continuation=(continuations or {}).get(name, "prefill"),
                    upstream_model=(models or {}).get(name, "m"),
                    price_out=(prices or {}).get(name, 0.0),
                )
                endpoint.latency_at_s = known_s
                if rooms is not None and name in rooms:
                    endpoint.rooms = (rooms[name],) * 4
                self.endpoints[name] = endpoint
                members.append(endpoint)
            group = Group(f"model-{number}", members, make_balancer("round_robin", members, rng))
            alternative = len(leg) > 1 or number + 1 < len(names)
            plan_legs.append(
                Leg(
                    group,
                    retries,
                    timeouts or Timeouts(),
                    RetryBudget(),
                    has_alternative=alternative,
                    reason="scripted",
                    line=lines[number] if lines else None,
                    hedging=hedging,
                )
            )
        self.now_s = at_s
        self.plan = Plan("model-0", tuple(plan_legs), stream_failure)
        self.sink = Recorder()
        self.record = RequestRecord("/test", self.now_s, 1)
        self.exchange = Exchange(
            self.plan,
            self.sink,
            self.record,
            self.now_s + total_s,
            stream=stream,
            affinity=0,
            may_retry=may_retry,
            rng=rng,
            priority=priority,
        )
        if start:
            self.exchange.start(self.now_s)

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        return self.sink.opened[-1]

    @property
    def path(self) -> str:
        """Where attempts went, and how they ended."""
        return " ".join(f"{a.endpoint}:{a.outcome or 'running'}" for a in self.sink.opened)

    def fail(
        self, outcome: str, error: AutoGLMError | None = None, *, retry_after_s: float | None = None, number: int = -1
    ) -> None:
        """The newest attempt, or another, ends badly."""
        attempt = self.sink.opened[number]
        self.exchange.failed(attempt, outcome, f"scripted {outcome}", self.now_s, error, retry_after_s=retry_after_s)

    def content(self, payload: bytes = b"text", stage: int = 2, *, number: int = -1) -> None:
        """A piece of the newest attempt's answer, or of another's."""
        self.exchange.content(self.sink.opened[number], payload, stage, self.now_s)

    def end(self, payload: bytes = b"[DONE]", *, number: int = -1) -> None:
        self.exchange.ended(self.sink.opened[number], payload, self.now_s)

    def whole(self, body: bytes = b"{}", *, number: int = -1) -> None:
        self.exchange.whole(self.sink.opened[number], body, self.now_s)

    def wait(self) -> float:
        """Let time pass to the next deadline and return how long that took."""
        waited_s = self.exchange.due_s - self.now_s
        self.now_s = self.exchange.due_s
        self.exchange.handle_timeout(self.now_s)
        return waited_s

    @property
    def outcomes(self) -> str:
        """How attempts ended, oldest first."""
        return " ".join(a.outcome or "running" for a in self.sink.opened)

    def failures(self, name: str) -> int:
        """Failures that an endpoint's breaker has in its window."""
        gate = self.endpoints[name].gate
        assert isinstance(gate, CircuitBreaker)
        return gate.snapshot().failures

    @property
    def retries_active(self) -> int:
        return sum(leg.budget.active for leg in self.plan.legs)

    def in_flight(self) -> int:
        return sum(endpoint.in_flight for endpoint in self.endpoints.values())
