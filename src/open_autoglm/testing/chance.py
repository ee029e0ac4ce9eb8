"""Random scenarios: load, faults, reloads and drains that a seed draws, within what a server must be able to bear.

Invariant: at any time one upstream at least is well, so that good answers are always possible.
"""

from __future__ import annotations

import random
from typing import Any, Final

from open_autoglm.testing.scenario import Event, Expectation, Load, Scenario

FAULTS_DRAWN: Final = (
    "error-500",
    "bad-gateway",
    "unavailable",
    "overloaded-529",
    "rate-limited",
    "rate-limited-bare",
    "unauthorized",
    "silent",
    "head-only",
    "stall",
    "reset",
    "cut",
    "cut-by-reset",
    "cut-cleanly",
    "no-done",
    "empty-stream",
    "wrong-length",
    "malformed-event",
    "html-200",
    "error-200",
    "error-in-stream",
    "wrong-types",
    "nul",
    "two-in-one",
    "odd-events",
    "slow-first-token",
)
_NETWORK: Final = ("freeze", "refuse", "black-hole", "kill", "reset", "cut")
_STRATEGIES: Final = ("least_connections", "round_robin", "power_of_two", "latency", "weighted", "inverse_load")


def random_scenario(seed: int) -> Scenario:
    """Draw a scenario; the same seed draws the same one."""
    rng = random.Random(seed)
    upstreams = rng.randint(2, 4)
    lasts_s = rng.uniform(6.0, 15.0)
    config: dict[str, Any] = {
        "routing": {"strategy": rng.choice(_STRATEGIES)},
        "retries": {"max": rng.randint(1, 3)},
        "breaker": {"profile": rng.choice(("adaptive", "adaptive", "classic"))},
    }
    events = _faults(rng, upstreams, lasts_s)
    others = {}
    if rng.random() < 0.3:
        others["second"] = {"models": _models(upstreams, "chat-second"), "retries": {"max": 2}}
        events.append(Event(round(rng.uniform(1.0, lasts_s), 3), "reload", what="second"))
    if rng.random() < 0.15:
        events.append(Event(round(lasts_s * rng.uniform(0.5, 0.9), 3), "drain"))
    return Scenario(
        about=f"drawn by seed {seed}",
        upstreams=upstreams,
        config=config,
        others=others,
        network=_network(rng),
        loads=_loads(rng, lasts_s),
        events=tuple(sorted(events, key=lambda event: event.at_s)),
        # The draw may break every endpoint at once for most of a run: of 3,000 seeds the worst answered 58 %, the next
        # 73 %. This says that it serves at all; the promises say the rest.
        expects=(Expectation(True, 0.4, "answered"),),
        calm_s=60.0,
    )


def _network(rng: random.Random) -> dict[str, float]:
    network = {"cuts": rng.choice((0.0, 0.25, 0.6)), "jitter_s": rng.choice((0.0002, 0.002, 0.01))}
    if rng.random() < 0.15:
        network["loss"] = 0.02
    return network


def _loads(rng: random.Random, lasts_s: float) -> tuple[Load, ...]:
    shares = {
        "streams": rng.choice((0.0, 0.4, 0.4, 1.0)),
        "leave": rng.choice((0.0, 0.1, 0.3)),
        "hurry": rng.choice((0.0, 0.1)),
        "slow": rng.choice((0.0, 0.1)),
        "fresh": rng.choice((0.1, 0.5)),
    }
    shares = {name: share for name, share in shares.items() if share}
    loads = [Load(round(rng.uniform(3.0, 8.0), 1), round(lasts_s, 3), shares=shares)]
    if rng.random() < 0.3:
        burst = Load(30.0, 0.8, round(rng.uniform(0.5, lasts_s), 3), {"streams": 0.3})
        loads.append(burst)
    return tuple(loads)


def _faults(rng: random.Random, upstreams: int, lasts_s: float) -> list[Event]:
    """One or two at a time, never at the last upstream."""
    events: list[Event] = []
    for _ in range(rng.randint(1, 4)):
        at_s = round(rng.uniform(0.5, lasts_s), 3)
        for_s = round(rng.uniform(0.5, 8.0), 3)
        who = f"up-{rng.randint(1, upstreams - 1)}"
        if rng.random() < 0.4:
            do = rng.choice(_NETWORK)
            if do == "cut":
                ends = rng.choice(((who, "gateway"), ("gateway", who)))
                events.append(Event(at_s, do, *ends, for_s=for_s))
            else:
                events.append(Event(at_s, do, who, for_s=0.0 if do == "reset" else for_s))
            continue
        if any(one.who == who and one.do in ("answers", "is-slow") for one in events):
            continue  # what an upstream does with a request is said once
        if rng.random() < 0.15:
            events.append(Event(at_s, "is-slow", who, "10", for_s))
        else:
            share = rng.choice((0.1, 0.5, 1.0, 1.0))
            events.append(Event(at_s, "answers", who, rng.choice(FAULTS_DRAWN), for_s, share))
    return events


def _models(upstreams: int, upstream_model: str) -> list[dict[str, Any]]:
    return [
        {"name": "chat", "endpoint": f"http://up-{number + 1}/v1", "upstream_model": upstream_model}
        for number in range(upstreams)
    ]
