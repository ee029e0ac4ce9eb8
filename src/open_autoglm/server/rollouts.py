"""Rollouts of models over the nodes of a cluster: who serves which version, who is sent where, and when it ends.

Invariants: a request is steered by its group's own balancer among the nodes of one version, so health, limits and
retries hold as always; where no node of its version can take it, any other does. A rollout that is over steers nobody.
While none runs, no request pays for this: groups choose as if it were not here.

What nodes are told is told to one after the other; a node that refuses ends the start, and those before it go back.
Rollouts are remembered by this process alone. What nodes serve, they remember themselves.
"""

from __future__ import annotations

import asyncio
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
from open_autoglm.rollout.weights import VersionWeights
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group

_log = logging.getLogger(__name__)
ROLLOUTS_MAX: Final = 64
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

    def keep_together(self, wanted: bool) -> None:
        """Have requests of one conversation carry the same affinity, while that is wanted."""
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
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}
        self._versions: dict[str, dict[str, str]] = {}

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
        running = self._rollouts.get(model)
        if running is not None and running.state == "running":
            raise RequestError("conflict", f"a rollout of {model!r} runs already; promote it or roll it back first")
        if len(self._rollouts) >= ROLLOUTS_MAX and model not in self._rollouts:
            raise RequestError("conflict", f"{ROLLOUTS_MAX} rollouts are remembered; that is all")
        served = self._nodes.served(model)
        others = Counter(node.version for node in served if node.version != candidate)
        if not served:
            raise RequestError("not_found", _MISSING.format(model=model))
        if not others:
            raise RequestError("conflict", f"every node serves version {candidate!r} of {model!r} already")
        try:
            weights = VersionWeights(model, others.most_common(1)[0][0], candidate, share)
            rollout = Rollout(model, weights, rules, clock.monotonic())
        except ValueError as error:
            raise RequestError("invalid_request", str(error)) from error
        await self._spread(model, rollout.weights.stable, candidate, share)
        self._rollouts[model] = rollout
        self._count(rollout, clock.monotonic(), told=False)
        self.renew()
        return self.row(model)

    async def set_share(self, model: str, share: float) -> dict[str, Any]:
        """Change the candidate's share; more nodes get it when that takes more. Raises as `start`."""
        rollout = self._running(model)
        await self._spread(model, rollout.weights.stable, rollout.weights.candidate, share)
        try:
            rollout.set_share(share, clock.monotonic())
        except ValueError as error:
            raise RequestError("conflict", str(error)) from error
        self.renew()
        return self.row(model)

    async def promote(self, model: str) -> dict[str, Any]:
        """Have every node serve the candidate. Raises as `start`."""
        rollout = self._running(model)
        await self._spread(model, rollout.weights.stable, rollout.weights.candidate, 1.0)
        rollout.promote(clock.monotonic())
        self.renew()
        return self.row(model)

    async def rollback(self, model: str) -> dict[str, Any]:
        """Send nobody to the candidate any more, and have every node serve the stable version.

        Raises:
            RequestError: `not_found`, there is no rollout; `conflict`, a node did not go back: try again.
        """
        rollout = self._found(model)
        rollout.rollback(clock.monotonic())
        self.renew()
        await self._back(rollout)
        return self.row(model)

    def sweep(self, now_s: float) -> None:
        """Count what has happened, and judge; once a second."""
        for rollout in self._rollouts.values():
            if rollout.state != "running":
                continue
            self._count(rollout, now_s)
            if rollout.handle_timeout(now_s):
                step = rollout.history[-1]
                _log.warning("the rollout of %s was %s: %s", rollout.model, step.what, step.why)
                self.renew()
                self._background(self._follow(rollout))

    def renew(self) -> None:
        """Steer the groups of the newest snapshot; after each change of it."""
        running = False
        for model, rollout in self._rollouts.items():
            group = self._nodes.group(model)
            live = rollout.state == "running"
            running = running or live
            self._versions[model] = {node.url: node.version for node in self._nodes.served(model)}
            if group is not None:
                group.steer(self._narrow(rollout) if live else None)
        self._nodes.keep_together(running)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each rollout."""
        return [self.row(model) for model in sorted(self._rollouts)]

    def row(self, model: str) -> dict[str, Any]:
        """One rollout.

        Raises:
            RequestError: `not_found`.
        """
        rollout = self._found(model)
        now_s = clock.monotonic()
        weights = rollout.weights

        def told(version: str) -> dict[str, Any]:
            requests, failures = rollout.counts(version, now_s)
            nodes = [node.url for node in self._nodes.served(model) if node.version == version]
            return {"version": version, "requests": requests, "failures": failures, "nodes": nodes}

        return {
            "model": model,
            "state": rollout.state,
            "share": weights.share,
            "stable": told(weights.stable),
            "candidate": told(weights.candidate),
            "window_s": rollout.rules.window_s,
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
        for endpoint in self._nodes.endpoints(rollout.model):
            counts = self._nodes.counts(endpoint)
            failed = sum(count for outcome, count in counts.items() if outcome in RULES and _fails(outcome))
            whole = counts.get("ok", 0) + failed
            before = self._seen.get((rollout.model, endpoint.name), (whole, failed))
            self._seen[rollout.model, endpoint.name] = whole, failed
            version = versions.get(endpoint.url)
            if told and version is not None:
                rollout.observe(version, max(0, whole - before[0]), max(0, failed - before[1]), now_s)

    async def _spread(self, model: str, stable: str, candidate: str, share: float) -> None:
        """Have enough nodes serve the candidate, and leave the stable version one while it has a share."""
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
                    await self._go_back(url, model, stable)
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

    async def _back(self, rollout: Rollout) -> None:
        model, weights = rollout.model, rollout.weights
        left = [node.url for node in self._nodes.served(model) if node.version == weights.candidate]
        failed = [url for url in left if not await self._go_back(url, model, weights.stable)]
        if failed:
            raise RequestError("conflict", f"nodes that still serve the candidate: {', '.join(failed)}; try again")

    async def _follow(self, rollout: Rollout) -> None:
        """Tell the nodes what a rollout decided by itself."""
        try:
            if rollout.state == "rolled_back":
                await self._back(rollout)
            else:
                await self._spread(rollout.model, rollout.weights.stable, rollout.weights.candidate, 1.0)
        except AutoGLMError as error:
            _log.error("the rollout of %s is %s, but: %s", rollout.model, rollout.state, error.message)

    async def _go_back(self, url: str, model: str, stable: str) -> bool:
        try:
            await self._nodes.tell(url, {"command": "publish", "model": model, "version": stable})
        except AutoGLMError as error:
            _log.error("the node at %s did not go back to version %s of %s: %s", url, stable, model, error.message)
            return False
        return True

    def _found(self, model: str) -> Rollout:
        rollout = self._rollouts.get(model)
        if rollout is None:
            raise RequestError("not_found", f"there is no rollout of {model!r}")
        return rollout

    def _running(self, model: str) -> Rollout:
        rollout = self._found(model)
        if rollout.state != "running":
            raise RequestError("conflict", f"the rollout of {model!r} is {rollout.state}")
        return rollout


def _fails(outcome: str) -> bool:
    return RULES[outcome].verdict == "failure"
