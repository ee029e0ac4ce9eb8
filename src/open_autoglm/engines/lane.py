"""One live version in an engine: its model, its cache, and the requests that it computes.

| a request is | its keys and values are |
|---|---|
| in `waiting` | nowhere: nothing of its prompt was read by this version |
| `partly` | in the last row: its prompt is longer than a piece, and read piece by piece |
| `rows[i]` | in row `i`: its prompt was read, and every pass gives it a token |

Invariant: rows are packed from 0, and there are never more requests than slots, so the last row is free for `partly`.
`bound` counts the requests that are pinned to the version, wherever they are; it is guarded by the engine's lock,
everything else belongs to the engine's thread.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

from open_autoglm.engines import sampling
from open_autoglm.engines.events import GenerateEvent, GenerateRequest, Span, Usage
from open_autoglm.engines.model_engine import Deliver, Policy
from open_autoglm.engines.step_model import Logits, Prompt, StepModel
from open_autoglm.engines.token_scores import ScoredReader
from open_autoglm.errors import RequestError


class Lane:
    """A version that runs.

    Args:
        model: the version.
        slots: most rows.
    """

    __slots__ = ("bound", "cache", "drain_by_s", "last_row", "model", "partly", "policy", "rows", "waiting")

    def __init__(self, model: StepModel, slots: int) -> None:
        self.model = model
        self.cache: Any = model.new_cache(slots)
        self.last_row = slots - 1
        self.rows: list[Job] = []
        self.partly: Job | None = None
        self.waiting: list[Job] = []
        self.bound = 0
        self.policy: Policy = "pin"  # what becomes of those that run, once another version is current
        self.drain_by_s = 0.0

    def jobs(self) -> list[Job]:
        """All requests that are here."""
        return [*self.rows, *([] if self.partly is None else [self.partly]), *self.waiting]

    def short(self) -> list[Job]:
        """Those that wait and can be read whole in the next pass, in order: as many as a piece has tokens, padded."""
        most = self.model.piece_tokens or math.inf
        found: list[Job] = []
        longest = 0
        for job in self.waiting:
            size = len(job.tokens)
            if size > most:
                continue
            longest = max(longest, size)
            if found and (len(found) + 1) * longest > most:
                break
            found.append(job)
        return found

    def long(self) -> Job | None:
        """The one whose prompt is read piece by piece: the first that waits, when there is none yet."""
        most = self.model.piece_tokens or math.inf
        if self.partly is None:
            self.partly = next((job for job in self.waiting if len(job.tokens) > most), None)
            if self.partly is not None:
                self.waiting.remove(self.partly)
        return self.partly

    def enter(self, jobs: list[Job]) -> int:
        """Give requests that wait the next rows; return the first of these."""
        first = len(self.rows)
        self.rows.extend(jobs)
        self.waiting = [job for job in self.waiting if job not in jobs]
        return first

    def complete(self, job: Job) -> None:
        """Give the one that was read piece by piece the next row."""
        assert job is self.partly
        if len(self.rows) != self.last_row:
            self.cache.move(self.last_row, len(self.rows), job.length)
        self.rows.append(job)
        self.partly = None

    def release(self, job: Job) -> None:
        """Free a request's place, if it has one: the last row moves into it."""
        if job is self.partly:
            self.partly = None
        elif job in self.waiting:
            self.waiting.remove(job)
        elif job in self.rows:
            row = self.rows.index(job)
            last = self.rows.pop()
            if last is not job:
                self.cache.move(len(self.rows), row, last.length)
                self.rows[row] = last

    def clear(self) -> None:
        """Free all places at once; nothing is moved."""
        self.rows.clear()
        self.waiting.clear()
        self.partly = None


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
        length: tokens in the cache of `lane`.
        reserved_bytes: of memory.
        told: whether an event was delivered.
        held: events that are kept until the end.
        since: first token of the answer that `lane` computed.
        spans: which other versions computed the tokens before.
        scored: the prompt's reader, where the request asks how likely each token is.
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
    scored: ScoredReader | None = None

    def begin(self, model: StepModel, prompt: Prompt) -> None:
        """Start with a version of the model, from nothing.

        Raises:
            RequestError: `unsupported_parameter`, this version cannot say how likely its tokens are.
        """
        self.model, self.prompt = model, prompt
        top = self.request.top_logprobs
        if top is not None:
            if prompt.spell is None:
                message = f"{model.name!r} cannot say how likely its tokens are; leave logprobs out"
                raise RequestError("unsupported_parameter", message, param="logprobs")
            self.scored = prompt.reader = ScoredReader(prompt.reader, prompt.spell, top)
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

    def usage_of_answer(self) -> Usage:
        """Of a request that the model need not be asked."""
        return Usage(len(self.prompt.tokens), self.prompt.answer_tokens, self.model.version)

    def memory_bytes(self) -> int:
        """Bytes that the cache takes for it at the end, at most."""
        return self.model.memory_bytes(len(self.prompt.tokens) + self.tokens_max)

    def is_late(self, now_s: float) -> bool:
        """Whether its deadline has passed."""
        return self.request.deadline_s is not None and now_s >= self.request.deadline_s


def chosen_tokens(jobs: list[Job], logits: Logits) -> list[int]:
    """The next token of each request, by its row of the logits, which are overwritten."""
    for job, row in zip(jobs, logits, strict=True):
        if job.scored is not None:
            job.scored.look(row)
        allowed = job.prompt.constraint.allowed() if job.prompt.constraint is not None else None
        if allowed is not None:
            sampling.restrict(row, allowed)
    tokens: list[int] = logits.argmax(axis=1).tolist()
    for index, job in enumerate(jobs):
        asked = job.request
        if asked.temperature > 0.0:
            tokens[index] = sampling.sample(logits[index], asked.temperature, asked.top_p, job.source)
    return tokens
