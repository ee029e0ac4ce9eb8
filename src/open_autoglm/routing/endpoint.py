"""An address that answers for a model, with what is known of it from moment to moment.

Invariant: while `plain` is true, nothing speaks against the endpoint: its gate is healthy, it is neither throttled nor
misconfigured nor ejected, and nothing is held back from it. Whatever comes to speak against it sets `plain` to false
at once; `usable` finds out when nothing does any more. So the request path asks one thing instead of five. Whoever
changes its gate behind its back says so with `look_again`.

The configured part never changes; a changed configuration makes a new endpoint, which inherits what was learnt.
An endpoint belongs to one group.
"""

from math import inf
from typing import Final

from open_autoglm.routing.gate import Gate, Pace

LATENCY_HALF_S = 10.0
"""A latency so old counts half."""

SHARES: Final = (0.70, 0.85, 1.00, 1.10)
"""Of its limit, up to which an endpoint takes requests of each class, sheddable ones first."""

UNLIMITED: Final = 1 << 30
"""A room that no number of attempts fills."""

# Prompts are longer than answers: three tokens in for one out is the usual blend.
_PRICE_IN_SHARE = 0.75


class Endpoint:
    """One endpoint of a group.

    Attributes:
        name: as in metrics; no secrets.
        model: the name of its group.
        url: where, without secrets.
        upstream_model: the name sent there; empty for the name that the client sent.
        weight: its share beside the others, > 0.
        price_in, price_out: money per million tokens; 0.0 when it costs nothing or nobody said.
        price: both prices as one figure, three tokens in for one out.
        context_window: tokens; 0 when unknown.
        gate: lets calls in or not.
        continuation: how a broken stream is gone on with here: `none`, `prompt` (plain prompts only), `prefill` or
            `vllm`.
        extra: the owner's; routing does not look at it.
        in_flight: attempts running, from `begin` to `succeed`, `fail` or `release`.
        limit: attempts that may run at once; `rooms` the same for each class of requests, sheddable ones first.
        latency_s, latency_at_s: time to the first token as `observe_latency` left it, 0.0 while unknown; and when.
        reported_load: requests that the endpoint says it has beside ours, >= 0; the owner sets it.
        throttled_until_s: it asked to be left alone until then; see `throttle`.
        misconfigured_until_s: it refuses our credentials and is left alone until then; see `misconfigure`.
        ejected_until_s: it does worse than the others and is left alone until then; 0.0 when it is not; see `eject`.
        refuse_ratio: chance with which a request is held back from it, 0.0 to below 1.0; see `hold_back`.
        plain: see the module; `permit` is what its gate gives to every call meanwhile.
        good, failures: attempts that ended so; `turned_away` those that it had too much to do for, failures or not;
            `throttled` those of them that are no failures. They only grow.
        credit, turn, seed: the balancer's: whose turn it is, and 64 bits for hashing.
    """

    __slots__ = (
        "context_window",
        "continuation",
        "credit",
        "ejected_until_s",
        "extra",
        "failures",
        "gate",
        "good",
        "good_at_failure",
        "in_a_row",
        "in_flight",
        "latency_at_s",
        "latency_s",
        "limit",
        "misconfigured_until_s",
        "model",
        "name",
        "pace",
        "permit",
        "plain",
        "price",
        "price_in",
        "price_out",
        "refuse_ratio",
        "reported_load",
        "rooms",
        "sample_due_s",
        "seed",
        "throttled",
        "throttled_until_s",
        "turn",
        "turned_away",
        "upstream_model",
        "url",
        "weight",
    )

    def __init__(
        self,
        name: str,
        gate: Gate,
        *,
        model: str = "",
        url: str = "",
        upstream_model: str = "",
        weight: float = 1.0,
        price_in: float = 0.0,
        price_out: float = 0.0,
        context_window: int = 0,
        continuation: str = "none",
        pace: Pace | None = None,
        extra: object = None,
    ) -> None:
        """See the attributes.

        Raises:
            ValueError: the weight is not above zero.
        """
        if not weight > 0.0:
            raise ValueError(f"endpoint {name!r} has weight {weight!r}; give it a weight above 0 or leave it out")
        self.name = name
        self.model = model
        self.url = url
        self.upstream_model = upstream_model
        self.weight = weight
        self.price_in = price_in
        self.price_out = price_out
        self.price = _PRICE_IN_SHARE * price_in + (1.0 - _PRICE_IN_SHARE) * price_out
        self.context_window = context_window
        self.continuation = continuation
        self.gate = gate
        self.extra = extra
        self.in_flight = 0
        self.pace = pace
        self.limit = UNLIMITED
        self.rooms = (UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED)
        self.sample_due_s = inf
        self.plain = False
        self.permit = 0
        self.good = self.failures = self.turned_away = self.throttled = 0
        self.in_a_row = self.good_at_failure = 0
        self.latency_s = 0.0
        self.latency_at_s = 0.0
        self.reported_load = 0.0
        self.throttled_until_s = 0.0
        self.misconfigured_until_s = 0.0
        self.ejected_until_s = 0.0
        self.refuse_ratio = 0.0
        self.credit = 0.0
        self.turn = 0.0
        self.seed = 0
        if pace is not None:
            self._keep_pace(pace)

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    # What an attempt says about its endpoint: `begin` once, then one of `succeed`, `fail` and `release` once.

    def begin(self) -> None:
        """An attempt was sent here."""
        self.in_flight += 1

    def first_token(self, permit: int, now_s: float, first_token_s: float, prompt_bytes: int) -> int:
        """The first content of a stream came.

        Args:
            permit: from the gate.
            now_s: monotonic seconds.
            first_token_s: since the attempt began, > 0.
            prompt_bytes: size of the request's body.

        Returns:
            The permit to go on with; 0 when this content was all that the gate wanted to know.
        """
        self.observe_latency(now_s, first_token_s)
        if now_s >= self.sample_due_s:
            self._sample(now_s, first_token_s, True, prompt_bytes, self.in_flight)
        gate = self.gate
        if gate.healthy:
            return permit
        # A trial is decided by its first content: many answers last longer than a breaker waits for its trials.
        gate.success(permit, now_s, first_token_s)
        return 0

    def succeed(self, permit: int, now_s: float, first_token_s: float, stream: bool, prompt_bytes: int) -> None:
        """An attempt's answer is whole.

        Args:
            permit: from the gate, or what `first_token` made of it.
            now_s: monotonic seconds.
            first_token_s: since the attempt began; for a unary answer the time of all of it.
            stream: whether the answer came in pieces; `first_token` was then told of it before.
            prompt_bytes: size of the request's body.
        """
        self.in_flight -= 1
        self.good += 1
        gate = self.gate
        if stream:
            gate.success(permit, now_s, first_token_s)
            if not gate.healthy:
                self.plain = False
            return
        # As `observe_latency`, whose call would be a tenth of all this.
        if first_token_s < self.latency_s:
            age_s = now_s - self.latency_at_s
            self.latency_s = first_token_s + (self.latency_s - first_token_s) * LATENCY_HALF_S / (
                LATENCY_HALF_S + age_s
            )
        else:
            self.latency_s = first_token_s
        self.latency_at_s = now_s
        # How long a whole answer took says nothing about the endpoint: lengths differ. So it cannot open the gate.
        gate.success(permit, now_s, 0.0)
        if now_s >= self.sample_due_s:
            self._sample(now_s, first_token_s, False, prompt_bytes, self.in_flight + 1)

    def fail(self, permit: int, now_s: float, slow: bool, overload: bool) -> None:
        """An attempt ended in a way that speaks against the endpoint.

        Args:
            permit: from the gate.
            now_s: monotonic seconds.
            slow: no first token came in time.
            overload: it may have had too much to do: it refused, could not be reached, or was too slow.
        """
        self.in_flight -= 1
        self.failures += 1
        self.in_a_row = self.in_a_row + 1 if self.good == self.good_at_failure else 1
        self.good_at_failure = self.good
        self.gate.failure(permit, now_s, slow)
        self.plain = False
        if overload:
            self._drop(now_s)

    def release(self, permit: int, now_s: float, overload: bool = False) -> None:
        """An attempt ended without saying whether the endpoint is well: cancelled, or refused for its own sake.

        Args:
            permit: from the gate.
            now_s: monotonic seconds.
            overload: the endpoint said that it had too much to do, as with 429.
        """
        self.in_flight -= 1
        self.gate.release(permit, now_s)
        if overload:
            self.throttled += 1
            self._drop(now_s)

    def _sample(self, now_s: float, first_token_s: float, stream: bool, prompt_bytes: int, in_flight: int) -> None:
        pace = self.pace
        assert pace is not None, "without a pace no sample is due"
        pace.sample(now_s, first_token_s, stream, prompt_bytes, in_flight)
        self._keep_pace(pace)

    def _drop(self, now_s: float) -> None:
        self.turned_away += 1
        if self.pace is not None:
            self.pace.drop(now_s)
            self._keep_pace(self.pace)

    def _keep_pace(self, pace: Pace) -> None:
        self.sample_due_s = pace.due_s
        limit = pace.limit
        if limit != self.limit:
            self.limit = limit
            # 1.1 of 100 is 110, whatever floats make of it.
            low, middle, high, highest = (max(1, int(limit * share + 1e-9)) for share in SHARES)
            self.rooms = (low, middle, high, highest)

    # What comes to speak against it apart from attempts.

    def throttle(self, until_s: float) -> None:
        """The endpoint asked to be left alone until then, monotonic seconds."""
        self.throttled_until_s = until_s
        self.plain = False

    def misconfigure(self, until_s: float) -> None:
        """The endpoint refuses our credentials; leave it alone until then, monotonic seconds."""
        self.misconfigured_until_s = until_s
        self.plain = False

    def eject(self, until_s: float) -> None:
        """Leave it alone until then, monotonic seconds, because it does worse than the others; 0.0 ends that."""
        self.ejected_until_s = until_s
        self.plain = False

    def hold_back(self, ratio: float) -> None:
        """Hold requests back with this chance, 0.0 to below 1.0."""
        self.refuse_ratio = ratio
        self.plain = False

    def look_again(self) -> None:
        """Something changed its gate, as an operator may."""
        self.plain = False

    def usable(self, now_s: float) -> bool:
        """Whether it may be used now, apart from what the group looks at: room, ejection, what is held back.

        Notes when nothing speaks against it any more.
        """
        if self.throttled_until_s > now_s or self.misconfigured_until_s > now_s:
            return False
        gate = self.gate
        if gate.healthy:
            if self.ejected_until_s <= now_s and not self.refuse_ratio:
                self.permit = gate.acquire(now_s)
                self.plain = True
            return True
        return gate.permits(now_s)

    def observe_latency(self, now_s: float, latency_s: float) -> None:
        """Take a time to first token into account: up at once, down slowly (peak EWMA, as in Finagle).

        Args:
            now_s: monotonic seconds.
            latency_s: > 0.
        """
        known_s = self.latency_s
        if latency_s < known_s:
            age_s = now_s - self.latency_at_s
            latency_s += (known_s - latency_s) * LATENCY_HALF_S / (LATENCY_HALF_S + age_s)
        self.latency_s = latency_s
        self.latency_at_s = now_s

    def inherit(self, former: "Endpoint") -> None:
        """Take over what was learnt under an earlier configuration. Attempts in flight stay with the former one."""
        self.latency_s = former.latency_s
        self.latency_at_s = former.latency_at_s
        self.reported_load = former.reported_load
        self.throttled_until_s = former.throttled_until_s
