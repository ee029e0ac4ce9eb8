"""Settings of admission: how long requests may wait, and when waiting has become congestion."""

from typing import Annotated

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Seconds


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
    congested_wait_s: Seconds = field(default=0.05, name="congested_wait")
    key_queue: Annotated[int, Meta(ge=1, le=10_000)] = 100
    key_age_s: Seconds = field(default=30.0, name="key_age")
