"""Continuous batching: one thread runs one model for all requests at once.

Invariant: every submitted request that is not cancelled gets exactly one ending, `Finish` and `Usage` or
`Failed`, whatever happens to the model, the engine or the other requests. Between two forward passes requests
join (their prompts are read together), leave, are cancelled or run out of time; rows of the key-value cache
stay packed. Source of the scheduling: Orca (Yu et al., 2022), iteration-level batching.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from open_autoglm.clock import monotonic
from open_autoglm.engines import sampling
from open_autoglm.engines.embedded import chat, tokenizer
from open_autoglm.engines.embedded.chat import Failed, GenerateEvent, GenerateRequest, PreparedPrompt, Usage
from open_autoglm.engines.embedded.constraint import CopyConstraint, EchoConstraint
from open_autoglm.engines.embedded.model import GlmModel, KvCache
from open_autoglm.engines.embedded.weights import Array
from open_autoglm.errors import ServerError
from open_autoglm.ids import IdSource

SLOTS_MAX: Final = 16  # beyond this a batch gains little on one core, and the cache grows
QUEUE_MAX: Final = 65_536
CLOSE_TIMEOUT_S: Final = 5.0  # a forward pass takes milliseconds; longer means that the thread is lost
RETRY_AFTER_S: Final = 1.0

Deliver = Callable[[list[GenerateEvent]], None]


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Figures of an engine.

    Attributes:
        queued: requests that wait for a slot.
        running: requests that hold one.
        tokens_total: tokens written since the start.
        passes_total: forward passes since the start.
        failures_total: passes that failed, and deliveries that raised.
    """

    queued: int
    running: int
    tokens_total: int
    passes_total: int
    failures_total: int


@dataclass(slots=True, eq=False)
class _Job:
    """A request on its way through the engine."""

    handle: int
    request: GenerateRequest
    prepared: PreparedPrompt
    deliver: Deliver
    reader: chat.ReplyReader
    source: random.Random
    constraint: CopyConstraint | EchoConstraint | None
    tokens_max: int
    written: int = 0
    length: int = 0  # tokens in the cache
    next_token: int = 0  # chosen, not yet read by the model

    @property
    def greedy(self) -> bool:
        return self.request.temperature <= 0.0


