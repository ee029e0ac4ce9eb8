"""The node's end of a parameter update: chunks become a version on disk, a version is checked, staged and committed.

| state | means | next |
|---|---|---|
| receiving | chunks are written beside the versions that serve | staged, refused, cut |
| staged | everything is verified, validated and in memory | published, aborted |
| cut | the line or the node went away; what had arrived is on disk | receiving, when it is offered again |
| refused, aborted | what had arrived is deleted | – |

Invariant: until the commit, nothing here can be seen by a request; whatever fails leaves the version that serves as it
is. Stage and commit are two commands, so that many nodes can stage before any commits.

It works and blocks; `update_desk` stands in front of it on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from open_autoglm.engines.model_engine import Policy
from open_autoglm.inference.model_store import Staging, StoredVersion
from open_autoglm.inference.publisher import Publisher
from open_autoglm.rollout.manifest import read_manifest
from open_autoglm.rollout.reception import Offer, Reception
from open_autoglm.rollout.refusal import UpdateRefused
from open_autoglm.rollout.transmission import Progress

WINDOW: Final = 4
WINDOW_BYTES: Final = 64 << 20
"""Chunks that may be on their way, in number and in bytes; at least one may."""
Outcome = Literal["staged", "published", "rolled_back", "refused", "aborted"]


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What UPDATE_COMMIT carries."""

    name: str
    version: str
    policy: Policy = "pin"
    drain_s: float = 30.0
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0


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
        window = max(1, min(WINDOW, WINDOW_BYTES // reception.plan.chunk_bytes))
        return Progress(reception.received, reception.missing(), window, reception.damaged)

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
        self._publisher(commit.name).publish(commit.version, commit.policy, commit.drain_s, commit.share)

    def abort(self, name: str) -> None:
        """Delete what arrives, and forget what is staged.

        Raises:
            UpdateRefused: `unknown`, there is no such model.
        """
        publisher = self._publisher(name)
        self._forget(name)
        publisher.store.discard_staged(name)
        publisher.drop()

    def cut(self, name: str) -> None:
        """The line went away: keep on disk what has arrived of a model, if anything, for the next offer."""
        arriving = self._arriving.get(name)
        self._forget(name)
        if arriving is not None and not arriving.reception.received:
            arriving.staging.discard()

    @property
    def arriving(self) -> frozenset[str]:
        """Names of the models of which a version arrives."""
        return frozenset(self._arriving)

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
