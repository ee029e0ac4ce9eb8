"""Everything that a node needs to change its models while it serves: store, publishers, desk, watch and commands.

| NODE_COMMAND | fields | answers |
|---|---|---|
| `versions` | | what the node has of each model |
| `stage` | model, version | makes a stored version ready |
| `publish` | model, version, policy, share | swaps, for all requests or a share of them |
| `weigh` | model, share | changes the share |
| `rollback` | model, policy | swaps back |

Invariant: models, disk and commands are worked on by the desk's one thread, so that two changes never meet.
Embedded models can be changed, and those of ONNX Runtime and Transformers that write; the others of a node are served
as they are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec

from open_autoglm import clock
from open_autoglm.engines.embedded.model import GlmModel
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.model_engine import Policy
from open_autoglm.engines.past_model import PastModel
from open_autoglm.engines.step_model import StepModel
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.inference import embedded_versions, folder_versions
from open_autoglm.inference.data_lock import DataLock
from open_autoglm.inference.model_store import ModelStore, StoredVersion
from open_autoglm.inference.model_watch import SCAN_S, ModelWatch, Wish
from open_autoglm.inference.publisher import Publisher, UpdateEvent, log_event
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.inference.sources import folder_of
from open_autoglm.inference.trial import try_apart
from open_autoglm.inference.update_desk import UpdateDesk
from open_autoglm.inference.update_receiver import UpdateReceiver
from open_autoglm.inference.validation import Loader, ValidationRules
from open_autoglm.rollout.manifest import Manifest, check_name
from open_autoglm.rollout.refusal import UpdateRefused

_log = logging.getLogger(__name__)
MODELS: Final = "models"
INCOMING: Final = "incoming"
STAGED_KEPT_S: Final = 24 * 3600.0
"""How long what has arrived of a version waits for the rest."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Fields = TypeVar("_Fields", bound=msgspec.Struct)
Reply = Callable[[dict[str, Any] | AutoGLMError], None]


class PublishFields(msgspec.Struct, frozen=True):
    """Fields of the commands `stage` and `publish`."""

    model: str
    version: str
    policy: Policy = "pin"
    share: Share = 1.0


class WeighFields(msgspec.Struct, frozen=True):
    """Fields of the command `weigh`."""

    model: str
    share: Share


class RollbackFields(msgspec.Struct, frozen=True):
    """Fields of the command `rollback`."""

    model: str
    policy: Policy = "pin"


