"""One step of a load test: so many connections, each asking again as soon as it has its answer, for so long.

What is counted is what ended within the measured time; the step's beginning, while connections are opened, is not.
A closed loop like this one waits for a slow server, so its latencies say nothing about a crowd that would not wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from open_autoglm import clock
from open_autoglm.cli.load.connection import Connection, Question, Sample

FAILURE_PAUSE_S = 0.05
"""After a question that was not answered well, so that a server that refuses is not asked a hundred thousand times."""

WARM_UP = 0.2
"""Share of a step that is not counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step showed.

    Attributes:
        concurrency: connections.
        seconds: measured.
        good: whole answers with status 200.
        failures: everything else, by what it was.
        rate: good answers per second.
        first_p50_ms: from the question to the first byte of the answer's body, half were faster.
        p50_ms, p99_ms: from the question to the answer's end.
        tokens_per_s: as far as the answers told.
        client_cpu: share of one core that this client used.
    """

    concurrency: int
    seconds: float
    good: int
    failures: dict[str, int] = field(default_factory=dict)
    rate: float = 0.0
    first_p50_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    tokens_per_s: float = 0.0
    client_cpu: float = 0.0

    @property
    def failed(self) -> int:
        """Questions that were not answered well."""
        return sum(self.failures.values())


async def run_step(question: Question, concurrency: int, seconds: float, timeout_s: float) -> Step:
    """Ask for `seconds`, with `concurrency` connections.

    Args:
        question: what is asked.
        concurrency: connections, at least 1.
        seconds: of the whole step; the first `WARM_UP` of it is not counted.
        timeout_s: for one answer.
    """
    start_s = clock.monotonic()
    measured_s, end_s = start_s + WARM_UP * seconds, start_s + seconds
    samples: list[Sample] = []
    cpu_s = clock.cpu()

    async def ask_until_the_end() -> None:
        connection = Connection(question, timeout_s)
        while clock.monotonic() < end_s:
            sample = await connection.ask()
            if measured_s <= sample.end_s <= end_s:
                samples.append(sample)
            if not sample.good:
                await asyncio.sleep(FAILURE_PAUSE_S)
        await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(ask_until_the_end())
    cpu_share = (clock.cpu() - cpu_s) / max(clock.monotonic() - start_s, 1e-9)
    return summarize(concurrency, end_s - measured_s, samples, cpu_share)


def summarize(concurrency: int, seconds: float, samples: Sequence[Sample], client_cpu: float) -> Step:
    """Turn samples into figures."""
    good = [sample for sample in samples if sample.good]
    failures = Counter(sample.failure or f"status {sample.status}" for sample in samples if not sample.good)
    totals_ms = sorted((sample.end_s - sample.start_s) * 1000 for sample in good)
    firsts_ms = sorted((sample.first_s - sample.start_s) * 1000 for sample in good)
    return Step(
        concurrency=concurrency,
        seconds=seconds,
        good=len(good),
        failures=dict(failures),
        rate=len(good) / seconds,
        first_p50_ms=quantile(firsts_ms, 0.5),
        p50_ms=quantile(totals_ms, 0.5),
        p99_ms=quantile(totals_ms, 0.99),
        tokens_per_s=sum(sample.tokens for sample in good) / seconds,
        client_cpu=client_cpu,
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the smallest of ordered values that a share `q` of them do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(max(-int(-q * len(ordered) // 1) - 1, 0), len(ordered) - 1)]
