"""One live version in an engine: its model, its cache, and the requests in its rows.

Invariant: `rows[i]` is the request whose keys and values are in row `i` of the cache; rows are packed. `bound` counts
the requests that are pinned to the version, those on their way into a row included; it is guarded by the engine's
lock, everything else belongs to the engine's thread.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from open_autoglm.engines import sampling
from open_autoglm.engines.events import GenerateEvent, GenerateRequest, Span, Usage
from open_autoglm.engines.model_engine import Deliver, Policy
from open_autoglm.engines.step_model import Logits, Prompt, StepModel


class Lane:
    """A version that runs.

    Args:
        model: the version.
        slots: most rows.
    """

    __slots__ = ("bound", "cache", "drain_by_s", "model", "policy", "rows")

    def __init__(self, model: StepModel, slots: int) -> None:
        self.model = model
        self.cache: Any = model.new_cache(slots)
        self.rows: list[Job] = []
        self.bound = 0
        self.policy: Policy = "pin"  # what becomes of those that run, once another version is current
        self.drain_by_s = 0.0

    def release(self, job: Job) -> None:
        """Free a request's row, if it has one: the last row moves into its place."""
        if job not in self.rows:
            return
        row = self.rows.index(job)
        last = self.rows.pop()
        if last is not job:
            self.cache.move(len(self.rows), row, last.length)
            self.rows[row] = last


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way through an engine.

    Attributes:
        handle, request, deliver: as given.
        model: that `prompt` was made by.
        prompt: of the request.
        tokens_max: most tokens of the answer.
        source: chance, for sampling.
        lane: that computes it; None while it waits.
        tokens: prompt and answer so far; the last one was chosen and not yet read by the model.
        written: tokens of the answer.
        length: tokens in the cache.
        reserved_bytes: of memory.
        told: whether an event was delivered.
        held: events that are kept until the end.
        since: first token of the answer that `lane` computed.
        spans: which other versions computed the tokens before.
    """

    handle: int
    request: GenerateRequest
    deliver: Deliver
    model: StepModel
    prompt: Prompt
    tokens_max: int
    source: random.Random
    lane: Lane | None = None
    tokens: list[int] = field(default_factory=list)
    written: int = 0
    length: int = 0
    reserved_bytes: int = 0
    told: bool = False
    held: list[GenerateEvent] = field(default_factory=list)
    since: int = 0
    spans: list[Span] = field(default_factory=list)

    def begin(self, model: StepModel, prompt: Prompt) -> None:
        """Start with a version of the model, from nothing."""
        self.model, self.prompt = model, prompt
        room = model.context - len(prompt.tokens)
        wanted = self.request.max_tokens
        self.tokens_max = room if wanted is None else min(wanted, room)
        self.tokens = list(prompt.tokens)
        self.written = self.length = self.since = 0
        self.held, self.spans = [], []

    def follow(self, model: StepModel) -> bool:
        """Go on with another version; say whether that is possible."""
        if model.tokenizer != self.model.tokenizer or len(self.tokens) >= model.context:
            return False
        self.end_span()
        self.model = model
        self.tokens_max = min(self.tokens_max, model.context - len(self.prompt.tokens))
        self.length = 0
        return True

    def end_span(self) -> None:
        """Note which version computed the tokens since the last span."""
        if self.written > self.since:
            self.spans.append(Span(self.model.version, self.since, self.written))
            self.since = self.written

    def usage(self) -> Usage:
        """What was read and written so far, and by which versions."""
        spans: tuple[Span, ...] = ()
        if self.spans:
            self.end_span()
            spans = tuple(self.spans)
        return Usage(len(self.prompt.tokens), self.written, self.model.version, spans)

    def memory_bytes(self) -> int:
        """Bytes that the cache takes for it at the end, at most."""
        return self.model.memory_bytes(len(self.prompt.tokens) + self.tokens_max)

    def is_late(self, now_s: float) -> bool:
        """Whether its deadline has passed."""
        return self.request.deadline_s is not None and now_s >= self.request.deadline_s


def chosen_tokens(jobs: list[Job], logits: Logits) -> list[int]:
    """The next token of each request, by its row of the logits, which are overwritten."""
    for job, row in zip(jobs, logits, strict=True):
        allowed = job.prompt.constraint.allowed() if job.prompt.constraint is not None else None
        if allowed is not None:
            sampling.restrict(row, allowed)
    tokens: list[int] = logits.argmax(axis=1).tolist()
    for index, job in enumerate(jobs):
        asked = job.request
        if asked.temperature > 0.0:
            tokens[index] = sampling.sample(logits[index], asked.temperature, asked.top_p, job.source)
    return tokens
