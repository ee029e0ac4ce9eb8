"""Runs the fault suite against a gateway: hosts the upstreams, asks, and has each request judged.

Four scripted upstreams listen on neighbouring ports: `primary` and `secondary`, which are the group of every model,
`fallback`, and `outage`, which is the first of the group of the case `down` and really goes away. Each question
carries a mark, by which the upstreams know which fault befalls it, so that the faults can run all at once, each on a
model of its own; a gateway with one model is drilled one fault after the other.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from open_autoglm.errors import UpstreamError
from open_autoglm.testing.cases import CASES, Case
from open_autoglm.testing.faults import FAULTS
from open_autoglm.testing.hearing import Door, Heard, ask
from open_autoglm.testing.judge import CANCEL_S, FALLBACK, FALLBACK_MODEL, FALLBACK_PROMPT_TOKENS, Verdict, judge
from open_autoglm.testing.outage import DOWN, Outage
from open_autoglm.testing.reply import Asked, Behaviour, Manner
from open_autoglm.testing.upstream import ScriptedUpstream

UPSTREAMS: Final = ("primary", "secondary", FALLBACK, "outage")
ROUNDS: Final = 2
"""Requests of each kind for a fault. Many more in so short a time would drill the limits on retries instead."""
_STAGGER_S: Final = 0.4
"""Between two rounds: what one taught the gateway, the next one may use."""
_REST_S: Final = 12.0
"""Between two faults on one model, so that what one did to the state of the endpoints has mostly passed."""
_SPREAD_S: Final = 0.5
"""Between the beginnings of two faults that run at once: it is faults that are put to the gateway, not load."""
_WARM_S: Final = 60.0
"""For the first answer of a gateway."""
_MARK: Final = re.compile(r"drill-(\d\d)-[us]-\d+-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Result:
    """One request and its verdict."""

    case: Case
    stream: bool
    verdict: Verdict
    seconds: float
    tries: int


class DrillScript:
    """What the upstreams do, by the mark of the question; also the record of the tries.

    Args:
        cases: that are run.
    """

    def __init__(self, cases: Sequence[Case] = CASES) -> None:
        self._cases = {case.number: case for case in cases}
        self.tries: dict[str, list[Asked]] = {}

    def __call__(self, asked: Asked) -> Behaviour:
        """Choose the behaviour; a `Script`."""
        found = _MARK.search(asked.question)
        if found is None:
            return FAULTS["none"].behaviour
        # Gateways may add to a prompt; the answer follows from the mark alone.
        asked.question = found.group()
        tries = self.tries.setdefault(asked.question, [])
        tries.append(asked)
        case = self._cases.get(int(found.group(1)))
        return FAULTS["none" if case is None else _fault_of(case, asked, tries)].behaviour


def _fault_of(case: Case, asked: Asked, tries: Sequence[Asked]) -> str:
    if case.later != "none" and len(tries) == 2:
        return case.later
    if case.fault == DOWN or asked.upstream == FALLBACK:  # which is well in every case
        return "none"
    befallen = {"once": len(tries) == 1, "route": asked.upstream == tries[0].upstream, "group": True}
    return case.fault if befallen[case.reach] else "none"


@dataclass(slots=True)
class Drill:
    """See the module.

    Attributes:
        door: the gateway.
        cases: what it is drilled with.
        model: the one model that all faults use, one after the other; None when each has its own.
        rounds: requests of each kind for a fault.
        on_result: told of each case when it is over.
        outage_s: how long an endpoint is away in the case `down`.
    """

    door: Door
    cases: Sequence[Case]
    model: str | None = None
    rounds: int = ROUNDS
    on_result: Callable[[Case, list[Result]], None] | None = None
    outage_s: float = 60.0
    upstreams: dict[str, ScriptedUpstream] = field(default_factory=dict)

    async def host(self, host: str, port: int) -> None:
        """Start the upstreams, on a port and those after it; 0 for free ones.

        Raises:
            OSError: a port is taken.
        """
        script = DrillScript(self.cases)
        models = [self.model] if self.model else [case.model for case in self.cases]
        for number, name in enumerate(UPSTREAMS):
            upstream = ScriptedUpstream(script, name=name, models=models)
            if name == FALLBACK:
                upstream.manner = Manner(prompt_tokens=FALLBACK_PROMPT_TOKENS, model=FALLBACK_MODEL)
            await upstream.start(host, port + number if port else 0)
            self.upstreams[name] = upstream

    def close(self) -> None:
        """Stop the upstreams."""
        for upstream in self.upstreams.values():
            upstream.stop()

    async def run(self) -> list[Result]:
        """Run all cases; see the module for which run at once.

        Raises:
            UpstreamError: the gateway does not answer well even before any fault.
        """
        await self._warm()
        alone = [case for case in self.cases if case.heavy or self.model is not None]
        together = [case for case in self.cases if case not in alone]
        running = [self._run(case, number * _SPREAD_S) for number, case in enumerate(together)]
        results = [result for each in await asyncio.gather(*running) for result in each]
        for number, case in enumerate(alone):
            results += await self._run(case, _REST_S if number and self.model is not None else 0.0)
        return results

    async def _warm(self) -> None:
        """Ask each model once in each way, so that a wrong configuration is told as such, and no start is measured."""
        for model in [self.model] if self.model else [case.model for case in self.cases]:
            for stream in (False, True):
                heard = await ask(self.door, model, "Are you there?", stream, _WARM_S)
                if not heard.whole or not heard.text:
                    told = heard.error or f"the answer's end is {heard.end!r}, its text {heard.text!r}"
                    told = f"status {heard.status}, {told}" if heard.status else "no answer came; does it run there?"
                    place = f"{self.door.host}:{self.door.port}"
                    message = f"the gateway at {place} does not answer for {model!r} even before any fault: {told}"
                    raise UpstreamError("upstream_error", message)

    async def _run(self, case: Case, wait_s: float = 0.0) -> list[Result]:
        await asyncio.sleep(wait_s)
        if case.fault == DOWN:
            results = await self._run_outage(case)
        else:
            # Unary and streams in turns, so that both meet a gateway that knows nothing yet.
            asking = []
            for number in range(self.rounds):
                first = number % 2 == 1
                asking += [asyncio.ensure_future(self._ask(case, stream, number)) for stream in (first, not first)]
                await asyncio.sleep(_STAGGER_S)
            results = list(await asyncio.gather(*asking))
        if self.on_result is not None:
            self.on_result(case, results)
        return results

    async def _ask(self, case: Case, stream: bool, number: int) -> Result:
        question = mark(case, stream, number)
        heard = await ask(self.door, self.model or case.model, question, stream, case.leaves_s or case.within_s + 5.0)
        await asyncio.sleep(CANCEL_S + 0.1)
        tries = self._tries(question)
        verdict = judge(case, question, heard, tries, asyncio.get_running_loop().time())
        return Result(case, stream, verdict, heard.seconds, len(tries))

    async def _run_outage(self, case: Case) -> list[Result]:
        async def put(stream: bool, number: int) -> tuple[str, Heard]:
            question = mark(case, stream, number)
            return question, await ask(self.door, self.model or case.model, question, stream, case.within_s + 5.0)

        away = self.upstreams["outage" if self.model is None else "primary"]
        outage = Outage(away, put, self.outage_s)
        told = await outage.run()
        results = []
        for question, heard in told:
            tries = self._tries(question)
            verdict = judge(case, question, heard, tries, asyncio.get_running_loop().time())
            results.append(Result(case, heard.stream, verdict, heard.seconds, len(tries)))
        of_upstream = outage.verdict()
        return results + [Result(case, kind, of_upstream, outage.back_s, outage.probes) for kind in (False, True)]

    def _tries(self, question: str) -> list[Asked]:
        script = self.upstreams["primary"].script
        assert isinstance(script, DrillScript)
        return script.tries.get(question, [])


def mark(case: Case, stream: bool, number: int) -> str:
    """Return a question that no gateway has in a cache."""
    return f"{case.model}-{'s' if stream else 'u'}-{number}-{secrets.token_hex(4)}"
