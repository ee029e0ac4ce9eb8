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


class ConcurrencySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How many attempts may run at one endpoint at once: a limit that is found by watching its first tokens.

    Attributes:
        enabled: whether there is such a limit.
        start: of an endpoint of which nothing is known; high, for an unknown endpoint is not a slow one.
        min: the limit never falls below it.
        max: nor rises above it.
        tolerance: the limit shrinks when first tokens take longer than this many times what is expected.
        smoothing: share of the step that the limit grows by at once.
    """

    enabled: bool = True
    start: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    min: Annotated[int, Meta(ge=1, le=1_000_000)] = 4
    max: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    tolerance: Annotated[float, Meta(ge=1.1, le=100)] = 1.5
    smoothing: Annotated[float, Meta(gt=0, le=1)] = 0.2


class OutlierSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When an endpoint that does worse than the others of its group gets no requests for a while.

    Attributes:
        enabled: whether endpoints are compared at all.
        interval_s: between two comparisons.
        failures: failures in a row, over no less than one comparison, that eject.
        success_rate_min_endpoints: endpoints with enough requests before success rates are compared.
        success_rate_min_requests: requests of an endpoint between two comparisons before its rate counts.
        success_rate_deviations: an endpoint is ejected when its rate is so many standard deviations below the mean.
        failure_ratio: share of failures that ejects, whatever the others do.
        failure_min_requests: requests between two comparisons before that share is looked at.
        ejection_s: how long the first time; so much longer each time.
        ejection_max_s: at most.
        max_ratio: share of a group that may be ejected at once; one endpoint always may, the last never.
    """

    enabled: bool = True
    interval_s: Seconds = field(default=10.0, name="interval")
    failures: Annotated[int, Meta(ge=1, le=1000)] = 5
    success_rate_min_endpoints: Annotated[int, Meta(ge=2, le=1000)] = 5
    success_rate_min_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    success_rate_deviations: Annotated[float, Meta(gt=0, le=100)] = 1.9
    failure_ratio: Ratio = 0.85
    failure_min_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    ejection_s: Seconds = field(default=30.0, name="ejection")
    ejection_max_s: Seconds = field(default=60.0, name="ejection_max")
    max_ratio: Ratio = 0.5


class ThrottlingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests are held back from an endpoint that turns many away.

    Attributes:
        enabled: whether they are.
        window_s: answers so old still count.
        factor: requests may be so many times those that were accepted before any is held back.
    """

    enabled: bool = True
    window_s: Seconds = field(default=120.0, name="window")
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0


class HealthSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How endpoints that are away are looked after, without asking a model anything.

    Attributes:
        enabled: whether they are.
        interval_s: between two looks at one endpoint.
        timeout_s: for one look.
    """

    enabled: bool = True
    interval_s: Seconds = field(default=5.0, name="interval")
    timeout_s: Seconds = field(default=2.0, name="timeout")


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
