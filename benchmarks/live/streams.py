"""Streams that run one after the other on an engine, and what each of them was told, token by token."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live.pauses import Pauses
from open_autoglm import clock
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, GenerateEvent, GenerateRequest, Usage
from open_autoglm.engines.step_model import Prompt, StepModel
from open_autoglm.errors import AutoGLMError

TOKENS_MAX = 48
ENGINE_THREAD = "engine-"


@dataclass
class Stream:
    """One request and its answer.

    Attributes:
        text: the question.
        prompt: its tokens.
        tokens: of the answer, as the engine gave them to the reader; the mark that ends it is not among them.
        times_s: when events came.
        usage, failed: how it ended.
    """

    text: str
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    begun_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    usage: Usage | None = None
    failed: Failed | None = None


class NotingReader:
    """A reader that notes the tokens."""

    def __init__(self, inner: Any, tokens: list[int]) -> None:
        self._inner = inner
        self._tokens = tokens

    @property
    def stopped(self) -> bool:
        return bool(self._inner.stopped)

    def push(self, token: int) -> list[GenerateEvent]:
        self._tokens.append(token)
        events: list[GenerateEvent] = self._inner.push(token)
        return events

    def finish(self, reason: Any) -> list[GenerateEvent]:
        events: list[GenerateEvent] = self._inner.finish(reason)
        return events


class NotingModel:
    """A model whose answers and passes are noted: what is computed is the model's own."""

    def __init__(self, inner: StepModel, streams: dict[str, Stream], pauses: Pauses) -> None:
        self.inner = inner
        self._streams = streams
        self._pauses = pauses

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def prefill(self, *arguments: Any) -> Any:
        return self._watched(self.inner.prefill, *arguments)

    def decode(self, *arguments: Any) -> Any:
        return self._watched(self.inner.decode, *arguments)

    def _watched(self, compute: Any, *arguments: Any) -> Any:
        if not threading.current_thread().name.startswith(ENGINE_THREAD):
            return compute(*arguments)
        self._pauses.begin()
        try:
            return compute(*arguments)
        finally:
            self._pauses.end()

    def prepare(self, request: GenerateRequest) -> Prompt:
        prompt = self.inner.prepare(request)
        stream = self._streams.get(request.salt)
        if stream is not None:
            stream.prompt = prompt.tokens
            stream.tokens = []
            prompt.reader = NotingReader(prompt.reader, stream.tokens)
        return prompt


class Streams:
    """So many streams at all times: when one ends, the next begins.

    Args:
        engine: that answers.
        count: at a time.
        open_streams: shared with the models of the engine, so that they can note.
    """

    def __init__(self, engine: Engine, count: int, open_streams: dict[str, Stream]) -> None:
        self._engine = engine
        self._count = count
        self._open = open_streams
        self._names = itertools.count()
        self._chance = random.Random(7)
        self._stopping = False
        self._left = count
        self.ended: list[Stream] = []
        self.refused = 0
        self.done = threading.Event()

    def start(self) -> None:
        for _ in range(self._count):
            self._begin()

    def stop(self) -> Sequence[Stream]:
        """Begin no more, wait for those that run, and return all."""
        self._stopping = True
        if not self.done.wait(60.0):
            raise RuntimeError(f"{self._left} streams did not end within 60 s")
        return self.ended

    def _begin(self) -> None:
        if self._stopping:
            self._left -= 1
            if not self._left:
                self.done.set()
            return
        name = str(next(self._names))
        a, b = self._chance.randrange(100, 999), self._chance.randrange(100, 999)
        stream = self._open[name] = Stream(f"{a} {self._chance.choice('+-')} {b}", begun_s=clock.monotonic())

        def deliver(events: list[GenerateEvent]) -> None:
            stream.times_s.append(clock.monotonic())
            last = events[-1]
            if isinstance(last, Usage | Failed):
                if isinstance(last, Usage):
                    stream.usage = last
                else:
                    stream.failed = last
                del self._open[name]
                self.ended.append(stream)
                self._begin()

        asked = [{"role": "user", "content": stream.text}]
        try:
            self._engine.submit(GenerateRequest(asked, max_tokens=TOKENS_MAX, salt=name), deliver)
        except AutoGLMError as error:
            self.refused += 1
            deliver([Failed(error.code, error.message)])
