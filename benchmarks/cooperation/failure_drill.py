"""Virtual models while their members fail: `python -m benchmarks.cooperation.failure_drill [--questions N]`.

A real server, asked through HTTP, with a team for each strategy. Of six members one is dead (it refuses connections;
then it takes none), one ten times slower, one always wrong and surer than the others. Before that all are well, for
comparison. Each answer must be right and in time, and the audit must name the culprits in every run: who failed and
why, who was outvoted. Writes benchmarks/results/cooperation/failure_drill.json and docs/failure-drill.md;
exit code 1 when anything is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.cooperation.failure_drill_cast import PHASES, ROLES, SERVERS, SERVICE_S, Cast, total
from benchmarks.cooperation.failure_drill_page import write_page
from benchmarks.reliability.gateway import ADMIN_KEY, KEY, ROOT, Gateway, running_gateway
from benchmarks.rig.machine import commit, describe
from open_autoglm.telemetry.audit_reader import ended_runs, verify
from open_autoglm.telemetry.run_picture import draw_run
from open_autoglm.telemetry.run_record import record_of, recording_of
from open_autoglm.telemetry.run_view import AskView, RunView, view_of
from open_autoglm.voting.replay import replay

RESULT: Final = ROOT / "benchmarks" / "results" / "cooperation" / "failure_drill.json"
DEADLINE_MS: Final = 4000
"""Of the client; a virtual model's own time ends before."""
TIMEOUT: Final = "3s"
CLIENTS: Final = 6
LABELS: Final = 40
"""Questions that are labelled before anything is counted: what a learned weight knows of its member."""
WIDTH: Final = 96
_SETTLE_S: Final = 10.0

