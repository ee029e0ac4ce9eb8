"""The node's end of a parameter update: chunks become a version on disk, a version is checked, staged and committed.

| state | means | next |
|---|---|---|
| receiving | chunks are written beside the versions that serve | staged, refused, cut |
| staged | everything is verified, validated and in memory | published, aborted |
| cut | the line or the node went away; what had arrived is on disk | receiving, when it is offered again |
| refused, aborted | what had arrived is deleted | – |

Invariant: until the commit, nothing here can be seen by a request; whatever fails leaves the version that serves as it
is. Stage and commit are two commands, so that many nodes can stage before any commits.

`UpdateReceiver` works and blocks; `UpdateDesk` stands on the event loop in front of it, with one thread behind it and
no more waiting frames than the window that it grants.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeVar

import msgspec

from open_autoglm.engines.model_engine import Policy
from open_autoglm.errors import AutoGLMError
from open_autoglm.inference.model_store import Staging, StoredVersion
from open_autoglm.inference.publisher import Publisher
from open_autoglm.protocol import opcodes
from open_autoglm.rollout.manifest import read_manifest
from open_autoglm.rollout.reception import Offer, Reception
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Progress

_log = logging.getLogger(__name__)

WINDOW: Final = 4
WAITING_MAX: Final = 2 * WINDOW + 4
"""Frames that may wait for the thread: a window of chunks, repeated once after a cut, and the commands."""

_T = TypeVar("_T", bound=msgspec.Struct)
Outcome = Literal["staged", "published", "rolled_back", "refused", "aborted"]
Reply = Callable[[int, bytes, int], None]
"""Sends a frame back: opcode, payload, arg. Called on the event loop."""


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What UPDATE_COMMIT carries."""

    name: str
    version: str
    policy: Policy = "pin"
    drain_s: float = 30.0


