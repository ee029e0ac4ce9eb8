"""Settings of admission: how long requests may wait, when the server has too much, and which sources are unusual."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Bytes, Ratio, Seconds

WhenExceeded = Literal["refuse", "wait"]
"""What becomes of a request beyond its key's limits: 429 at once, or it waits its turn."""


class AdmissionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How requests wait for room at their model's endpoints, and for their key's rate.

    Attributes:
        queue_age_s: a request waits so long for room, and a quarter of its remaining time at most.
        burst_s: a line that has not been empty for so long, and that refuses somebody, is no burst but congestion.
        congested_wait_s: in congestion only as many wait as are served within this time; others are refused at once.
        key_queue: requests that may wait for the rate of one key whose `when_exceeded` is `wait`.
        key_age_s: a request waits so long for its key's rate, and half of its remaining time at most.
    """

    queue_age_s: Seconds = field(default=1.0, name="queue_age")
    burst_s: Seconds = field(default=1.0, name="burst")
    congested_wait_s: Seconds = field(default=0.1, name="congested_wait")
    key_queue: Annotated[int, Meta(ge=1, le=10_000)] = 100
    key_age_s: Seconds = field(default=30.0, name="key_age")


class OverloadSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """When the server has too much to do, in three stages; looked at four times a second.

    Attributes:
        enabled: whether it is looked at.
        memory: what the process may use; the limit of its control group, or the machine's memory, when left out.
        soft: of memory or descriptors: from here on answers close their connections and caches are halved.
        hard: of memory or descriptors: from here on only requests of class critical and above are served.
        full: of memory or descriptors: from here on no connection is accepted.
        lag_soft_s: the event loop is late by so much: caches are halved; connections stay open.
        lag_hard_s: the event loop is late by so much: as with `hard`.
        lag_full_s: the event loop is late by so much, twice in a row: as with `full`.
    """

    enabled: bool = True
    memory: Bytes | None = None
    soft: Ratio = 0.80
    hard: Ratio = 0.90
    full: Ratio = 0.95
    lag_soft_s: Seconds = field(default=0.05, name="lag_soft")
    lag_hard_s: Seconds = field(default=0.25, name="lag_hard")
    lag_full_s: Seconds = field(default=1.0, name="lag_full")


class SourceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys and addresses behave unusually, and are slowed down for it.

    Attributes:
        enabled: whether it is looked at.
        failures: failed authentications of an address in a minute; from here on it has to wait.
        loopback: whether addresses of this machine are looked at as well.
        refused_share: share of a key's requests answered with 4xx but 429.
        refused_requests: requests of a key in a minute before that share is looked at.
        rate_factor: a key's rate over the last minute as a multiple of its mean over an hour.
        rate_min: requests per second of a key below which no rate is unusual.
    """

    enabled: bool = True
    failures: Annotated[int, Meta(ge=1, le=100_000)] = 10
    loopback: bool = False
    refused_share: Ratio = 0.90
    refused_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    rate_factor: Annotated[float, Meta(ge=1.0, le=1e6)] = 10.0
    rate_min: Annotated[float, Meta(ge=0.1, le=1e6)] = 50.0
