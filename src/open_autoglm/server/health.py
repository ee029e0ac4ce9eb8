"""Looks after endpoints: who is away, who does worse than the others, who turns requests away, who is back.

Nothing here is on the way of a request. Each second `sweep` reads what the endpoints counted, tells the mechanisms of
`resilience` and carries out what they say; each transition is one log event. Endpoints that are away, and at the start
all of them, are looked at over the network: one GET that costs no tokens (the list of models where there is one), for
an address that accepts connections and answers nothing is not there.

Invariants: at most eight looks run at once, one for each endpoint; a look takes no longer than `health.timeout`, and is
never a request to a model.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Iterable, Mapping

from open_autoglm import clock
from open_autoglm.config.schema import ServerConfig
from open_autoglm.exchange.plan import Plan
from open_autoglm.resilience.outliers import OutlierDetector, Tally, Verdict
from open_autoglm.resilience.settings import OutlierSettings
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.routing.panic import panics
from open_autoglm.server.assembly import Assembly, Part
from open_autoglm.telemetry.metrics import Gauge

_log = logging.getLogger(__name__)
_LOOKS_MAX = 8
_JITTER = 0.2
_WELL = ("closed", "disabled")


def _nobody(endpoint: Endpoint) -> None:
    """Who is told that an endpoint is away, until somebody wants to be."""


class Health:
    """See the module.

    Args:
        assembly: whose parts are looked after; a reload may change them at any time.
        loop: for the looks.
        rng: for jitter.
        now: monotonic seconds.

    Attributes:
        unreachable: endpoints that did not answer when they were looked at last.
        on_away: told of each endpoint whose breaker has opened.
    """

    def __init__(
        self,
        assembly: Assembly,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        now: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._assembly = assembly
        self._loop = loop
        self._rng = rng
        self._now = now
        self._settings = OutlierSettings()
        self._detectors: dict[str, OutlierDetector] = {}
        self._due_s: dict[Endpoint, float] = {}
        self._looks: dict[Endpoint, asyncio.Task[None]] = {}
        self.unreachable: set[Endpoint] = set()
        self.on_away: Callable[[Endpoint], None] = _nobody

    def sweep(self, now_s: float, config: ServerConfig, lag_s: float) -> None:
        """Read, judge, carry out. Called each second.

        Args:
            now_s: monotonic seconds.
            config: the active one.
            lag_s: how late the event loop usually is these seconds.
        """
        parts = self._assembly.parts.values()
        for part in parts:
            if part.pace is not None:
                part.pace.own_delay_s = lag_s
            self._judge(part, now_s, throttling=config.throttling.enabled)
        self._compare(now_s, config.outliers, self._assembly.plans)
        for plan in self._assembly.plans.values():
            leg = plan.legs[0]
            leg.budget.adapt(now_s, sum(endpoint.good for endpoint in leg.group.endpoints))
        if config.health.enabled:
            self._look_around(now_s, parts, config.health.interval_s, config.health.timeout_s)

    async def first_look(self, timeout_s: float) -> None:
        """Look at every endpoint, so that the first table tells what is there."""
        for part in self._assembly.parts.values():
            self._start_look(part, timeout_s)
        if self._looks:
            await asyncio.wait(list(self._looks.values()), timeout=timeout_s)

    def close(self) -> None:
        """Stop looking."""
        for look in self._looks.values():
            look.cancel()

    def gauges(self, gauge: Callable[[str, Gauge], None]) -> None:
        """Make the figures known.

        Args:
            gauge: takes a metric's name and who tells its samples.
        """

        def told(figure: Callable[[Endpoint], float]) -> Gauge:
            return lambda: {
                (part.endpoint.model, part.endpoint.name): figure(part.endpoint)
                for part in self._assembly.parts.values()
            }

        gauge("mcp_concurrency_limit", told(lambda endpoint: endpoint.limit))
        gauge("mcp_ejected", told(lambda endpoint: float(endpoint.ejected_until_s > self._now())))
        gauge("mcp_throttle_ratio", told(lambda endpoint: endpoint.refuse_ratio))
        gauge("mcp_panic", lambda: {n: float(plan.legs[0].group.panic) for n, plan in self._assembly.plans.items()})

    # Each endpoint by itself.

    def _judge(self, part: Part, now_s: float, *, throttling: bool) -> None:
        endpoint, throttle = part.endpoint, part.throttle
        for change in part.breaker.take_transitions():
            _log.warning(
                "breaker of %s at %s: %s -> %s (%s)",
                endpoint.model,
                endpoint.name,
                change.before,
                change.after,
                change.reason,
            )
            if change.after == "open":
                self.on_away(endpoint)
            if change.after in _WELL:
                # It has shown that it is well, and its slow start paces its return.
                throttle.clear()
        sent = endpoint.good + endpoint.failures + endpoint.throttled
        throttle.update(now_s, sent, sent - endpoint.turned_away)
        # Trials of a breaker are few as they are.
        ratio = throttle.ratio if throttling and part.breaker.state in _WELL else 0.0
        if ratio != endpoint.refuse_ratio:
            if not (ratio and endpoint.refuse_ratio):
                _log.warning(
                    "%s at %s turns requests away: %s",
                    endpoint.model,
                    endpoint.name,
                    f"{ratio:.0%} are held back" if ratio else "no longer, none is held back",
                )
            endpoint.hold_back(ratio)

    # Each group.

    def _compare(self, now_s: float, settings: OutlierSettings, plans: Mapping[str, Plan]) -> None:
        if settings != self._settings:
            self._settings = settings
            self._detectors.clear()
        for name in [name for name in self._detectors if name not in plans]:
            del self._detectors[name]
        for name, plan in plans.items():
            group = plan.legs[0].group
            if settings.enabled:
                detector = self._detectors.get(name)
                if detector is None:
                    detector = self._detectors[name] = OutlierDetector(settings, self._rng)
                tallies: dict[Hashable, Tally] = {endpoint: _tally(endpoint, now_s) for endpoint in group.endpoints}
                for verdict in detector.sweep(now_s, tallies):
                    _carry_out(verdict)
            elif any(endpoint.ejected_until_s for endpoint in group.endpoints):
                for endpoint in group.endpoints:
                    endpoint.eject(0.0)
        for name, plan in plans.items():
            group = plan.legs[0].group
            panic = panics([_level(leg.group, now_s) for leg in plan.legs])[0]
            if panic != group.panic:
                group.panic = panic
                if not any(endpoint.ejected_until_s for endpoint in group.endpoints):
                    continue  # it changes nothing
                _log.warning("%s: %s", name, "panic, ejections are ignored" if panic else "the panic is over")

    # Over the network.

    def _look_around(self, now_s: float, parts: Iterable[Part], interval_s: float, timeout_s: float) -> None:
        known = {part.endpoint for part in parts}
        self.unreachable &= known
        for endpoint in [endpoint for endpoint in self._due_s if endpoint not in known]:
            del self._due_s[endpoint]
        away = {part.endpoint: part for part in parts if self._is_away(part)}
        for endpoint in known - away.keys():
            self._due_s.pop(endpoint, None)
        for endpoint in away:
            self._due_s.setdefault(endpoint, now_s + self._pause_s(interval_s))
        # Whoever waits longest comes first, so that many that are away all have their turn.
        for endpoint, part in sorted(away.items(), key=lambda item: self._due_s[item[0]]):
            if now_s >= self._due_s[endpoint] and len(self._looks) < _LOOKS_MAX:
                self._due_s[endpoint] = now_s + self._pause_s(interval_s)
                self._start_look(part, timeout_s)

    def _is_away(self, part: Part) -> bool:
        return part.breaker.state == "open" or part.endpoint in self.unreachable

    def _pause_s(self, interval_s: float) -> float:
        """So varied that endpoints which went away together are not looked at together."""
        return interval_s * (1.0 + _JITTER * (2.0 * self._rng.random() - 1.0))

    def _start_look(self, part: Part, timeout_s: float) -> None:
        endpoint = part.endpoint
        if endpoint not in self._looks:
            look = self._looks[endpoint] = self._loop.create_task(self._look(part, timeout_s))
            look.add_done_callback(lambda _: self._looks.pop(endpoint, None))

    async def _look(self, part: Part, timeout_s: float) -> None:
        endpoint = part.endpoint
        try:
            there = await part.backend.reachable(timeout_s)
        except Exception:  # the outermost loop of a look: a backend's defect must not end the others'
            _log.exception("cannot look at %s", endpoint.name)
            return
        if there:
            self.unreachable.discard(endpoint)
            part.breaker.probe_ok(self._now())
        else:
            self.unreachable.add(endpoint)


def _tally(endpoint: Endpoint, now_s: float) -> Tally:
    in_a_row = endpoint.in_a_row if endpoint.good == endpoint.good_at_failure else 0
    return Tally(endpoint.good, endpoint.failures, in_a_row, _is_well(endpoint, now_s))


def _is_well(endpoint: Endpoint, now_s: float) -> bool:
    return endpoint.gate.state in _WELL and endpoint.misconfigured_until_s <= now_s


def _level(group: Group, now_s: float) -> tuple[int, int]:
    available = sum(_is_well(endpoint, now_s) and endpoint.ejected_until_s <= now_s for endpoint in group.endpoints)
    return available, len(group.endpoints)


def _carry_out(verdict: Verdict) -> None:
    endpoint = verdict.key
    assert isinstance(endpoint, Endpoint), "tallies are told by endpoint"
    endpoint.eject(verdict.until_s)
    action = "ejected" if verdict.until_s else "back"
    _log.warning("%s at %s is %s: %s", endpoint.model, endpoint.name, action, verdict.reason)