class Abort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What UPDATE_ABORT carries."""

    name: str
    reason: str = ""


class Result(msgspec.Struct, frozen=True):
    """What UPDATE_RESULT carries; `reason` and `message` say why something was refused."""

    name: str
    version: str
    outcome: Outcome
    reason: str = ""
    message: str = ""


class _Arriving:
    """One version on its way in."""

    __slots__ = ("parent", "reception", "staging")

    def __init__(self, reception: Reception, staging: Staging, parent: StoredVersion | None) -> None:
        self.reception = reception
        self.staging = staging
        self.parent = parent

    def close(self) -> None:
        self.staging.close()
        if self.parent is not None:
            self.parent.close()


class UpdateReceiver:
    """Takes updates for the models of one node, one at a time for each. Its methods block, and belong to one thread.

    Args:
        publishers: by the name of the model.
        key: of the cluster: manifests must be signed by it. None accepts unsigned ones.
    """

    def __init__(self, publishers: Mapping[str, Publisher], key: bytes | None = None) -> None:
        self._publishers = publishers
        self._key = key
        self._arriving: dict[str, _Arriving] = {}

    def begin(self, offer: Offer) -> tuple[str, Progress]:
        """Take an offer, or go on with one that was cut; return the model's name and what is here.

        Raises:
            UpdateRefused: it is not taken.
        """
        publisher: Publisher | None = None
        version = ""
        try:
            manifest = read_manifest(offer.manifest.encode(), self._key)
            publisher, version = self._publisher(manifest.name), manifest.version
            self._forget(manifest.name)
            reception = Reception(manifest, offer.plan)
            parent = self._parent(publisher, offer)
            try:
                staging = publisher.store.stage(manifest, offer.config.encode())
            except BaseException:
                if parent is not None:
                    parent.close()
                raise
        except UpdateRefused as error:
            if publisher is not None:
                publisher.refused(version, error)
            raise
        if staging.resumed:
            for index in range(offer.plan.count):
                reception.recovered(index, staging.read(*offer.plan.span(index)))
        self._arriving[manifest.name] = _Arriving(reception, staging, parent)
        return manifest.name, self.progress(manifest.name)

    def progress(self, name: str) -> Progress:
        """What is here of the version that arrives.

        Raises:
            UpdateRefused: `unknown`, none does.
        """
        reception = self._found(name).reception
        return Progress(reception.received, reception.missing(), WINDOW, reception.damaged)

    def chunk(self, name: str, index: int, codec: int, payload: bytes) -> Progress:
        """Take a chunk; one that is damaged is not counted, and so stays missing.

        Raises:
            UpdateRefused: the update has ended: too much was damaged, or the disk is full.
        """
        arriving = self._found(name)
        reception = arriving.reception
        start, end = reception.plan.span(index) if 0 <= index < reception.plan.count else (0, 0)
        try:
            parent = arriving.parent.read(start, end) if arriving.parent is not None and end else None
            data = reception.chunk(index, codec, payload, parent)
        except UpdateRefused as error:
            if error.reason == "chunk" and reception.state != "refused":
                return self.progress(name)
            raise self._refuse(name, error) from error
        try:
            if data is not None:
                arriving.staging.write(start, data)
                reception.written(index)
        except UpdateRefused as error:
            raise self._refuse(name, error) from error
        return self.progress(name)

    def complete(self, name: str) -> bool:
        """Whether every chunk of the version that arrives is here."""
        arriving = self._arriving.get(name)
        return arriving is not None and arriving.reception.state == "complete"

    def stage(self, name: str) -> str:
        """Verify and validate what has arrived, put it among the versions, and hold it ready; return the version.

        Raises:
            UpdateRefused: it is deleted.
        """
        arriving = self._found(name)
        if not self.complete(name):
            raise UpdateRefused("chunk", f"chunks of {name!r} are missing: {arriving.reception.missing()[:4]!r}")
        publisher = self._publisher(name)
        version = arriving.reception.manifest.version
        try:
            with arriving.staging.opened() as stored:
                model = publisher.validate(stored)
            arriving.staging.publish()
        except UpdateRefused as error:
            raise self._refuse(name, error) from error
        self._forget(name)
        publisher.keep(model)
        publisher.store.prune(name)
        return version

    def commit(self, commit: Commit) -> None:
        """Make a version current.

        Raises:
            UpdateRefused: it does not serve.
        """
        self._publisher(commit.name).publish(commit.version, commit.policy, commit.drain_s)

    def abort(self, name: str) -> None:
        """Delete what arrives, and forget what is staged.

        Raises:
            UpdateRefused: `unknown`, there is no such model.
        """
        publisher = self._publisher(name)
        self._forget(name)
        publisher.store.discard_staged(name)
        publisher.drop()

    def cut(self) -> None:
        """The line went away: keep what has arrived on disk for the next offer."""
        for name in list(self._arriving):
            self._forget(name)

    def _publisher(self, name: str) -> Publisher:
        publisher = self._publishers.get(name)
        if publisher is None:
            raise UpdateRefused("unknown", f"there is no model {name[:128]!r} here")
        return publisher

    def _found(self, name: str) -> _Arriving:
        arriving = self._arriving.get(name)
        if arriving is None:
            raise UpdateRefused("unknown", f"no version of {name[:128]!r} is arriving; offer it first")
        return arriving

    def _parent(self, publisher: Publisher, offer: Offer) -> StoredVersion | None:
        """The version that differences are taken from, verified."""
        if offer.parent is None:
            return None
        try:
            parent = publisher.store.open(publisher.name, offer.parent)
        except UpdateRefused as error:
            raise UpdateRefused("parent", f"the version that this one changes is not here: {error.message}") from error
        try:
            if parent.manifest.weights_bytes != offer.plan.body_bytes:
                raise UpdateRefused("parent", f"it has {parent.manifest.weights_bytes} bytes of weights")
            parent.verify()
        except UpdateRefused as error:
            parent.close()
            raise UpdateRefused(
                "parent", f"the version that this one changes cannot be used: {error.message}"
            ) from error
        return parent

    def _refuse(self, name: str, error: UpdateRefused) -> UpdateRefused:
        """Delete what has arrived; a full disk keeps it, because the same version may fit later."""
        arriving = self._arriving.pop(name)
        arriving.close()
        if error.reason != "storage":
            arriving.staging.discard()
        self._publisher(name).refused(arriving.reception.manifest.version, error)
        return error

    def _forget(self, name: str) -> None:
        arriving = self._arriving.pop(name, None)
        if arriving is not None:
            arriving.close()


class UpdateDesk:
    """Takes the frames of updates on the event loop, and has them worked off in a thread, in order.

    Args:
        receiver: does the work.
    """

    def __init__(self, receiver: UpdateReceiver) -> None:
        self._receiver = receiver
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="update")
        self._waiting = 0
        self._streams: dict[tuple[object, int], str] = {}

    def on_frame(
        self, line: object, stream: int, opcode: int, head: tuple[int, int], payload: bytes, reply: Reply
    ) -> None:
        """Take one UPDATE_* message.

        Args:
            line: the connection, by identity.
            stream: of the update on that connection.
            opcode: of the message.
            head: its `aux` and `arg`.
            payload: its bytes, fragments joined.
            reply: sends what is answered.
        """
        if self._waiting >= WAITING_MAX:
            refused = UpdateRefused("busy", f"{self._waiting} frames wait already; send no more than the window")
            _answer(reply, Result(self._streams.get((line, stream), ""), "", "refused", "busy", refused.message))
            return
        self._waiting += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._work, (line, stream), opcode, head, payload)
        work.add_done_callback(lambda done: self._done(done, reply))

    def closed(self, line: object) -> None:
        """A connection went away: what it sent is kept for the next offer."""
        for key in [key for key in self._streams if key[0] is line]:
            del self._streams[key]
            self._thread.submit(self._receiver.cut)

    def close(self) -> None:
        """End the thread after what waits."""
        self._thread.submit(self._receiver.cut)
        self._thread.shutdown(wait=True, cancel_futures=False)

    def _done(self, done: asyncio.Future[list[msgspec.Struct]], reply: Reply) -> None:
        self._waiting -= 1
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            _log.error("an update failed", exc_info=error)
            _answer(reply, Result("", "", "refused", "storage", f"the node failed ({type(error).__name__})"))
            return
        for told in done.result():
            _answer(reply, told)

    def _work(
        self, key: tuple[object, int], opcode: int, head: tuple[int, int], payload: bytes
    ) -> list[msgspec.Struct]:
        """In the thread: do what a frame asks, and say what to answer."""
        name = self._streams.get(key, "")
        try:
            match opcode:
                case opcodes.UPDATE_BEGIN:
                    name, told = self._receiver.begin(_read(payload, Offer))
                    self._streams[key] = name
                    return self._after(name, told)
                case opcodes.UPDATE_CHUNK:
                    return self._after(name, self._receiver.chunk(name, head[1], head[0], payload))
                case opcodes.UPDATE_COMMIT:
                    commit = _read(payload, Commit)
                    name = commit.name
                    self._receiver.commit(commit)
                    return [Result(name, commit.version, "published")]
                case opcodes.UPDATE_ABORT:
                    abort = _read(payload, Abort)
                    self._receiver.abort(abort.name)
                    return [Result(abort.name, "", "aborted", "", abort.reason)]
                case _:
                    raise UpdateRefused("unknown", f"opcode {opcode} is not for a node")
        except UpdateRefused as error:
            return [Result(name, "", "refused", error.reason, error.message)]
        except AutoGLMError as error:
            return [Result(name, "", "refused", "format", error.message)]

    def _after(self, name: str, told: Progress) -> list[msgspec.Struct]:
        if told.missing or not self._receiver.complete(name):
            return [told]
        return [told, Result(name, self._receiver.stage(name), "staged")]


def _read(payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRefused("manifest", f"the message cannot be read: {error}") from error


def _answer(reply: Reply, told: msgspec.Struct) -> None:
    if isinstance(told, Progress):
        reply(opcodes.UPDATE_STATE, msgspec.json.encode(told), told.window)
    else:
        reply(opcodes.UPDATE_RESULT, msgspec.json.encode(told), 0)
