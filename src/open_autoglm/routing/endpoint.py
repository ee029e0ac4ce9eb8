"""An address that answers for a model, with what is known of it from moment to moment.

The configured part never changes; a changed configuration makes a new endpoint, which inherits what was learnt.
An endpoint belongs to one group.
"""

from open_autoglm.routing.gate import Gate

LATENCY_HALF_S = 10.0
"""A latency so old counts half."""

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
        extra: the owner's; routing does not look at it.
        in_flight: attempts running; the owner counts up and down.
        latency_s, latency_at_s: time to the first token as `observe_latency` left it, 0.0 while unknown; and when.
        reported_load: requests that the endpoint says it has beside ours, >= 0; the owner sets it.
        throttled_until_s: it asked to be left alone until then; the owner sets it.
        misconfigured_until_s: it refuses our credentials and is left alone until then; the owner sets it.
        credit, turn, seed: the balancer's: whose turn it is, and 64 bits for hashing.
    """

    __slots__ = (
        "context_window",
        "credit",
        "extra",
        "gate",
        "in_flight",
        "latency_at_s",
        "latency_s",
        "misconfigured_until_s",
        "model",
        "name",
        "price",
        "price_in",
        "price_out",
        "reported_load",
        "seed",
        "throttled_until_s",
        "turn",
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
        self.gate = gate
        self.extra = extra
        self.in_flight = 0
        self.latency_s = 0.0
        self.latency_at_s = 0.0
        self.reported_load = 0.0
        self.throttled_until_s = 0.0
        self.misconfigured_until_s = 0.0
        self.credit = 0.0
        self.turn = 0.0
        self.seed = 0

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

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
