"""The versions of one model on a node: checked before they are visible, swapped in one step, taken back in one.

| step | does | when it fails |
|---|---|---|
| stage | reads a stored version, validates it, keeps it ready in memory | refused; what serves is untouched |
| publish | makes a staged version current between two forward passes | refused; it stays staged |
| rollback | makes the version before current again, which is still in memory | refused; nothing has changed |

Invariant: a version is published only by the object that validated it, so what answers is what was checked. At most one
version is staged; staging another drops it. What needs more memory than there is is refused before it is loaded: first
the version that was staged gives way, then the one before the current, and with it the way back to it. Every step, and
every refusal, is told to `on_event`. Methods block for as long as the work takes (reading and checking a model, not
swapping it) and may be called from any thread.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Literal, cast

import msgspec

from open_autoglm.engines.model_engine import DRAIN_S, LiveVersion, ModelEngine, Policy
from open_autoglm.engines.step_model import StepModel
from open_autoglm.errors import AutoGLMError
from open_autoglm.inference import model_memory
from open_autoglm.inference.model_store import Current, ModelStore, StoredVersion
from open_autoglm.inference.validation import Loader, ValidationRules, validate
from open_autoglm.rollout.manifest import Manifest
from open_autoglm.rollout.refusal import UpdateRefused

_log = logging.getLogger(__name__)

Step = Literal["staged", "published", "rolled_back", "refused"]


class UpdateEvent(msgspec.Struct, frozen=True):
    """One step of a model's life.

    Attributes:
        model, version: which; the version may be empty when it is not known.
        step: what happened.
        reason: of a refusal, one of `rollout.refusal.Reason`; else empty.
        message: in words.
    """

    model: str
    version: str
    step: Step
    reason: str = ""
    message: str = ""


class VersionsState(msgspec.Struct, frozen=True):
    """What a node has of one model.

    Attributes:
        model: its name.
        live: versions that the engine holds.
        staged: the version that is ready to be published, or None.
        stored: versions on disk, the newest first.
    """

    model: str
    live: tuple[LiveVersion, ...]
    staged: str | None
    stored: tuple[str, ...]


def log_event(event: UpdateEvent) -> None:
    """Write a step to the log; what a node does unless it is told otherwise."""
    fields = {"model": event.model, "version": event.version, "step": event.step, "reason": event.reason}
    if event.step == "refused":
        _log.warning("an update of a model was refused: %s", event.message, extra={"fields": fields})
    else:
        _log.info("a version of a model was %s", event.step, extra={"fields": fields})


class Publisher:
    """See the module.

    Args:
        engine: that runs the model.
        store: where versions are.
        loader: makes a stored version ready to compute.
        serving: the version that answers now.
        name: that clients and the store use; None for the engine's own.
        rules: what every version must pass.
        on_event: told of every step, in the thread that makes it.
        needed_bytes: about how much memory a version takes, by its manifest; None does not ask.
        free_bytes: how much there is; None where nobody knows.
    """

    def __init__(
        self,
        engine: ModelEngine,
        store: ModelStore,
        loader: Loader,
        serving: StepModel,
        *,
        name: str | None = None,
        rules: ValidationRules | None = None,
        on_event: Callable[[UpdateEvent], None] = log_event,
        needed_bytes: Callable[[Manifest], int] | None = None,
        free_bytes: Callable[[], int | None] = model_memory.free_bytes,
    ) -> None:
        self.engine = engine
        self.store = store
        self.name = engine.name if name is None else name
        self._loader = loader
        self._rules = rules or ValidationRules()
        self._on_event = on_event
        self._needed_bytes = needed_bytes
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._serving = serving
        self._before: StepModel | None = None
        self._staged: StepModel | None = None

    @property
    def staged(self) -> str | None:
        """The version that is ready to be published."""
        staged = self._staged
        return None if staged is None else staged.version

    def state(self) -> VersionsState:
        """What is here of the model."""
        return VersionsState(self.name, self.engine.versions(), self.staged, tuple(self.store.versions(self.name)))

    def validate(self, stored: StoredVersion) -> StepModel:
        """Check a version against the one that serves.

        Raises:
            UpdateRefused: see `validation`; `memory`, it does not fit beside the one that serves.
        """
        if self._needed_bytes is not None:
            self._make_room(self._needed_bytes(stored.manifest))
        model = validate(stored, self._loader, self._serving, self._rules)
        if (model.name, model.version) != (self.engine.name, stored.manifest.version):
            raise UpdateRefused("format", f"the engine made {model.name!r} {model.version!r} of it")
        return model

    def stage(self, version: str) -> None:
        """Make a stored version ready.

        Raises:
            UpdateRefused: it is not what it should be.
        """
        try:
            with self.store.open(self.name, version) as stored:
                self.keep(self.validate(stored))
        except UpdateRefused as error:
            self.refused(version, error)
            raise

    def keep(self, model: StepModel) -> None:
        """Hold a version that `validate` made, ready to be published."""
        with self._lock:
            self._staged = model
        self._tell("staged", model.version)

    def drop(self) -> None:
        """Forget what is staged; it stays on disk."""
        with self._lock:
            self._staged = None

    def publish(self, version: str, policy: Policy = "pin", drain_s: float = DRAIN_S, share: float = 1.0) -> None:
        """Make a version current, with a share; one that is on disk only is staged first. See `ModelEngine.publish`.

        Raises:
            UpdateRefused: `busy`, the version before the current one still has requests, or there is none to share
                with; `unknown`; or what `stage` found.
        """
        if version == self.engine.version:
            if share < 1.0 or self._shares():
                self.weigh(share)
            return
        if self._before is not None and version == self._before.version:
            self.rollback(policy, drain_s)  # it was checked when it served, and is still in memory
            if share < 1.0:
                self.weigh(share)
            return
        if self.staged != version:
            self.stage(version)
        with self._lock:
            model = self._staged
            if model is None or model.version != version:
                raise UpdateRefused("busy", f"version {version[:12]} of {self.name!r} was replaced by another staging")
            self._swap(lambda: self.engine.publish(model, policy, drain_s, share), version)
            self._serving, self._before, self._staged = model, self._serving, None
        self._note()
        self._tell("published", version)

    def weigh(self, share: float) -> None:
        """Give the current version another share of the requests; 1 ends the sharing.

        Raises:
            UpdateRefused: `busy`, there is no version to share with.
        """
        self._swap(lambda: self.engine.weigh(share), self.engine.version)

    def rollback(self, policy: Policy = "pin", drain_s: float = DRAIN_S) -> str:
        """Make the version before current again, and return it.

        Raises:
            UpdateRefused: `busy`, none is kept.
        """
        with self._lock:
            self._swap(lambda: self.engine.rollback(policy, drain_s), "")
            if self._before is not None:
                self._serving, self._before = self._before, self._serving
        self._note()
        self._tell("rolled_back", self.engine.version)
        return self.engine.version

    def refused(self, version: str, error: UpdateRefused) -> None:
        """Tell that an update was refused."""
        self._on_event(UpdateEvent(self.name, version, "refused", error.reason, error.message))

    def _make_room(self, needed: int) -> None:
        """Raise when so much memory cannot be had, even without the versions that do not serve."""
        for give_way in (None, self.drop, self._drop_before):
            if give_way is not None:
                give_way()
                gc.collect()  # libraries tie their models up in cycles
            free = self._free_bytes()
            if free is None or needed <= free:
                return
        raise UpdateRefused(
            "memory",
            f"another version of {self.name!r} takes about {needed} bytes of memory beside the one that serves, and "
            f"{free} are free; use a machine with more, or start a node with the new version and stop this one",
        )

    def _drop_before(self) -> None:
        """Free the version before the current one, unless requests run on it."""
        self.engine.forget()
        with self._lock:
            if len(self.engine.versions()) == 1:
                self._before = None

    def _shares(self) -> bool:
        return any(live.state == "sharing" for live in self.engine.versions())

    def _swap(self, swap: Callable[[], object], version: str) -> None:
        try:
            swap()
        except AutoGLMError as error:
            refusal = UpdateRefused("busy", error.message)
            self.refused(version, refusal)
            raise refusal from error

    def _note(self) -> None:
        """Remember on disk what serves; a disk that is full costs the memory of it, not the publication."""
        before = None if self._before is None else self._before.version
        try:
            self.store.set_current(self.name, Current(self.engine.version, before))
        except UpdateRefused as error:
            fields = {"model": self.name, "version": self.engine.version, "reason": error.reason}
            _log.warning("which version serves could not be noted: %s", error.message, extra={"fields": fields})

    def _tell(self, step: str, version: str) -> None:
        self._on_event(UpdateEvent(self.name, version, cast(Step, step)))
