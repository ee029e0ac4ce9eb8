"""Settings of the mechanisms that protect endpoints and keys."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from open_autoglm.quantities import Count, Ratio, Seconds

BreakerProfile = Literal["adaptive", "classic"]


class BreakerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When an endpoint is given a rest. A field that is left out takes the value of the profile.

    Attributes:
        profile: `adaptive` looks at a window of calls; `classic` counts consecutive failures only.
        failures: consecutive failures that open the breaker (both profiles: 5).
        open_s: how long it stays open the first time (adaptive: 5 s, doubled each time up to 30 s; classic: always
            10 s).
        probes: trial calls while half open (adaptive: 3; classic: 1).
        window_calls: calls in the window (adaptive: 100).
        window_s: age of the oldest call in the window (adaptive: 30 s).
        min_calls: calls before ratios are looked at (adaptive: 20).
        failure_ratio: share of failures in the window that opens (adaptive: 0.5).
        slow_ratio: share of slow calls in the window that opens (adaptive: 0.8).
    """

    profile: BreakerProfile = "adaptive"
    failures: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET
    open_s: Seconds | UnsetType = field(default=UNSET, name="open")
    probes: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    window_calls: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    window_s: Seconds | UnsetType = field(default=UNSET, name="window")
    min_calls: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    failure_ratio: Ratio | UnsetType = UNSET
    slow_ratio: Ratio | UnsetType = UNSET


class KeyLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one key may ask for. Zero means no limit.

    Attributes:
        requests_per_second: refill of the key's token bucket.
        burst: size of the bucket; requests that may come at once.
        requests_per_minute: over a sliding window of 60 s, beside the bucket.
        concurrency: requests in flight.
    """

    requests_per_second: Annotated[float, Meta(ge=0)] = 100.0
    burst: Count = 100
    requests_per_minute: Count = 0
    concurrency: Count = 0
