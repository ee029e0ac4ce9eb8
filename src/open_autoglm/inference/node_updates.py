"""Everything that a node needs to change its models while it serves: store, publishers, desk, watch and commands.

| NODE_COMMAND | fields | answers |
|---|---|---|
| `versions` | | what the node has of each model |
| `stage` | model, version | makes a stored version ready |
| `publish` | model, version, policy, share | swaps, for all requests or a share of them |
| `weigh` | model, share | changes the share |
| `rollback` | model, policy | swaps back |

Invariant: models, disk and commands are worked on by the desk's one thread, so that two changes never meet.
Only embedded models can be changed so far; the others of a node are served as they are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from open_autoglm.engines.embedded.model import GlmModel
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.model_engine import Policy
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.inference import embedded_versions
from open_autoglm.inference.model_store import ModelStore
from open_autoglm.inference.model_watch import SCAN_S, ModelWatch, Wish
from open_autoglm.inference.publisher import Publisher, UpdateEvent, log_event
from open_autoglm.inference.update_desk import UpdateDesk
from open_autoglm.inference.update_receiver import UpdateReceiver
from open_autoglm.inference.validation import ValidationRules
from open_autoglm.rollout.manifest import check_name
from open_autoglm.rollout.refusal import UpdateRefused

_log = logging.getLogger(__name__)
MODELS: Final = "models"
INCOMING: Final = "incoming"

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
        engines: by the name that clients use; those that run no embedded model are left alone. Not started yet.
        data_dir: versions are kept in `models` below it, and taken from `incoming`.
        key: of the cluster, that manifests must be signed by; None accepts unsigned ones.
        wish: what becomes of a version found in `incoming`.
        on_event: told of every step, in the desk's thread.

    Attributes:
        counts: how many versions went through which step, by model, step and reason of a refusal.

    Raises:
        AutoGLMError: the store cannot be used.
        OSError: the folder cannot be made.
    """

    def __init__(
        self,
        engines: Mapping[str, object],
        data_dir: Path,
        key: bytes | None,
        *,
        wish: Wish = "stage",
        on_event: Callable[[UpdateEvent], None] = log_event,
    ) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}
        self._on_event = on_event
        self.store = ModelStore(data_dir / MODELS, key=key)
        self.publishers: dict[str, Publisher] = {}
        for name, engine in engines.items():
            if isinstance(engine, Engine) and isinstance(engine.model, GlmModel):
                self.publishers[name] = _publisher(name, engine, self.store, self._count)
        self.desk = UpdateDesk(UpdateReceiver(self.publishers, key))
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
        """End the watch and the thread, after what is being done."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await asyncio.to_thread(self.desk.close)

    async def _look(self) -> None:
        while True:
            try:
                await self.desk.run(self._watch.scan)
            except Exception:  # the outermost loop of the watch: one folder must not end it
                _log.exception("the folder of incoming versions could not be looked through")
            await asyncio.sleep(SCAN_S)

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


def _publisher(name: str, engine: Engine, store: ModelStore, on_event: Callable[[UpdateEvent], None]) -> Publisher:
    """Bring an engine to the version that served last, or to what it was started with, by the version's true name."""
    check_name(name)
    shipped = engine.model
    loader = functools.partial(embedded_versions.load, name=engine.name)
    current = store.current(name)
    model: GlmModel | None = None
    if current is not None:
        try:
            with store.open(name, current.version) as stored:
                stored.verify()
                model = loader(stored)
        except (AutoGLMError, ValueError, KeyError, TypeError) as error:
            _log.warning("version %s of %r cannot be used any more, the shipped one serves: %s", current, name, error)
    if model is None:
        manifest = embedded_versions.adopt(store, name, shipped_name=shipped.name)
        with store.open(name, manifest.version) as stored:
            model = loader(stored)
    engine.publish(model)
    engine.forget()
    rules = ValidationRules(probes=embedded_versions.PROBES)
    return Publisher(engine, store, loader, model, name=name, rules=rules, on_event=on_event)


def _read(fields: dict[str, Any], kind: type[_Fields]) -> _Fields:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise RequestError("invalid_request", f"the command's fields: {error}") from error
