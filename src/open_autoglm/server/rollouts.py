"""Rollouts of models over the nodes of a cluster: who serves which version, who is sent where, and when it ends.

Invariants: a request is steered by its group's own balancer among the nodes of one version, so health, limits and
retries hold as always; where no node of its version can take it, any other does. A rollout that is over steers nobody.
While none runs, no request pays for this: groups choose as if it were not here.

What nodes are told is told to one after the other; a node that refuses ends the start, and those before it go back.

A rollout is a fact of the cluster (`rollout_facts`): each server steers by it, judges by its own requests, and may take
the next step; one that comes later learns of it, and it outlives the server that began it. Who gets a command tells the
nodes. A version that is no longer wanted is looked for once more by every server some seconds later, so that nodes
which nobody told, because a server died or a line was cut, follow as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.exchange.outcomes import RULES
from open_autoglm.rollout.plan import Rollout, RolloutRules
from open_autoglm.rollout.record import RolloutRecord
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.server.rollout_facts import Agreed, RolloutFacts, key_of

_log = logging.getLogger(__name__)
ROLLOUTS_MAX: Final = 64
LEAVE_S: Final = 5.0
"""Nodes say within a second or two what they serve, so by then only those are told that nobody told."""
_RUN_BITS: Final = 53
_MISSING: Final = "no node of the cluster serves {model!r}"


class Served(NamedTuple):
    """A node that offers a model."""

    url: str
    version: str


class Nodes:
    """What rollouts need of the server; `server.rollout_nodes` has the real one, tests another.

    Every method is quick but `tell`.
    """

    def served(self, model: str) -> list[Served]:
        """Nodes that offer a model, with the version that each serves."""
        raise NotImplementedError

    def endpoints(self, model: str) -> Iterable[Endpoint]:
        """Endpoints of a model."""
        raise NotImplementedError

    def group(self, model: str) -> Group | None:
        """The group of a model in the newest snapshot."""
        raise NotImplementedError

    def counts(self, endpoint: Endpoint) -> Mapping[str, int]:
        """Attempts at an endpoint so far, by outcome."""
        raise NotImplementedError

    def tell(self, url: str, fields: dict[str, Any]) -> Awaitable[dict[str, Any]]:
        """Have a node do something; raises an AutoGLMError when it does not."""
        raise NotImplementedError

    def keep_together(self, models: frozenset[str]) -> None:
        """Have requests of one conversation carry the same affinity, if they are for one of these models."""
        raise NotImplementedError

    def facts(self) -> RolloutFacts | None:
        """What the cluster knows of rollouts; None where there is no cluster."""
        raise NotImplementedError

    def listen(self, hear: Callable[[str], None]) -> None:
        """Have `hear` called with the key of each fact that changes."""
        raise NotImplementedError


class Rollouts:
    """See the module.

    Args:
        nodes: the cluster.
        rng: for requests without a session.
        background: runs what an automatic rollback tells the nodes.
    """

    def __init__(
        self, nodes: Nodes, rng: random.Random, background: Callable[[Awaitable[None]], object] = asyncio.ensure_future
    ) -> None:
        self._nodes = nodes
        self._rng = rng
        self._background = background
        self._rollouts: dict[str, Rollout] = {}
        self._records: dict[str, RolloutRecord] = {}
        self._left: dict[tuple[str, str], float] = {}
        self._seen: dict[str, dict[str, tuple[int, int]]] = {}  # of each model's endpoints, at the last look
        self._versions: dict[str, dict[str, str]] = {}
        nodes.listen(self._hear)
        facts = nodes.facts()
        for model in facts.models() if facts is not None else ():
            self._follow(model)

    # Commands.

    async def start(self, model: str, candidate: str, share: float, rules: RolloutRules) -> dict[str, Any]:
        """Publish a version on as many nodes as its share needs, and send it that share of the requests.

        Args:
            model: its name.
            candidate: the version; nodes that are to serve it have it on disk.
            share: 0 to 1. With one node, that node serves both versions.
            rules: when it goes by itself.

        Raises:
            RequestError: `conflict` or `not_found`; nothing has changed.
        """
        facts = self._nodes.facts()
        served = self._nodes.served(model)
        if facts is None or not served:
            raise RequestError("not_found", _MISSING.format(model=model))
        before = facts.read(model)
        if before.record is not None and before.record.state == "running":
            raise RequestError("conflict", f"a rollout of {model!r} runs already; promote it or roll it back first")
        if before.record is None and len(self._records) >= ROLLOUTS_MAX:
            raise RequestError("conflict", f"{ROLLOUTS_MAX} rollouts are remembered; that is all")
        others = Counter(node.version for node in served if node.version != candidate)
        if not others:
            raise RequestError("conflict", f"every node serves version {candidate!r} of {model!r} already")
        record = RolloutRecord(
            model=model,
            run=self._rng.getrandbits(_RUN_BITS),
            state="running",
            stable=others.most_common(1)[0][0],
            candidate=candidate,
            share=_checked(share),
            rules=rules,
        )
        # Before any node is told: if this server ends here, another one knows what to take back.
        self._write(facts, model, record, before.seen)
        try:
            await self._spread(record, share)
        except RequestError:
            now = facts.read(model)
            if now.record == record:
                self._write(facts, model, before.record, now.seen)
            raise
        await self._still(record)
        self.renew()
        return self.row(model)

    async def set_share(self, model: str, share: float) -> dict[str, Any]:
        """Change the candidate's share; more nodes get it when that takes more. Raises as `start`."""
        facts, record, agreed = self._running(model)
        await self._spread(record, _checked(share))
        await self._still(record)
        self._write(facts, model, record.with_step("running", share, "by hand"), agreed.seen)
        return self.row(model)

    async def promote(self, model: str) -> dict[str, Any]:
        """Have every node serve the candidate. Raises as `start`."""
        facts, record, _ = self._running(model)
        await self._spread(record, 1.0)
        await self._still(record)
        # A share that another server set meanwhile is no reason against it.
        self._write(facts, model, record.with_step("promoted", 1.0, "by hand"), facts.read(model).seen)
        return self.row(model)

    async def rollback(self, model: str) -> dict[str, Any]:
        """Send nobody to the candidate any more, and have every node serve the stable version.

        It counts before whatever another server decides at the same time.

        Raises:
            RequestError: `not_found`, there is no rollout; `conflict`, a node did not go back: try again.
        """
        facts, record, agreed = self._known(model)
        if record.state != "rolled_back":
            self._write(facts, model, record.with_step("rolled_back", 0.0, "by hand"), agreed.seen)
        await self._back(record)
        return self.row(model)

    # Time.

    def sweep(self, now_s: float) -> None:
        """Count what has happened, and judge; once a second."""
        for model, rollout in list(self._rollouts.items()):
            if rollout.state == "running":
                self._count(rollout, now_s)
                if rollout.handle_timeout(now_s):
                    self._decide(model, rollout)
        for (model, version), due_s in list(self._left.items()):
            if due_s <= now_s:
                del self._left[model, version]
                self._background(self._leave(model, version))

    def _decide(self, model: str, rollout: Rollout) -> None:
        """Tell everybody what the figures here have decided, and the nodes as well."""
        step = rollout.history[-1]
        _log.warning("the rollout of %s was %s: %s", model, step.what, step.why)
        facts, record, agreed = self._known(model)
        self._write(facts, model, record.with_step(rollout.state, rollout.weights.share, step.why), agreed.seen)
        self._background(self._carry_out(record, rollout.state))

    # What the cluster agrees on.

    def _hear(self, key: str) -> None:
        facts = self._nodes.facts()
        if facts is None:
            return
        told = facts.model_of(key)
        for model in {told, *(model for model in self._records if key_of(model) == key)} - {None}:
            self._follow(str(model))

    def _follow(self, model: str) -> None:
        """Do as the cluster agrees now."""
        facts, now_s = self._nodes.facts(), clock.monotonic()
        agreed = Agreed(None, "", {}) if facts is None else facts.read(model)
        record, former = agreed.record, self._records.get(model)
        if record is None:
            if former is not None:
                group = self._nodes.group(model)
                if group is not None:
                    group.steer(None)
                del self._records[model], self._rollouts[model]
                self._seen.pop(model, None)
                self._versions.pop(model, None)
        else:
            why = f"{record.why} at {agreed.by}".strip()
            rollout = self._rollouts.get(model)
            if rollout is None or former is None or former.run != record.run:
                begun = former is None
                rollout = self._rollouts[model] = Rollout(model, record.weights, record.rules, now_s, why)
                self._count(rollout, now_s, told=False)
                if not begun:
                    _log.warning("the rollout of %s gave way to another one, begun at %s", model, agreed.by)
            if rollout.adopt(record.state, record.share, now_s, why):
                _log.info("the rollout of %s is %s, %.0f%%: %s", model, record.state, 100 * record.share, why)
            self._records[model] = record
        if former is not None:
            self._look_later(former, record, now_s)
        self.renew()

    def _look_later(self, former: RolloutRecord, record: RolloutRecord | None, now_s: float) -> None:
        """Look for nodes that still serve what nobody wants any more, when they had time to follow."""
        for version in (former.stable, former.candidate):
            same = record is not None and record.run == former.run
            if (same or version == former.candidate) and former.wants(version) and not _wants(record, version):
                self._left[former.model, version] = now_s + LEAVE_S * (1.0 + self._rng.random())

    async def _leave(self, model: str, version: str) -> None:
        """Have nodes that still serve a version serve what is wanted instead."""
        record = self._records.get(model)
        if record is not None and not record.wants(version):
            for node in self._nodes.served(model):
                if node.version == version:
                    await self._publish(node.url, model, record.wanted)

    async def _still(self, record: RolloutRecord) -> None:
        """Go on only if no other server has ended the rollout while nodes were told.

        Raises:
            RequestError: `conflict`; nodes that serve the candidate have gone back.
        """
        now = self._records.get(record.model)
        if now is not None and now.run == record.run and now.state == "running":
            return
        if now is not None and now.run == record.run and now.state == "promoted":
            raise RequestError("conflict", f"the rollout of {record.model!r} was promoted meanwhile")
        if not _wants(now, record.candidate):
            with contextlib.suppress(RequestError):  # what does not go back is logged, and looked for again
                await self._back(record)
        what = "forgotten" if now is None else "rolled back" if now.run == record.run else "replaced by another one"
        raise RequestError("conflict", f"the rollout of {record.model!r} was {what} by another server meanwhile")

    def _write(self, facts: RolloutFacts, model: str, record: RolloutRecord | None, seen: Mapping[str, int]) -> None:
        facts.write(model, record, seen)
        self._follow(model)

    def renew(self) -> None:
        """Steer the groups of the newest snapshot; after each change of it."""
        running = set()
        for model, rollout in self._rollouts.items():
            group = self._nodes.group(model)
            live = rollout.state == "running"
            if live:
                running.add(model)
            self._versions[model] = {node.url: node.version for node in self._nodes.served(model)}
            if group is not None:
                group.steer(self._narrow(rollout) if live else None)
        self._nodes.keep_together(frozenset(running))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each rollout."""
        return [self.row(model) for model in sorted(self._rollouts)]

    def row(self, model: str) -> dict[str, Any]:
        """One rollout.

        Raises:
            RequestError: `not_found`.
        """
        facts, _, agreed = self._known(model)
        rollout, now_s = self._rollouts[model], clock.monotonic()
        weights = rollout.weights

        def told(version: str) -> dict[str, Any]:
            requests, failures = rollout.counts(version, now_s)
            # As requests are steered now, which a node's word may be ahead of.
            nodes = [url for url, served in self._versions.get(model, {}).items() if served == version]
            return {"version": version, "requests": requests, "failures": failures, "nodes": nodes}

        return {
            "model": model,
            "state": rollout.state,
            "share": weights.share,
            "stable": told(weights.stable),
            "candidate": told(weights.candidate),
            "window_s": rollout.rules.window_s,
            "by": agreed.by,
            "conflicts": facts.conflicts(model),
            "history": [
                {"ago_s": round(now_s - step.at_s, 1), "what": step.what, "why": step.why} for step in rollout.history
            ],
        }

    def _narrow(self, rollout: Rollout) -> Callable[[Sequence[Endpoint], int], Sequence[Endpoint]]:
        def narrow(endpoints: Sequence[Endpoint], affinity: int) -> Sequence[Endpoint]:
            version = rollout.weights.choose(affinity or self._rng.getrandbits(64))
            versions = self._versions.get(rollout.model, {})
            return [each for each in endpoints if versions.get(each.url) == version] or endpoints

        return narrow

    def _count(self, rollout: Rollout, now_s: float, *, told: bool = True) -> None:
        """Take in what endpoints did since the last look, each for the version that it serves."""
        versions = self._versions[rollout.model] = {
            node.url: node.version for node in self._nodes.served(rollout.model)
        }
        seen, now_seen = self._seen.get(rollout.model, {}), dict[str, tuple[int, int]]()
        self._seen[rollout.model] = now_seen  # what is gone is forgotten
        for endpoint in self._nodes.endpoints(rollout.model):
            counts = self._nodes.counts(endpoint)
            failed = sum(count for outcome, count in counts.items() if outcome in RULES and _fails(outcome))
            whole = counts.get("ok", 0) + failed
            before = seen.get(endpoint.name, (whole, failed))
            now_seen[endpoint.name] = whole, failed
            version = versions.get(endpoint.url)
            if told and version is not None:
                rollout.observe(version, max(0, whole - before[0]), max(0, failed - before[1]), now_s)

    # Nodes.

    async def _spread(self, record: RolloutRecord, share: float) -> None:
        """Have enough nodes serve the candidate, and leave the stable version one while it has a share."""
        model, candidate = record.model, record.candidate
        served = self._nodes.served(model)
        if not served:
            raise RequestError("not_found", _MISSING.format(model=model))
        if len(served) == 1:
            await self._share(served[0], model, candidate, share)
            return
        most = len(served) if share >= 1.0 else len(served) - 1
        wanted = min(most, math.ceil(share * len(served)))
        have = sum(node.version == candidate for node in served)
        changed: list[str] = []
        for node in [node for node in served if node.version != candidate][: max(0, wanted - have)]:
            try:
                await self._nodes.tell(node.url, {"command": "publish", "model": model, "version": candidate})
            except AutoGLMError as error:
                for url in changed:
                    await self._publish(url, model, record.stable)
                raise RequestError("conflict", f"the node at {node.url}: {error.message}") from error
            changed.append(node.url)

    async def _share(self, node: Served, model: str, candidate: str, share: float) -> None:
        """Have the only node serve both versions, each its share."""
        fields: dict[str, Any] = {"command": "weigh", "model": model, "share": share}
        if node.version != candidate:
            fields |= {"command": "publish", "version": candidate}
        try:
            await self._nodes.tell(node.url, fields)
        except AutoGLMError as error:
            raise RequestError("conflict", f"the node at {node.url}: {error.message}") from error

    async def _back(self, record: RolloutRecord) -> None:
        model = record.model
        left = [node.url for node in self._nodes.served(model) if node.version == record.candidate]
        failed = [url for url in left if not await self._publish(url, model, record.stable)]
        if failed:
            raise RequestError("conflict", f"nodes that still serve the candidate: {', '.join(failed)}; try again")

    async def _carry_out(self, record: RolloutRecord, state: str) -> None:
        """Tell the nodes what a rollout decided by itself."""
        try:
            if state == "rolled_back":
                await self._back(record)
            else:
                await self._spread(record, 1.0)
        except AutoGLMError as error:
            _log.error("the rollout of %s is %s, but: %s", record.model, state, error.message)

    async def _publish(self, url: str, model: str, version: str) -> bool:
        try:
            await self._nodes.tell(url, {"command": "publish", "model": model, "version": version})
        except AutoGLMError as error:
            _log.error("the node at %s does not serve version %s of %s: %s", url, version, model, error.message)
            return False
        return True

    def _known(self, model: str) -> tuple[RolloutFacts, RolloutRecord, Agreed]:
        facts = self._nodes.facts()
        agreed = None if facts is None else facts.read(model)
        if facts is None or agreed is None or agreed.record is None or model not in self._rollouts:
            raise RequestError("not_found", f"there is no rollout of {model!r}")
        return facts, agreed.record, agreed

    def _running(self, model: str) -> tuple[RolloutFacts, RolloutRecord, Agreed]:
        facts, record, agreed = self._known(model)
        if record.state != "running":
            raise RequestError("conflict", f"the rollout of {model!r} is {record.state}")
        return facts, record, agreed


def _checked(share: float) -> float:
    if not 0.0 <= share <= 1.0:
        raise RequestError("invalid_request", f"share is {share!r}; it must be 0 to 1")
    return share


def _wants(record: RolloutRecord | None, version: str) -> bool:
    return record is not None and record.wants(version)


def _fails(outcome: str) -> bool:
    return RULES[outcome].verdict == "failure"