class Engine:
    """Runs one model in a thread of its own.

    Args:
        model: the model; its `weights` may be replaced while the engine runs.
        slots: requests per forward pass, 1 to 16.
        queue_max: requests that may wait, 1 to 65,536; the next one is refused.
    """

    def __init__(self, model: GlmModel, *, slots: int = 4, queue_max: int = 256) -> None:
        if not 1 <= slots <= SLOTS_MAX:
            raise ValueError(f"slots is {slots!r}; it must be 1 to {SLOTS_MAX}")
        if not 1 <= queue_max <= QUEUE_MAX:
            raise ValueError(f"queue_max is {queue_max!r}; it must be 1 to {QUEUE_MAX}")
        self.model = model
        self._slots = slots
        self._queue_max = queue_max
        self._ids = IdSource()
        self._handles = itertools.count(1)
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()  # the next four fields are guarded by `_changed`
        self._cancelled: set[int] = set()
        self._live: set[int] = set()
        self._closed = False
        self._cache = KvCache(model.config, slots)  # this and what follows belong to the thread
        self._active: list[_Job] = []
        self._tokens_total = 0
        self._passes_total = 0
        self._failures_total = 0
        self._thread = threading.Thread(target=self._run, name=f"embedded-{model.abilities.name}", daemon=True)

    def start(self) -> None:
        """Starts the thread; once."""
        self._thread.start()

    def close(self) -> None:
        """Fails what is still there with `server_draining` and joins the thread, for 5 s at most.

        Raises:
            ServerError: `internal_error`, when the thread does not end.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is None:
            self._end_all("server_draining", "the model is being stopped; send the request again")
            return
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise ServerError("internal_error", f"the engine's thread did not end within {CLOSE_TIMEOUT_S} s")

    def submit(self, request: GenerateRequest, deliver: Deliver) -> int:
        """Takes a request; thread safe, does not wait.

        Args:
            request: what is asked.
            deliver: called in the engine's thread with the next events, at most once per forward pass; it
                must not block.

        Returns:
            Handle for `cancel`.

        Raises:
            RequestError: the request cannot be served by this model.
            ServerError: `overloaded` when the queue is full, `server_draining` after `close`.
        """
        config, abilities = self.model.config, self.model.abilities
        prepared = chat.prepare(request, abilities, config.context)
        handle = next(self._handles)
        room = config.context - len(prepared.tokens)
        job = _Job(
            handle,
            request,
            prepared,
            deliver,
            reader=chat.ReplyReader(prepared, request.stop, self._new_call_id),
            source=random.Random(handle if request.seed is None else request.seed),
            constraint=chat.constraint_of(prepared),
            tokens_max=room if request.max_tokens is None else min(request.max_tokens, room),
        )
        with self._changed:
            if self._closed:
                raise ServerError("server_draining", "the model is being stopped; send the request again")
            if len(self._queue) >= self._queue_max:
                raise ServerError(
                    "overloaded",
                    f"{self._queue_max} requests wait for {abilities.name!r} already; try again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._queue.append(job)
            self._live.add(handle)
            self._changed.notify()
        return handle

    def cancel(self, handle: int) -> None:
        """Drops a request; no event follows, but one may be on its way. Thread safe; twice is once."""
        with self._changed:
            if handle in self._live:
                self._cancelled.add(handle)
                self._changed.notify()

    def load(self) -> EngineLoad:
        """Figures of this moment; thread safe."""
        with self._changed:
            return EngineLoad(
                len(self._queue),
                len(self._active),
                self._tokens_total,
                self._passes_total,
                self._failures_total,
            )

    def _new_call_id(self) -> str:
        return f"call_{self._ids.trace_id()[-24:]}"

    # ---- the thread

    def _run(self) -> None:
        """Passes until closed; the outermost loop, which turns any failure into events."""
        while True:
            admitted = self._next_work()
            if admitted is None:
                break
            try:
                self._pass(admitted)
            except Exception as error:  # the requests in this pass must hear of it, whatever it is
                self._failures_total += 1
                self._fail_active(f"the model failed ({type(error).__name__}); send the request again")
        self._end_all("server_draining", "the model is being stopped; send the request again")

    def _next_work(self) -> list[_Job] | None:
        """Waits for work, drops what is cancelled or too late, and admits; None when closed."""
        with self._changed:
            while not (self._queue or self._active or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            cancelled, self._cancelled = self._cancelled, set()
            if cancelled:
                self._queue = deque(job for job in self._queue if job.handle not in cancelled)
                self._live -= cancelled
            admitted: list[_Job] = []
            gone = [job for job in self._active if job.handle in cancelled]
            free = self._slots - len(self._active) + len(gone)
            while self._queue and len(admitted) < free:
                admitted.append(self._queue.popleft())
        for job in gone:
            self._release(job)
        self._drop_late(admitted)
        return admitted

    def _drop_late(self, admitted: list[_Job]) -> None:
        """Ends what is past its deadline: the running, the admitted and the waiting."""
        now_s = monotonic()
        with self._changed:
            waiting = [job for job in self._queue if _is_late(job, now_s)]
            if waiting:
                self._queue = deque(job for job in self._queue if not _is_late(job, now_s))
        late = [job for job in (*self._active, *admitted) if _is_late(job, now_s)]
        for job in (*late, *waiting):
            self._end(job, [Failed("deadline_exceeded", "the deadline passed before the answer was complete")])
            if job in admitted:
                admitted.remove(job)

    def _pass(self, admitted: list[_Job]) -> None:
        """Reads the prompts of what was admitted, then one more token of everything that runs."""
        asked = []
        for job in admitted:
            if job.prepared.guarded is not None:
                self._end(job, chat.guarded_events(job.prepared.guarded, len(job.prepared.tokens)))
            else:
                asked.append(job)
        if asked:
            first_row = len(self._active)
            self._active.extend(asked)
            logits = self.model.prefill(self._cache, first_row, [job.prepared.tokens for job in asked])
            for job in asked:
                job.length = len(job.prepared.tokens)
            self._choose(asked, logits)
        if self._active:
            running = list(self._active)
            tokens = np.array([job.next_token for job in running])
            logits = self.model.decode(self._cache, tokens, np.array([job.length for job in running]))
            for job in running:
                job.length += 1
            self._choose(running, logits)

    def _choose(self, jobs: list[_Job], logits: Array) -> None:
        """Takes one token for each job from its row of the logits, and tells the requests."""
        self._passes_total += 1
        self._tokens_total += len(jobs)
        for job, row in zip(jobs, logits, strict=True):
            allowed = job.constraint.allowed() if job.constraint is not None else None
            if allowed is not None:
                sampling.restrict(row, allowed)
        best = logits.argmax(axis=1).tolist()
        for index, job in enumerate(jobs):
            token = best[index]
            if not job.greedy:
                token = sampling.sample(logits[index], job.request.temperature, job.request.top_p, job.source)
            self._take(job, token)

    def _take(self, job: _Job, token: int) -> None:
        """One more token of a request: its events, and whether it was the last."""
        job.next_token = token
        job.written += 1
        if token == tokenizer.EOS:
            self._finish(job, "stop", [])
            return
        if job.constraint is not None:
            job.constraint.push(token)
        events = job.reader.push(token)
        if job.reader.stopped:
            self._finish(job, "stop", events)
        elif job.written >= job.tokens_max:
            self._finish(job, "length", events)
        elif events:
            self._deliver(job, events)

    def _finish(self, job: _Job, reason: chat.FinishReason, events: list[GenerateEvent]) -> None:
        last = job.reader.finish(reason)
        self._end(job, [*events, *last, Usage(len(job.prepared.tokens), job.written)])

    def _end(self, job: _Job, events: list[GenerateEvent]) -> None:
        """Gives a request its last events and its row to the others."""
        with self._changed:
            self._live.discard(job.handle)
            self._cancelled.discard(job.handle)
        self._release(job)
        self._deliver(job, events)

    def _release(self, job: _Job) -> None:
        """Frees a request's row: the last row moves into its place."""
        if job not in self._active:
            return
        row = self._active.index(job)
        last = self._active.pop()
        if last is not job:
            self._cache.move(len(self._active), row, last.length)
            self._active[row] = last

    def _deliver(self, job: _Job, events: list[GenerateEvent]) -> None:
        """Calls the request's callback; one that raises loses its request and nothing else."""
        try:
            job.deliver(events)
        except Exception:  # a broken callback must not end the other requests; it is counted
            self._failures_total += 1
            with self._changed:
                self._live.discard(job.handle)
            self._release(job)

    def _fail_active(self, message: str) -> None:
        for job in list(self._active):
            self._end(job, [Failed("internal_error", message)])

    def _end_all(self, code: str, message: str) -> None:
        """Fails every request that is left, when the engine stops."""
        with self._changed:
            waiting = list(self._queue)
            self._queue.clear()
        for job in (*list(self._active), *waiting):
            self._end(job, [Failed(code, message)])


def _is_late(job: _Job, now_s: float) -> bool:
    return job.request.deadline_s is not None and now_s >= job.request.deadline_s
