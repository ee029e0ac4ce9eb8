"""Simulated models are what they are set to be, and a run among them is the same every time."""

import math
import statistics

import msgspec
import pytest

from open_autoglm.testing.model_zoo import SimulatedModel, Zoo
from open_autoglm.voting.calibration import Scored, calibration_error
from open_autoglm.voting.candidate import Candidate
from open_autoglm.voting.catalog import STRATEGIES, make_strategy
from open_autoglm.voting.knowledge import Knowledge
from open_autoglm.voting.settings import TeamSettings

ITEMS = 2500
MODELS = tuple(
    SimulatedModel(name, accuracy, {"hard": accuracy - 0.3}, failure_rate=0.0, flaw_rate=0.0)
    for name, accuracy in (("a", 0.9), ("b", 0.7))
)


def answers(zoo: Zoo, name: str, *, task_class: str = "", turn: int = 0) -> list[Candidate]:
    return [zoo.answer(name, item, turn, task_class) for item in range(ITEMS)]


def rights(zoo: Zoo, name: str, **how) -> list[bool]:  # type: ignore[no-untyped-def]
    return [said.answer == zoo.right_answer(item) for item, said in enumerate(answers(zoo, name, **how))]


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("stubbornness", [0.0, 0.9])
def test_accuracy_is_what_it_is_set_to(correlation: float, stubbornness: float) -> None:
    zoo = Zoo(MODELS, 1, correlation=correlation, stubbornness=stubbornness)
    for name, task_class, accuracy in (("a", "", 0.9), ("b", "", 0.7), ("b", "hard", 0.4)):
        for turn in (0, 3):
            assert statistics.mean(rights(zoo, name, task_class=task_class, turn=turn)) == pytest.approx(
                accuracy, abs=0.03
            )


def test_correlation_makes_errors_come_together() -> None:
    def phi(zoo: Zoo, **how: int) -> float:
        return statistics.correlation(list(map(float, rights(zoo, "a"))), list(map(float, rights(zoo, "b", **how))))

    apart, together = (phi(Zoo(MODELS, 1, correlation=value)) for value in (0.0, 0.7))
    assert abs(apart) < 0.06
    assert together > 0.3


def test_shared_wrong_answers_are_the_same() -> None:
    def same(shared: float) -> float:
        zoo = Zoo(MODELS, 1, correlation=0.5, shared_wrong=shared)
        pairs = zip(answers(zoo, "a"), answers(zoo, "b"), strict=True)
        wrong = [
            (one.answer, other.answer)
            for item, (one, other) in enumerate(pairs)
            if zoo.right_answer(item) not in (one.answer, other.answer)
        ]
        return sum(one == other for one, other in wrong) / len(wrong)

    assert same(0.0) < 0.2
    assert same(0.8) > 0.55


def test_a_stubborn_model_repeats_itself() -> None:
    def agreement(stubbornness: float) -> float:
        zoo = Zoo(MODELS, 1, stubbornness=stubbornness)
        return statistics.mean(
            one.answer == other.answer for one, other in zip(answers(zoo, "b"), answers(zoo, "b", turn=1), strict=True)
        )

    assert agreement(0.95) > agreement(0.0) + 0.1


def test_boasting_shows_in_the_calibration_and_honesty_too() -> None:
    def error(boast: float) -> float:
        zoo = Zoo([msgspec.structs.replace(MODELS[1], boast=boast, haze=0.0)], 1)
        said = answers(zoo, "b")
        return calibration_error(
            [Scored(each.confidence or 0.0, each.answer == zoo.right_answer(item)) for item, each in enumerate(said)]
        )

    assert error(0.0) < 0.03
    assert error(1.5) > 0.08


def test_failures_flaws_and_latencies_come_as_often_as_they_are_set() -> None:
    model = SimulatedModel("a", 0.8, latency_s=2.0, tail_share=0.1, tail_factor=20.0, failure_rate=0.2, flaw_rate=0.1)
    said = answers(Zoo([model], 1), "a")
    assert sum(bool(each.failure) for each in said) / ITEMS == pytest.approx(0.2, abs=0.035)
    assert sum(bool(each.flags) for each in said) / ITEMS == pytest.approx(0.1, abs=0.035)
    latencies = sorted(each.latency_s for each in said)
    assert latencies[ITEMS // 2] == pytest.approx(2.1, abs=0.25)
    assert sum(latency > 10 for latency in latencies) / ITEMS == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_run_is_the_same_every_time(name: str) -> None:
    zoo = Zoo([SimulatedModel(letter, 0.6, failure_rate=0.1) for letter in "abc"], 3)

    def runs() -> list[bytes]:
        made = (make_strategy(name, zoo.members, TeamSettings(), Knowledge(), item) for item in range(40))
        return [msgspec.json.encode(zoo.run(strategy, item)) for item, strategy in enumerate(made)]

    assert runs() == runs()


def test_a_deadline_ends_a_run() -> None:
    zoo = Zoo([SimulatedModel("a", 0.9, latency_s=5.0)], 1)
    run = zoo.run(make_strategy("dynamic_voting", zoo.members, TeamSettings(), Knowledge(), 1), 0, deadline_s=0.5)
    assert (run.latency_s, run.decision.reason, run.right, run.calls) == (0.5, "deadline", False, 1)


def test_a_hedge_is_sent_only_when_it_is_due_and_at_once_after_a_failure() -> None:
    settings = TeamSettings(hedge_delay_s=3.0)

    def runs(model: SimulatedModel) -> list[tuple[int, float]]:
        zoo = Zoo([model, SimulatedModel("b", 0.9, latency_s=1.0, tail_share=0.0, failure_rate=0.0, flaw_rate=0.0)], 1)
        found = []
        for item in range(50):
            run = zoo.run(make_strategy("hedged", zoo.members, settings, Knowledge(), 1), item)
            found.append((run.calls, run.latency_s))
        return found

    fast = SimulatedModel("a", 0.9, latency_s=1.0, latency_spread=0.1, tail_share=0.0, failure_rate=0.0, flaw_rate=0.0)
    assert all(calls == 1 for calls, _ in runs(fast))
    slow = msgspec.structs.replace(fast, latency_s=60.0)
    assert all(calls == 2 and 3 < latency_s < 20 for calls, latency_s in runs(slow))
    broken = msgspec.structs.replace(fast, failure_rate=1.0, latency_s=0.1)
    assert all(calls == 2 and latency_s < 3 + math.e for calls, latency_s in runs(broken))
    assert min(latency_s for _, latency_s in runs(broken)) < 1.5, "it did not wait for the delay"


def test_an_item_of_two_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="3 answers"):
        Zoo(MODELS, 1, answers=2)
