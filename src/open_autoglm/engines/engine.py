"""Continuous batching: one thread runs one model, in one version or two, for all requests at once.

Invariants: every submitted request that is not cancelled gets exactly one ending, `Finish` and `Usage` or `Failed`,
whatever happens to the model, the engine or the other requests. A forward pass computes with one version; every token
is computed by the version that the answer's `Usage` claims. What is reserved and kept never exceeds `memory_max`.

Between two forward passes requests join, leave, are cancelled or run out of time; rows of the key-value cache stay
packed. Prompts are read in pieces, of which at most two come between two tokens of what runs: one of short prompts
together, one of a long prompt. A publication replaces one reference; under `pin` the rows of the version before go on
as a batch of their own. Sources of the scheduling: Orca (Yu et al., 2022) and Sarathi-Serve (Agrawal et al., 2024).
"""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from open_autoglm import clock
from open_autoglm.engines.cache_memory import CacheMemory
from open_autoglm.engines.events import Failed, FinishReason, GenerateEvent, GenerateRequest
from open_autoglm.engines.lane import Job, Lane, chosen_tokens
from open_autoglm.engines.model_engine import (
    DRAIN_S,
    Deliver,
    EngineLoad,
    LiveVersion,
    Policy,
    SwapFigures,
)
from open_autoglm.engines.step_model import Logits, StepModel
from open_autoglm.engines.versions import RETRY_AFTER_S, Versions
from open_autoglm.errors import AutoGLMError, ServerError

SLOTS_MAX: Final = 256
QUEUE_MAX: Final = 65_536
CLOSE_TIMEOUT_S: Final = 5.0  # a forward pass takes milliseconds; longer means that the thread is lost

_STOPPED: Final = "the model is being stopped; send the request again"
_UNFIT: Final = "the model was replaced by a version that cannot serve this request here; send the request again"
_REPLACED: Final = "the version of the model that computed this answer was replaced; send the request again"


