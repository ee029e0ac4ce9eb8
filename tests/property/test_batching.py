"""The batching engine under arbitrary use: everybody has one ending, tokens are of the claimed version, bounds hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from tests.unit.engines.counting_model import END, TOKEN_BYTES, CountingModel, expected, request

from open_autoglm import clock
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import Failed, Finish, GenerateEvent, TextDelta, Usage
from open_autoglm.engines.prefix_store import BLOCK_TOKENS, Kept, PrefixStore
from open_autoglm.errors import AutoGLMError

SLOTS = 3
MEMORY_MAX = 120 * TOKEN_BYTES
TURNS_MAX = 3000

prompts = st.one_of(
    st.lists(st.integers(1, 5), min_size=1, max_size=20),
    st.integers(1, 40).map(lambda size: [7] * size),  # these begin alike
)
policies = st.sampled_from(["pin", "follow", "restart", "abort"])


class Heard:
    """What one request was told."""

    def __init__(self, prompt: list[int], fields: dict[str, Any]) -> None:
        self.prompt = prompt
        self.fields = fields
        self.events: list[GenerateEvent] = []
        self.cancelled = False
        self.batches = 0

    def deliver(self, events: list[GenerateEvent]) -> None:
        assert events
        assert not self.ended, "something followed an ending"
        self.batches += 1
        self.events += events

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Usage | Failed)

    def check(self) -> None:
        """What was said is what the claimed versions compute."""
        assert sum(isinstance(event, Usage | Failed) for event in self.events) == 1
        last = self.events[-1]
        if not self.fields["stream"]:
            assert self.batches == 1
        if isinstance(last, Failed):
            assert last.code in ("deadline_exceeded", "server_draining", "stream_interrupted", "internal_error")
            assert last.code != "internal_error" or "FloatingPointError" in last.message
            return
        assert isinstance(last, Usage)
        said = [int(event.text) for event in self.events if isinstance(event, TextDelta)]
        tokens_max = min(self.fields["max_tokens"] or 99, 64 - len(self.prompt))
        wanted = expected(self.prompt, tokens_max, last)
        assert last.completion_tokens == len(wanted)
        assert said == [token for token in wanted if token != END]
        assert self.events[-2] == Finish("stop" if wanted[-1] == END else "length")
        assert last.prompt_tokens == len(self.prompt)
        for before, after in zip(last.spans, last.spans[1:], strict=False):
            assert before.end == after.start
        assert not last.spans or (last.spans[0].start, last.spans[-1].end) == (0, len(wanted))


class EngineUse(RuleBasedStateMachine):
    """Any calls in any order, the turns of the engine's thread among them."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.time = clock.drive(lambda: self.now_s, lambda: self.now_s)
        self.time.__enter__()
        self.version = 1
        self.models = [CountingModel("1")]
        self.engine = Engine(
            self.models[0], slots=SLOTS, queue_max=6, memory_max=MEMORY_MAX, prefix_bytes_max=MEMORY_MAX // 2
        )
        self.heard: dict[int, Heard] = {}

    def teardown(self) -> None:
        try:
            for _ in range(TURNS_MAX):
                load = self.engine.load()
                if not (load.queued or load.running):
                    break
                self.engine.turn()
            self.engine.turn()
            load = self.engine.load()
            assert (load.queued, load.running) == (0, 0)
            assert load.memory_bytes <= MEMORY_MAX // 2
            assert all(version.running == 0 for version in self.engine.versions())
            for heard in self.heard.values():
                assert heard.ended or heard.cancelled
                if heard.ended:
                    heard.check()
        finally:
            self.time.__exit__(None, None, None)

    @rule(
        target=handles,
        prompt=prompts,
        max_tokens=st.one_of(st.none(), st.integers(1, 12)),
        stream=st.booleans(),
        lives_s=st.one_of(st.none(), st.floats(0.0, 5.0)),
        salt=st.sampled_from("ab"),
    )
    def submit(self, prompt: list[int], max_tokens: int | None, stream: bool, lives_s: float | None, salt: str) -> int:
        fields = {"max_tokens": max_tokens, "stream": stream, "salt": salt}
        heard = Heard(prompt, fields)
        deadline_s = None if lives_s is None else self.now_s + lives_s
        try:
            handle = self.engine.submit(request(*prompt, **fields, deadline_s=deadline_s), heard.deliver)
        except AutoGLMError as error:
            self.refused(error, "overloaded")
            return 0
        self.heard[handle] = heard
        return handle

    def refused(self, error: AutoGLMError, code: str) -> None:
        assert error.code == code

    @rule(handle=handles)
    def cancel(self, handle: int) -> None:
        self.engine.cancel(handle)
        if handle in self.heard:
            self.heard[handle].cancelled = True

    @rule()
    def turn(self) -> None:
        ran = {handle for handle, heard in self.heard.items() if heard.cancelled and not heard.ended}
        before = {handle: len(self.heard[handle].events) for handle in ran}
        self.engine.turn()
        assert before == {handle: len(self.heard[handle].events) for handle in ran}, "a cancelled request heard more"

    @rule(policy=policies, drain_s=st.floats(0.1, 3.0))
    def publish(self, policy: Any, drain_s: float) -> None:
        kept = self.engine.versions()[1:]
        model = CountingModel(str(self.version + 1))
        try:
            self.engine.publish(model, policy, drain_s)
        except AutoGLMError as error:
            self.refused(error, "conflict")
            assert kept[0].running
            return
        self.version += 1
        self.models.append(model)
        assert self.engine.version == model.version

    @rule(policy=policies)
    def rollback(self, policy: Any) -> None:
        versions = [version.version for version in self.engine.versions()]
        if len(versions) == 2:
            assert self.engine.rollback(policy, 1.0) == versions[1]
            assert [version.version for version in self.engine.versions()] == versions[::-1]

    @rule()
    def forget(self) -> None:
        self.engine.forget()

    @rule()
    def fail(self) -> None:
        self.models[-1].failures = 1

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def bounds_hold(self) -> None:
        load = self.engine.load()
        assert load.running <= SLOTS
        assert load.queued <= 6
        assert 0 <= load.memory_bytes <= MEMORY_MAX
        assert len(self.engine.versions()) <= 2
        assert load.running == sum(version.running for version in self.engine.versions())


EngineUse.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestEngineUse = EngineUse.TestCase


@given(st.lists(st.tuples(st.sampled_from("ab"), prompts, st.booleans()), max_size=30))
def test_a_prefix_is_found_under_its_own_salt_only_and_within_the_bound(
    steps: list[tuple[str, list[int], bool]],
) -> None:
    store = PrefixStore(100)
    kept: dict[str, list[list[int]]] = {"a": [], "b": []}
    for salt, tokens, keeps in steps:
        saved, same = store.find(("1", salt), tokens)
        assert same % BLOCK_TOKENS == 0
        assert same < len(tokens)
        if same:
            assert saved[:same] == tokens[:same]
            assert any(known[:same] == tokens[:same] for known in kept[salt])
        whole = store.wants(("1", salt), tokens)
        if keeps and whole:
            store.keep(Kept(("1", salt), tokens[:whole], tokens[:whole], whole))
            kept[salt].append(tokens[:whole])
            assert store.find(("1", salt), [*tokens[:whole], 0])[1] == whole
        assert store.bytes <= 100
