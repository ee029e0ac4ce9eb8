"""How an attempt can end, and what follows from each ending: the retry table as data.

| word | meaning |
|---|---|
| ok | a whole answer |
| stale | a pooled connection was found closed and nothing was processed |
| connect | refused, timed out, TLS failure, or reset before the head |
| unavailable | 502, 503, 504, 529, or an overload error inside a 200, before content |
| failed | 500 and other 5xx |
| throttled | 429 |
| slow | no first token in time |
| malformed | an answer that is none, before content |
| too_long | 400 because the prompt exceeds the endpoint's context |
| refused | any other 4xx that concerns the request itself |
| unsupported | not sent: the endpoint's dialect or its model cannot express the request |
| undecided | the members of a virtual model came to no answer |
| unknown_model | 404 because the endpoint does not have the model |
| misconfigured | 401 or 403: our credentials there are wrong |
| interrupted | broke after content had been passed on: cut, stalled, malformed, in-band error |
| cancelled | the client left, or another attempt won |
| deadline | the request's own time ran out |
"""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "ok",
    "stale",
    "connect",
    "unavailable",
    "failed",
    "throttled",
    "slow",
    "malformed",
    "too_long",
    "refused",
    "unsupported",
    "undecided",
    "unknown_model",
    "misconfigured",
    "interrupted",
    "cancelled",
    "deadline",
]

Verdict = Literal["success", "failure", "none"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an outcome.

    Attributes:
        other: other endpoints that may be tried because of it: `yes`, `once`, or `no`.
        same: whether the group may be used again after backoff, when every endpoint has been tried.
        verdict: what the endpoint's breaker is told.
        code: the error that the client gets when nothing else is left.
        overload: whether the endpoint may have had too much to do: it gets fewer requests for a while.
    """

    other: Literal["yes", "once", "no"]
    same: bool
    verdict: Verdict
    code: str
    overload: bool = False

    @property
    def costs_budget(self) -> bool:
        """Whether a repeat could add to an outage, so that the retry budget has a say in it."""
        return self.verdict == "failure" or self.overload


RULES: dict[str, Rule] = {
    "ok": Rule("no", False, "success", ""),
    "stale": Rule("yes", True, "none", "upstream_error"),
    "connect": Rule("yes", True, "failure", "upstream_error", overload=True),
    "unavailable": Rule("yes", True, "failure", "upstream_error", overload=True),
    "failed": Rule("once", True, "failure", "upstream_error"),
    "throttled": Rule("yes", True, "none", "rate_limit_exceeded", overload=True),
    "slow": Rule("yes", True, "failure", "deadline_exceeded", overload=True),
    "malformed": Rule("yes", True, "failure", "upstream_error"),
    "too_long": Rule("once", False, "none", "context_length_exceeded"),
    "refused": Rule("no", False, "none", "invalid_request"),
    "unsupported": Rule("yes", False, "none", "unsupported_parameter"),
    "undecided": Rule("yes", False, "none", "no_quorum"),
    "unknown_model": Rule("once", False, "none", "upstream_error"),
    "misconfigured": Rule("yes", False, "none", "upstream_error"),
    "interrupted": Rule("no", False, "failure", "stream_interrupted"),
    "cancelled": Rule("no", False, "none", "client_closed"),
    "deadline": Rule("no", False, "none", "deadline_exceeded"),
}