class Engine:
    """Runs one model in a thread of its own; see `model_engine.ModelEngine`.

    Args:
        model: the version to begin with.
        slots: requests per forward pass, 1 to 256.
        queue_max: requests that may wait, 1 to 65,536; the next one is refused.
        memory_max: bytes of keys and values of what runs and of what is kept; 0 for as much as the slots take.
        prefix_bytes_max: bytes that may be kept of finished prompts, within `memory_max`; 0 keeps none.
    """

    threaded = True

    def __init__(
        self,
        model: StepModel,
        *,
        slots: int = 4,
        queue_max: int = 256,
        memory_max: int = 0,
        prefix_bytes_max: int = 0,
    ) -> None:
        for what, value, most in (("slots", slots, SLOTS_MAX), ("queue_max", queue_max, QUEUE_MAX)):
            if not 1 <= value <= most:
                raise ValueError(f"{what} is {value!r}; it must be 1 to {most}")
        self.name = model.name
        self.flush: Callable[[], None] = _nothing
        self._slots = slots
        self._queue_max = queue_max
        self._memory = CacheMemory(memory_max, prefix_bytes_max)
        self._handles = itertools.count(1)
        self._changed = threading.Condition()
        self._versions = Versions(Lane(model, slots), self._changed)
        self._queue: deque[Job] = deque()  # to `_closed` guarded by `_changed`; the thread alone takes out
        self._jobs: dict[int, Job] = {}  # whatever has not ended
        self._cancelled: set[int] = set()
        self._next_late_s = math.inf  # no deadline is earlier
        self._running = 0
        self._closed = False
        self._told = False  # this and what follows belong to the thread
        self._pass_ended_s = 0.0
        self._tokens_total = 0
        self._passes_total = 0
        self._failures_total = 0
        self._thread = threading.Thread(target=self._run, name=f"engine-{model.name}", daemon=True)

    @property
    def version(self) -> str:
        """Of the current version."""
        return self._versions.current.model.version

    @property
    def model(self) -> StepModel:
        """The current version."""
        return self._versions.current.model

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def close(self) -> None:
        """Fail what is still there with `server_draining` and join the thread, for 5 s at most.

        Raises:
            ServerError: `internal_error`, when the thread does not end.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is None:
            self._end_all("server_draining", _STOPPED)
            return
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise ServerError("internal_error", f"the engine's thread did not end within {CLOSE_TIMEOUT_S} s")

    def submit(self, request: GenerateRequest, deliver: Deliver) -> int:
        """See `ModelEngine`."""
        model = self._versions.current.model
        prompt = model.prepare(request)
        handle = next(self._handles)
        source = random.Random(handle if request.seed is None else request.seed)
        job = Job(handle, request, deliver, model, prompt, 0, source)
        job.begin(model, prompt)
        self._memory.check(job.memory_bytes())
        with self._changed:
            self._refuse_when_closed()
            if len(self._queue) >= self._queue_max:
                raise ServerError(
                    "overloaded",
                    f"{self._queue_max} requests wait for {self.name!r} already; try again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._queue.append(job)
            self._jobs[handle] = job
            if request.deadline_s is not None:
                self._next_late_s = min(self._next_late_s, request.deadline_s)
            self._changed.notify()
        return handle

    def cancel(self, handle: int) -> None:
        """See `ModelEngine`."""
        with self._changed:
            if handle in self._jobs:
                self._cancelled.add(handle)
                self._changed.notify()

    def load(self) -> EngineLoad:
        """See `ModelEngine`."""
        with self._changed:
            return EngineLoad(
                len(self._queue),
                self._running,
                self._slots,
                self._tokens_total,
                self._passes_total,
                self._failures_total,
                self._memory.used_bytes,
                self._memory.bytes_max,
                self._memory.prefixes.hits_total,
            )

    # ---- versions

    def publish(self, model: StepModel, policy: Policy = "pin", drain_s: float = DRAIN_S, share: float = 1.0) -> None:
        """See `ModelEngine`."""
        self._refuse_when_closed()
        self._versions.check(model)
        self._versions.publish(Lane(model, self._slots), policy, drain_s, share)

    def weigh(self, share: float, drain_s: float = DRAIN_S) -> None:
        """See `ModelEngine`."""
        self._versions.weigh(share, drain_s)

    def rollback(self, policy: Policy = "pin", drain_s: float = DRAIN_S) -> str:
        """See `ModelEngine`."""
        self._refuse_when_closed()
        return self._versions.rollback(policy, drain_s)

    def forget(self) -> None:
        """See `ModelEngine`."""
        self._versions.forget()

    def versions(self) -> tuple[LiveVersion, ...]:
        """See `ModelEngine`."""
        return self._versions.live()

    def swap_figures(self) -> SwapFigures:
        """See `ModelEngine`."""
        return self._versions.figures()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ServerError("server_draining", _STOPPED)

    # ---- the thread

    def _run(self) -> None:
        """Turn after turn until closed."""
        while self._wait():
            self.turn()
        self._end_all("server_draining", _STOPPED)

    def _wait(self) -> bool:
        """Wait for work; False when closed."""
        with self._changed:
            while not (self._jobs or self._closed):
                self._changed.wait()
            return not self._closed

    def turn(self) -> None:
        """What happens between two forward passes, and one pass of each live version that has requests.

        The engine's thread calls it; who has not started the engine may call it instead.
        """
        try:
            self._drop()
            self._leave_old()
            self._pass(self._admit())
        except Exception as error:  # whatever it is, nobody may be left without an ending
            self._failures_total += 1
            self._end_all("internal_error", f"the engine failed ({type(error).__name__}); send the request again")
        self._flush()

    def _drop(self) -> None:
        """Take out what was cancelled, and fail what is too late."""
        late: list[Job] = []
        with self._changed:
            gone = [self._jobs[handle] for handle in self._cancelled if handle in self._jobs]
            self._cancelled.clear()
            for job in gone:
                self._forget_job(job)
            now_s = clock.monotonic()
            if now_s >= self._next_late_s:
                late = [job for job in self._jobs.values() if job.is_late(now_s)]
            if any(job.lane is None for job in (*gone, *late)):
                out = {job.handle for job in (*gone, *late)}
                self._queue = deque(job for job in self._queue if job.handle not in out)
        for job in gone:
            if job.lane is not None:
                job.lane.release(job)
        for job in late:
            self._fail(job, "deadline_exceeded", "the deadline passed before the answer was complete")
        if late:
            with self._changed:
                ends = (job.request.deadline_s for job in self._jobs.values())
                self._next_late_s = min((end_s for end_s in ends if end_s is not None), default=math.inf)

    def _leave_old(self) -> None:
        """Deal with what runs on the version before: let it run, take it along, start it anew, or end it."""
        kept, lane = self._versions.both()
        jobs = [] if kept is None else kept.jobs()
        if kept is None or not jobs or (kept.policy == "pin" and clock.monotonic() < kept.drain_by_s):
            return
        kept.clear()  # all of them go, so no row need be moved for another
        for job in jobs:
            if kept.policy != "pin" and self._goes_on(job, lane, kept.policy):
                lane.waiting.append(job)
            else:
                self._abort(job)

    def _goes_on(self, job: Job, lane: Lane, policy: Policy) -> bool:
        """Bind a request to the current version, if policy and memory allow it."""
        if policy == "follow":
            possible = job.follow(lane.model)
        else:
            possible = policy == "restart" and not job.told and self._prepared(job, lane.model)
            possible = possible and job.prompt.answer is None
        if not possible:
            return False
        needed = job.memory_bytes()
        more = needed - job.reserved_bytes
        if more > 0 and not self._memory.has_room(more):
            return False
        with self._changed:
            assert job.lane is not None
            job.lane.bound -= 1
            lane.bound += 1
            job.lane = lane
            self._memory.reserved_bytes += more
            job.reserved_bytes = needed
        return True

    def _prepared(self, job: Job, model: StepModel) -> bool:
        """Make the prompt anew for another version; say whether that version can serve the request."""
        try:
            job.begin(model, model.prepare(job.request))
        except AutoGLMError:
            return False
        return True

    def _admit(self) -> list[Job]:
        """Take from the queue what slots and memory allow, in order; nothing overtakes what waits for memory."""
        admitted: list[Job] = []
        while self._queue and self._running < self._slots:
            job = self._queue[0]
            lane = self._versions.lane_of(job)
            if job.model is not lane.model and not self._prepared(job, lane.model):
                self._queue.popleft()
                self._fail(job, "server_draining", _UNFIT)
                continue
            if job.prompt.answer is not None:
                self._queue.popleft()
                self._end(job, [*job.prompt.answer, job.usage_of_answer()])
                continue
            needed = job.memory_bytes()
            if not self._memory.has_room(needed):
                if self._running:
                    break
                # It never will: this version needs more than the one that it was accepted for.
                self._queue.popleft()
                self._fail(job, "server_draining", _UNFIT)
                continue
            with self._changed:
                if not self._versions.is_live(lane):
                    continue  # another version was published meanwhile
                self._queue.popleft()
                job.lane = lane
                lane.bound += 1
                self._running += 1
                job.reserved_bytes = needed
                self._memory.reserved_bytes += needed
            admitted.append(job)
        return admitted

    def _pass(self, admitted: list[Job]) -> None:
        """Read a piece of the prompts that wait, then one more token of all that runs, version by version."""
        self._versions.note_pause(self._pass_ended_s, ran=self._running > len(admitted))
        for lane in self._versions.both():
            if lane is not None and lane.bound:
                lane.waiting += [job for job in admitted if job.lane is lane]
                self._guarded(lane)
        self._pass_ended_s = clock.monotonic()

    def _guarded(self, lane: Lane) -> None:
        """Compute for one version; what fails ends the requests of that version and no others."""
        try:
            self._read(lane)
            if lane.rows:
                self._decode(lane)
        except Exception as error:  # the requests in this pass must hear of it, whatever it is
            self._failures_total += 1
            failed = lane.jobs()
            lane.clear()
            for job in failed:
                self._fail(job, "internal_error", f"the model failed ({type(error).__name__}); send the request again")

    def _read(self, lane: Lane) -> None:
        """Read short prompts, those of which nothing is known together, and a piece of a long one."""
        found = [(job, *self._memory.find(job)) for job in lane.short()]
        fresh = [job for job, _, start in found if not start]
        if fresh:
            self._prefill(lane, fresh, 0)
        for job, saved, start in found:
            if start:
                lane.cache.restore(len(lane.rows), saved, start)
                self._prefill(lane, [job], start)
        long = lane.long()
        if long is not None:
            self._read_piece(lane, long)

    def _read_piece(self, lane: Lane, job: Job) -> None:
        """Read the next piece of a prompt, after what is known of it; behind the last one it gives its first token."""
        if not job.length:
            saved, job.length = self._memory.find(job)
            if job.length:
                lane.cache.restore(lane.last_row, saved, job.length)
        read = job.tokens[: job.length + lane.model.piece_tokens]
        logits = lane.model.prefill(lane.cache, lane.last_row, [read], job.length)
        job.length = len(read)
        if job.length < len(job.tokens):
            self._passes_total += 1
            return
        lane.complete(job)
        self._choose([job], logits)

    def _prefill(self, lane: Lane, jobs: list[Job], start: int) -> None:
        first_row = lane.enter(jobs)
        logits = lane.model.prefill(lane.cache, first_row, [job.tokens for job in jobs], start)
        for job in jobs:
            job.length = len(job.tokens)
        self._choose(jobs, logits)

    def _decode(self, lane: Lane) -> None:
        running = list(lane.rows)
        tokens = np.array([job.tokens[-1] for job in running])
        logits = lane.model.decode(lane.cache, tokens, np.array([job.length for job in running]))
        for job in running:
            job.length += 1
        self._choose(running, logits)

    def _choose(self, jobs: list[Job], logits: Logits) -> None:
        """Take one token for each job from its row of the logits, and tell the requests."""
        self._passes_total += 1
        self._tokens_total += len(jobs)
        for job, token in zip(jobs, chosen_tokens(jobs, logits), strict=True):
            self._take(job, token)

    def _take(self, job: Job, token: int) -> None:
        """One more token of a request: its events, and whether it was the last."""
        job.tokens.append(token)
        job.written += 1
        prompt = job.prompt
        if token in job.model.end_tokens:
            self._finish(job, "stop", [])
            return
        if prompt.constraint is not None:
            prompt.constraint.push(token)
        events = prompt.reader.push(token)
        if prompt.reader.stopped:
            self._finish(job, "stop", events)
        elif job.written >= job.tokens_max:
            self._finish(job, "length", events)
        elif not events:
            return
        elif job.request.stream:
            job.told = True
            self._deliver(job, events)
        else:
            job.held += events

    # ---- endings

    def _finish(self, job: Job, reason: FinishReason, events: list[GenerateEvent]) -> None:
        self._memory.keep(job)
        self._end(job, [*job.held, *events, *job.prompt.reader.finish(reason), job.usage()])

    def _abort(self, job: Job) -> None:
        self._fail(job, "stream_interrupted" if job.told else "server_draining", _REPLACED)

    def _fail(self, job: Job, code: str, message: str) -> None:
        self._end(job, [Failed(code, message)])

    def _end(self, job: Job, events: list[GenerateEvent]) -> None:
        """Give a request its last events, once, and its row to the others."""
        with self._changed:
            live = self._forget_job(job)
        if job.lane is not None:
            job.lane.release(job)
        if live:
            self._deliver(job, events)

    def _forget_job(self, job: Job) -> bool:
        """Count a request as ended; with the lock. Say whether it had not ended before."""
        if self._jobs.pop(job.handle, None) is None:
            return False
        self._cancelled.discard(job.handle)
        if job.lane is not None:
            job.lane.bound -= 1
            self._running -= 1
            self._memory.reserved_bytes -= job.reserved_bytes
        return True

    def _deliver(self, job: Job, events: list[GenerateEvent]) -> None:
        """Call the request's callback; one that raises loses its request and nothing else."""
        self._told = True
        try:
            job.deliver(events)
        except Exception:  # a broken callback must not end the other requests; it is counted
            self._failures_total += 1
            with self._changed:
                self._forget_job(job)
            if job.lane is not None:
                job.lane.release(job)

    def _flush(self) -> None:
        """Say that this pass has delivered what it had to."""
        if not self._told:
            return
        self._told = False
        try:
            self.flush()
        except Exception:  # as with `_deliver`
            self._failures_total += 1

    def _end_all(self, code: str, message: str) -> None:
        """Fail every request that is left."""
        with self._changed:
            left = list(self._jobs.values())
            self._queue.clear()
        for lane in self._versions.both():
            if lane is not None:
                lane.clear()
        for job in left:
            self._fail(job, code, message)
        self._flush()


def _nothing() -> None:
    """Nobody waits for the end of a pass."""