_CURVES: Final = {role: [[0.0, 0.02], [1.0, 0.05]] if role == "wrong" else [[0.0, 0.05], [1.0, 0.95]] for role in ROLES}
_SURE: Final = {"logprobs": True}
TEAMS: Final[dict[str, dict[str, Any]]] = {
    "majority": {"strategy": "dynamic_voting", "weighting": "equal", "quorum": 2},
    "confidence": {"strategy": "dynamic_voting", "confidence_weighting": True, "quorum": 2, **_SURE},
    "dynamic": {"strategy": "dynamic_voting", "quorum": 2},
    "cascade": {"strategy": "cascade", "cascade_samples": 1, "threshold": 0.8, **_SURE},
    "fastest": {"strategy": "hedged", "hedge_delay": "50ms", "answer_form": "number"},
    "best-of-n": {"strategy": "best_of_n", "samples": len(ROLES), **_SURE},
    "self-consistency": {"strategy": "self_consistency"},
}
TITLES: Final = {
    "majority": "majority",
    "confidence": "weighted by confidence",
    "dynamic": "dynamic voting, weights learned",
    "cascade": "cascade",
    "fastest": "hedged, fastest of n",
    "best-of-n": "best of n",
    "self-consistency": "self-consistency, members in turn",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client heard: of which run, the text or the error, after how many milliseconds."""

    question: str
    run: str
    text: str
    ms: float

    @property
    def right(self) -> bool:
        """Whether it is the sum."""
        return self.text == str(total(self.question))


def config(cast: Cast) -> dict[str, Any]:
    """Members and virtual models; each team has members of its own, so that none learns from another's trouble."""
    models, teams = [], {}
    for team, entry in TEAMS.items():
        for place, role in enumerate(ROLES):
            price = {"input_per_million": 1.0 + place, "output_per_million": 1.0 + place}
            models.append({"name": f"{team}.{role}", "endpoint": cast.url(role), "price": price})
        curves = (
            {"curves": {f"{team}.{role}": points for role, points in _CURVES.items()}}
            if _SURE.items() <= entry.items()
            else {}
        )
        teams[team] = {"members": [f"{team}.{role}" for role in ROLES], "timeout": TIMEOUT, **entry, **curves}
    return {"models": models, "cooperation": teams, "explain": {"keep": 100_000}, "audit": {"keep": 100}}


class Clients:
    """Asks one virtual model after another, `CLIENTS` questions at a time."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        self._gateway = gateway
        self._rng = random.Random(seed)

    async def ask(self, team: str, count: int) -> list[Heard]:
        """Ask questions that nobody asked before."""
        draw = self._rng.randrange
        questions = [f"What is {draw(100, 1000)} + {draw(100, 1000)}?" for _ in range(count)]
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(CLIENTS) as threads:
            return list(
                await asyncio.gather(*(loop.run_in_executor(threads, self._one, team, each) for each in questions))
            )

    def _one(self, team: str, question: str) -> Heard:
        body = json.dumps({"model": team, "messages": [{"role": "user", "content": question}]})
        headers = {
            "authorization": f"Bearer {KEY}",
            "content-type": "application/json",
            "x-request-timeout-ms": str(DEADLINE_MS),
        }
        begun_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=DEADLINE_MS / 1000 * 2)
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except TimeoutError:
            return Heard(question, "", "nothing", (time.monotonic() - begun_s) * 1000)
        finally:
            connection.close()
        ms = (time.monotonic() - begun_s) * 1000
        text = told["choices"][0]["message"]["content"] if answer.status == 200 else f"error {told['error']['code']}"
        return Heard(question, answer.headers["x-request-id"], text, ms)

    def label(self, heard: Heard) -> None:
        """Say which answer was right."""
        address = f"http://127.0.0.1:{self._gateway.admin_port}/admin/v1/requests/{heard.run}/feedback"
        request = urllib.request.Request(
            f"{address}?answer={total(heard.question)}&by=verifier",
            method="POST",
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()


async def drill(questions: int, seed: int, teams: Sequence[str]) -> dict[str, Any]:
    """Run all phases; return what is kept as the result."""
    heard: dict[tuple[str, str], list[Heard]] = {}
    views: dict[str, RunView] = {}
    told: Counter[str] = Counter()
    whole = True
    for phases in SERVERS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with Cast() as cast:
                with running_gateway(folder, config(cast)) as gateway:
                    clients = Clients(gateway, seed)
                    await teach(cast, clients)
                    for phase in phases:
                        await cast.enter(phase)
                        for team in teams:
                            heard[team, phase] = await clients.ask(team, questions)
                            print(f"{phase}: {team}", file=sys.stderr)
            audit = folder / "data" / "audit" / "audit.jsonl"
            told += read_audit(audit, views)
            whole = whole and verify(audit).ok
    rows = [row(team, phase, heard, views) for team in teams for phase in PHASES]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "commit": commit(),
        "questions": questions,
        "seed": seed,
        "service_ms": SERVICE_S * 1000,
        "deadline_ms": DEADLINE_MS,
        "labels": LABELS,
        "rows": rows,
        "audit": {"whole": whole, "runs": len(views), "same": told["same"], "different": told["different"]},
        "faults": [f"{each['team']}, {each['phase']}: {fault}" for each in rows for fault in each["faults"]]
        + ([] if whole else ["the audit is not whole"])
        + ([f"{told['different']} runs are decided otherwise from their records"] if told["different"] else []),
    }


async def teach(cast: Cast, clients: Clients) -> None:
    """Let the teams see who is wrong, and say so, while everybody answers."""
    cast.wrong = True
    for heard in await clients.ask("dynamic", LABELS):
        await asyncio.to_thread(clients.label, heard)


def read_audit(path: Path, views: dict[str, RunView]) -> Counter[str]:
    """Add every run of the audit's files to `views`; count those that are decided alike when they are decided again."""
    counts: Counter[str] = Counter()
    for told in ended_runs(path):
        record = record_of(told)
        assert record is not None
        views[record.run] = view_of(record)
        if record.decision:
            counts["different" if replay(recording_of(record)) else "same"] += 1
    return counts


def row(team: str, phase: str, heard: dict[tuple[str, str], list[Heard]], views: dict[str, RunView]) -> dict[str, Any]:
    """Figures of one team in one phase, with an example of a run."""
    these = heard[team, phase]
    waits = sorted(each.ms for each in these)
    runs = [views[each.run] for each in these if each.run in views]
    accounts = [account(run) for run in runs]
    example = next(
        (run for run, told in zip(runs, accounts, strict=True) if told["dead"].startswith("failed")), runs[0]
    )
    return {
        "team": team,
        "title": TITLES[team],
        "phase": phase,
        "questions": len(these),
        "right": sum(each.right for each in these),
        "late": sum(each.ms > DEADLINE_MS for each in these),
        "p50_ms": round(waits[len(waits) // 2], 1),
        "p95_ms": round(waits[int(len(waits) * 0.95)], 1),
        "max_ms": round(waits[-1], 1),
        "asks": round(sum(len(run.asks) for run in runs) / len(runs), 2),
        "accounts": {role: dict(Counter(told[role] for told in accounts).most_common()) for role in ROLES[:3]},
        "reasons": dict(Counter(run.reason for run in runs).most_common()),
        "example": draw_run(example, WIDTH).splitlines(),
        "faults": faults(phase, these, runs, accounts),
    }


def account(run: RunView) -> dict[str, str]:
    """What a run's record says of each of the three who are in trouble; of several asks, the most telling one."""
    return {
        role: min((told(ask, run) for ask in asks_of(run, role)), key=_telling, default="not asked")
        for role in ROLES[:3]
    }


def asks_of(run: RunView, role: str) -> list[AskView]:
    """Asks to the member of a role."""
    return [ask for ask in run.asks if ask.member.endswith(f".{role}")]


def told(ask: AskView, run: RunView) -> str:
    """What the record says of one ask, in words."""
    match ask.outcome:
        case "failed":
            return f"failed, {ask.why}"
        case "cancelled" | "late":
            return f"{ask.outcome}, {run.reason}"
        case "no_vote":
            return f"no vote, {ask.why}"
    return "agreed" if ask.letter == run.letter else "outvoted"


def _telling(account: str) -> int:
    order = ("failed", "no vote", "outvoted", "agreed", "late", "cancelled")
    return next(place for place, word in enumerate(order) if account.startswith(word))


def faults(phase: str, these: list[Heard], runs: list[RunView], accounts: list[dict[str, str]]) -> list[str]:
    """What is not as it must be; empty when all is well."""
    found = [f"{each.question} {each.text!r} in run {each.run}" for each in these if not each.right][:5]
    found += [f"run {each.run} took {each.ms:.0f} ms" for each in these if each.ms > DEADLINE_MS][:5]
    if len(runs) < len(these):
        found.append(f"{len(these) - len(runs)} runs are not in the audit")
    if any(not run.reason for run in runs):
        found.append("a run does not say why it stopped")
    if phase == "healthy":
        return found
    allowed = {
        "dead": ("failed", "cancelled", "late", "not asked"),
        "wrong": ("outvoted", "no vote", "cancelled", "not asked"),
    }
    for role, words in allowed.items():
        bad = sorted({each[role] for each in accounts if not each[role].startswith(words)})
        found += [f"the audit says of the one that is {role}: {each}" for each in bad]
        if not any(each[role].startswith(words[:2]) for each in accounts):
            found.append(f"the audit names the one that is {role} in no run")
    return found


def print_table(result: dict[str, Any]) -> None:
    """Print the rows for people."""
    healthy = {each["team"]: each for each in result["rows"] if each["phase"] == "healthy"}
    for each in result["rows"]:
        base = healthy[each["team"]]
        print(
            f"{each['title']:34} {each['phase']:10} right {each['right']}/{each['questions']}  late {each['late']}  "
            f"p50 {each['p50_ms']:.0f} ms ({each['p50_ms'] / base['p50_ms']:.1f}x)  "
            f"p95 {each['p95_ms']:.0f} ms ({each['p95_ms'] / base['p95_ms']:.1f}x)  "
            f"max {each['max_ms']:.0f} of {DEADLINE_MS} ms"
        )
    for each in result["rows"]:
        if each["phase"] == "refused":
            print(f"\n{each['title']}: {each['accounts']}, {each['reasons']}")
            print("\n".join(f"    {line}" for line in each["example"]))
    print(f"\naudit: {result['audit']}")
    for fault in result["faults"]:
        print(f"NOT AS IT MUST BE: {fault}")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=300, help="of each team in each phase, default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the questions, default %(default)s")
    parser.add_argument("--teams", default=",".join(TEAMS), help="only these, default %(default)s")
    parser.add_argument("--keep", action="store_true", help="write the result and docs/failure-drill.md")
    arguments = parser.parse_args()
    result = uvloop.run(drill(arguments.questions, arguments.seed, arguments.teams.split(",")))
    print_table(result)
    if arguments.keep:
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_page(result)
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
