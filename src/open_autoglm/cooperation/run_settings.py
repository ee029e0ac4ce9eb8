"""What may be written of durable runs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Bytes, Seconds
from open_autoglm.scheduling.run_account import RunBudget

Many = Annotated[int, Meta(ge=1, le=1_000_000)]


class RunSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Task graphs that outlive the process: see `docs/how-to/task-graphs.md`.

    Attributes:
        in_flight: runs that go on at once; further ones wait in the journal. Runs that wait for a person do not count.
        steps: tasks of one run that are performed at once.
        step_timeout_s: longest time of one try of a task that does not say its own.
        timeout_s: longest time of a run, waiting for people included.
        keep_s: runs that ended earlier are deleted from the journal.
        keep: so many of the runs that ended are kept, the newest.
        file_bytes: longest journal; further events are refused with `storage_full`.
        budget: what a run may spend whose document says nothing; a document may say less, and not more.
        sweep_s: how often it is looked for runs that another process left.
    """

    in_flight: Many = 200
    steps: Many = 16
    step_timeout_s: Seconds = field(default=60.0, name="step_timeout")
    timeout_s: Seconds = field(default=7 * 86_400.0, name="timeout")
    keep_s: Seconds = field(default=30 * 86_400.0, name="keep_for")
    keep: Many = 100_000
    file_bytes: Bytes = 4 * 2**30
    budget: RunBudget = RunBudget()
    sweep_s: Seconds = field(default=5.0, name="sweep")
