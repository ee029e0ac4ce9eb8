"""What an exchange may spend: time, attempts, and what it does when a stream breaks."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Bytes, Ratio, Seconds


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of time, for unary answers and streams alike; the earliest of them ends an attempt.

    Attributes:
        connect_s: to open a connection to an endpoint.
        first_token_hedge_s: without a first token after this, a second endpoint is tried beside the first.
        first_token_s: from sending the request to the first content of an answer.
        gap_s: between two pieces of an answer.
        total_s: from the arrival of a request to the end of its answer, over all attempts.
    """

    connect_s: Seconds = field(default=1.0, name="connect")
    first_token_hedge_s: Seconds = field(default=12.0, name="first_token_hedge")
    first_token_s: Seconds = field(default=60.0, name="first_token")
    gap_s: Seconds = field(default=30.0, name="gap")
    total_s: Seconds = field(default=600.0, name="total")


class Retries(Struct, frozen=True, forbid_unknown_fields=True):
    """How often an answer is tried again.

    Attributes:
        max: retries over all endpoints of a group; attempts are one more. A fallback group starts with its own.
        budget_ratio: retries allowed per request that succeeds, so that retries cannot multiply an outage.
    """

    max: Annotated[int, Meta(ge=0, le=20)] = 2
    budget_ratio: Ratio = 0.1


class Hedging(Struct, frozen=True, forbid_unknown_fields=True):
    """A second attempt beside a first one that is slow among its peers; streams by their first token.

    Without it a second attempt is started only after `timeouts.first_token_hedge`. Clients that forbid repeats get
    neither.

    Attributes:
        enabled: off unless asked for, since hedges are paid for; also per model, as `hedged`.
        quantile: the first attempt is slow when it takes longer than this share of its model's latest answers.
        max_ratio: hedges per answered request, at most.
        delay_min_s: no hedge before that.
        spend_per_hour: what the hedges of one model may cost in any hour, in the currency of the prices, as estimated
            from `price` and the size of prompts; 0 for no such limit.
    """

    enabled: bool = False
    quantile: Ratio = 0.95
    max_ratio: Ratio = 0.02
    delay_min_s: Seconds = field(default=0.05, name="delay_min")
    spend_per_hour: Annotated[float, Meta(ge=0)] = 0.0


StreamFailure = Literal["terminate", "continue"]
"""What happens when a stream breaks after content: an error event, or another endpoint goes on with the text."""


class AnswerLimits(Struct, frozen=True):
    """What one upstream may send back.

    Attributes:
        response_bytes: of a unary answer.
        stream_bytes: of a streamed answer.
    """

    response_bytes: Bytes = 64 * 2**20
    stream_bytes: Bytes = 256 * 2**20