class NodeUpdates:
    """See the module.

    Args:
        engines: by the name that clients use; those that run models without versions are left alone. Not started yet.
        data_dir: versions are kept in `models` below it, and taken from `incoming`.
        key: of the cluster, that manifests must be signed by; None accepts unsigned ones.
        sources: where they came from, as typed, by the same names; a folder is found by it.
        settings: that they were opened with.
        wish: what becomes of a version found in `incoming`.
        on_event: told of every step, in the desk's thread.

    Attributes:
        counts: how many versions went through which step, by model, step and reason of a refusal.

    Raises:
        AutoGLMError: the store cannot be used, or another node uses it.
        OSError: the folder cannot be made.
    """

    def __init__(
        self,
        engines: Mapping[str, object],
        data_dir: Path,
        key: bytes | None,
        *,
        sources: Mapping[str, str] | None = None,
        settings: EngineSettings | None = None,
        wish: Wish = "stage",
        on_event: Callable[[UpdateEvent], None] = log_event,
    ) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}
        self._on_event = on_event
        self._lock = DataLock(data_dir)
        self.store = ModelStore(data_dir / MODELS, key=key)
        self.publishers: dict[str, Publisher] = {}
        for name, engine in engines.items():
            kind = _kind(name, engine, self.store, (sources or {}).get(name, ""), settings or EngineSettings())
            if kind is not None and isinstance(engine, Engine):
                self.publishers[name] = _publisher(name, engine, self.store, kind, self._count)
        self._receiver = UpdateReceiver(self.publishers, key)
        self.desk = UpdateDesk(self._receiver)
        self._watch = ModelWatch(data_dir / INCOMING, self.publishers, wish)
        self._watching: asyncio.Task[None] | None = None
        self.commands: dict[str, Callable[[dict[str, Any], Reply], None]] = {
            "versions": functools.partial(self._command, self._versions),
            "stage": functools.partial(self._command, self._stage),
            "publish": functools.partial(self._command, self._publish),
            "weigh": functools.partial(self._command, self._weigh),
            "rollback": functools.partial(self._command, self._rollback),
        }

    def _count(self, event: UpdateEvent) -> None:
        """Count a step and pass it on."""
        key = event.model, event.step, event.reason
        self.counts[key] = self.counts.get(key, 0) + 1
        self._on_event(event)

    def start(self) -> None:
        """Begin to watch; on the loop."""
        self._watching = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """End the watch and the thread, after what is being done, and give the folder back."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await asyncio.to_thread(self.desk.close)
        self._lock.close()

    async def _look(self) -> None:
        while True:
            try:
                await self.desk.run(self._watch.scan)
                await self.desk.run(self._expire)
            except Exception:  # the outermost loop of the watch: one folder must not end it
                _log.exception("the folder of incoming versions could not be looked through")
            await asyncio.sleep(SCAN_S)

    def _expire(self) -> None:
        """Delete what began to arrive and was given up."""
        self.store.expire_staged(clock.wall() - STAGED_KEPT_S, but=self._receiver.arriving)

    def _command(self, work: Callable[[dict[str, Any]], dict[str, Any]], fields: dict[str, Any], reply: Reply) -> None:
        def done(future: asyncio.Future[dict[str, Any]]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, AutoGLMError):
                reply(error)
            elif error is not None or future.cancelled():
                reply(ServerError("internal_error", f"the node failed ({type(error).__name__})"))
            else:
                reply(future.result())

        self.desk.run(functools.partial(work, fields)).add_done_callback(done)

    def _versions(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"models": [msgspec.to_builtins(each.state()) for each in self.publishers.values()]}

    def _stage(self, fields: dict[str, Any]) -> dict[str, Any]:
        told = _read(fields, PublishFields)
        self._found(told.model).stage(told.version)
        return {"model": told.model, "staged": told.version}

    def _publish(self, fields: dict[str, Any]) -> dict[str, Any]:
        told = _read(fields, PublishFields)
        self._found(told.model).publish(told.version, told.policy, share=told.share)
        return {"model": told.model, "version": told.version}

    def _weigh(self, fields: dict[str, Any]) -> dict[str, Any]:
        told = _read(fields, WeighFields)
        self._found(told.model).weigh(told.share)
        return {"model": told.model, "share": told.share}

    def _rollback(self, fields: dict[str, Any]) -> dict[str, Any]:
        told = _read(fields, RollbackFields)
        return {"model": told.model, "version": self._found(told.model).rollback(told.policy)}

    def _found(self, name: str) -> Publisher:
        publisher = self.publishers.get(name)
        if publisher is None:
            known = ", ".join(sorted(self.publishers)) or "none"
            raise UpdateRefused("unknown", f"no model {name[:128]!r} can be changed here; there are: {known}")
        return publisher


class _Kind(NamedTuple):
    """How the versions of one kind of model are got.

    Attributes:
        adopt: puts what the engine was started with into the store.
        load: makes a stored version ready to compute.
        load_new: the same for one that never served here.
        needed_bytes: of memory, for a version; None when that need not be asked.
        reloads: whether what was started is loaded again from the store; else it is known by the store's name for it.
    """

    adopt: Callable[[], Manifest]
    load: Loader
    load_new: Loader
    needed_bytes: Callable[[Manifest], int] | None = None
    reloads: bool = False


def _kind(name: str, engine: object, store: ModelStore, source: str, settings: EngineSettings) -> _Kind | None:
    """How the versions of an engine's model are got; None when it has none."""
    if not isinstance(engine, Engine):
        return None
    shipped = engine.model
    if isinstance(shipped, GlmModel):
        load = functools.partial(embedded_versions.load, name=engine.name)
        return _Kind(lambda: embedded_versions.adopt(store, name, shipped_name=shipped.name), load, load, reloads=True)
    folder = folder_of(source) if isinstance(shipped, PastModel) else None
    if folder is None:
        return None

    def load_folder(stored: StoredVersion) -> StepModel:
        return folder_versions.load(stored, engine.name, settings)

    def load_tried(stored: StoredVersion) -> StepModel:
        try_apart(stored, engine.name, settings)
        return load_folder(stored)

    def adopt() -> Manifest:
        return folder_versions.adopt(store, name, folder)

    return _Kind(adopt, load_folder, load_tried, folder_versions.needed_bytes)


def _publisher(
    name: str, engine: Engine, store: ModelStore, kind: _Kind, on_event: Callable[[UpdateEvent], None]
) -> Publisher:
    """Bring an engine to the version that served last, or to what it was started with, by the version's true name."""
    check_name(name)
    current = store.current(name)
    model: StepModel | None = None
    if current is not None:
        try:
            with store.open(name, current.version) as stored:
                stored.verify()
                model = kind.load(stored)
        except (AutoGLMError, ValueError, KeyError, TypeError) as error:
            _log.warning(
                "version %s of %r cannot be used any more, the shipped one serves: %s", current.version, name, error
            )
    if model is None:
        manifest = kind.adopt()
        if kind.reloads:
            with store.open(name, manifest.version) as stored:
                model = kind.load(stored)
        else:
            assert isinstance(engine.model, PastModel)
            model = engine.model
            model.version = manifest.version  # nobody was told the other name yet: the engine is not started
    if model is not engine.model:
        engine.publish(model)
        engine.forget()
    return Publisher(
        engine,
        store,
        kind.load_new,
        model,
        name=name,
        rules=ValidationRules(probes=embedded_versions.PROBES),
        on_event=on_event,
        needed_bytes=kind.needed_bytes,
    )


def _read(fields: dict[str, Any], kind: type[_Fields]) -> _Fields:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise RequestError("invalid_request", f"the command's fields: {error}") from error
