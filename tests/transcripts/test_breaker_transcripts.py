"""Runs the breaker's transcripts: text files of commands and what must come of them.

A file is a sequence of blocks separated by empty lines: lines that begin with `#` (remarks), commands, `----`, and
the expected output. With UPDATE_TRANSCRIPTS=1 in the environment the outputs are written anew, to be read and judged
before they are committed.

| command | does |
|---|---|
| `breaker PROFILE [FIELD=VALUE ...]` | begins at 0 s; `slow=S`: floor of slowness; `draws=A,B`: jitter, 0.5 is none |
| `at S` | goes to that second |
| `good N [first=S] [gap=S]`, `fail N [slow]` | N whole calls |
| `take NAME`, `trial NAME` | acquires a permit; a lone trial's |
| `end NAME good/slow/fail/release` | gives it back |
| `probe`, `force_open`, `disable`, `reset` | what health check and operator do |
| `ask` | says state, whether it permits, weight, when to retry |
| `count` | says what is counted |
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import convert

from open_autoglm.resilience.breaker import CircuitBreaker
from open_autoglm.resilience.settings import BreakerProfile, BreakerSettings

FOLDER = Path(__file__).parent / "breaker"


class Draws(random.Random):
    """Deals out given numbers instead of chance, round and round."""

    def __init__(self, draws: list[float]) -> None:
        super().__init__()
        self._draws = draws

    def random(self) -> float:
        self._draws.append(self._draws.pop(0))
        return self._draws[-1]


class Stage:
    """One breaker and the clock beside it, driven by commands."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.permits: dict[str, int] = {}
        self.do_breaker("adaptive")

    def run(self, command: str) -> None:
        verb, *words = command.split()
        plain = [word for word in words if "=" not in word]
        named = dict(word.split("=", 1) for word in words if "=" in word)
        getattr(self, "do_" + verb)(*plain, **named)
        for change in self.breaker.take_transitions():
            self.say(f"{change.now_s:.3f} {change.before} -> {change.after}: {change.reason}")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def do_breaker(self, profile: BreakerProfile, slow: str = "1", draws: str = "0.5", **fields: str) -> None:
        values = {name: float(text) if "." in text else int(text) for name, text in fields.items()}
        rng = Draws([float(text) for text in draws.split(",")])
        self.now_s = 0.0
        self.permits.clear()
        settings = convert({"profile": profile, **values}, BreakerSettings)
        self.breaker = CircuitBreaker(settings, rng, slow_s=float(slow))

    def do_at(self, now: str) -> None:
        assert float(now) >= self.now_s, f"time goes back in 'at {now}'"
        self.now_s = float(now)

    def do_good(self, count: str, first: str = "0.1", gap: str = "0") -> None:
        for permit in self.permits_for(count):
            self.breaker.success(permit, self.now_s, float(first), float(gap))

    def do_fail(self, count: str, slow: str = "") -> None:
        for permit in self.permits_for(count):
            self.breaker.failure(permit, self.now_s, slow == "slow")

    def permits_for(self, count: str) -> Iterator[int]:
        refused = 0
        for _ in range(int(count)):
            permit = self.breaker.acquire(self.now_s)
            if permit:
                yield permit
            refused += not permit
        if refused:
            self.say(f"{refused} of {count} refused")

    def do_take(self, name: str) -> None:
        self.keep(name, self.breaker.acquire(self.now_s))

    def do_trial(self, name: str) -> None:
        self.keep(name, self.breaker.acquire_trial(self.now_s))

    def keep(self, name: str, permit: int) -> None:
        self.permits[name] = permit
        self.say(f"{name} is let in" if permit else f"{name} is refused")

    def do_end(self, name: str, how: str) -> None:
        permit = self.permits.pop(name)
        match how:
            case "good":
                self.breaker.success(permit, self.now_s, 0.1)
            case "slow":
                self.breaker.success(permit, self.now_s, 0.1, gap_s=6.0)
            case "fail":
                self.breaker.failure(permit, self.now_s)
            case "release":
                self.breaker.release(permit, self.now_s)
            case _:
                raise ValueError(f"{how!r} is no way to end; write good, slow, fail or release")

    def do_probe(self) -> None:
        self.breaker.probe_ok(self.now_s)

    def do_force_open(self) -> None:
        self.breaker.force_open(self.now_s)

    def do_disable(self) -> None:
        self.breaker.disable(self.now_s)

    def do_reset(self) -> None:
        self.breaker.reset(self.now_s)

    def do_ask(self) -> None:
        lets = "permits" if self.breaker.permits(self.now_s) else "refuses"
        weight, retry_at_s = self.breaker.weight(self.now_s), self.breaker.retry_at_s(self.now_s)
        self.say(f"{self.breaker.state}, {lets}, weight {weight:.2f}, retry at {retry_at_s:.3f}")

    def do_count(self) -> None:
        seen = self.breaker.snapshot()
        self.say(f"calls {seen.calls}, failed {seen.failures} ({seen.failures_in_a_row} in a row), slow {seen.slow}")
        trials = f"out {seen.trials_out}, good {seen.trials_good}, bad {seen.trials_bad}"
        self.say(f"trials {trials}; openings {seen.openings}")
        self.say(f"p50 {seen.first_token_p50_s:.3f}, slow over {seen.slow_limit_s:.3f}")


def play(text: str) -> str:
    """The transcript with the outputs as they are now."""
    stage = Stage()
    blocks = []
    for block in text.strip().split("\n\n"):
        head = block.split("\n----")[0]
        stage.lines.clear()
        for line in head.splitlines():
            if not line.startswith("#"):
                stage.run(line)
        blocks.append("\n".join([head, "----", *stage.lines]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        path.write_text(played)
    assert played == text


def test_there_are_transcripts() -> None:
    assert len(list(FOLDER.glob("*.txt"))) >= 8
