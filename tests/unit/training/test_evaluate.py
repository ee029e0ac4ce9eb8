"""The shipped models on a part of their held-out sets, through the shipped runtime: the figures are not by accident.

The whole sets are measured by `python -m training.evaluate`; the floors here leave room for the smaller sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training import evaluate

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine

ITEMS = 150


@pytest.fixture(params=["glm-nano", "glm-calc-s", "glm-calc-m", "glm-calc-c", "glm-calc-d"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    running = Engine(catalog.open_model(request.param), slots=16)
    running.start()
    yield running
    running.close()


FLOORS = {
    "glm-nano": {"arithmetic-4": 0.91, "intent": 0.95, "tool": 0.96, "plan": 0.93},
    "glm-calc-s": {"arithmetic-3": 0.93},
    "glm-calc-m": {"arithmetic-3": 0.92},
    "glm-calc-c": {"arithmetic-3": 0.78},
    "glm-calc-d": {"arithmetic-3": 0.78},
}


def test_accuracy(engine: Engine) -> None:
    name = engine.model.abilities.name
    for held_out, floor in FLOORS[name].items():
        result, _wrong = evaluate.measure(engine, evaluate.read_set(held_out)[:ITEMS])
        assert result["items"] == ITEMS
        assert result["accuracy"] >= floor, (name, held_out)


def test_the_interval_holds_the_share_and_narrows() -> None:
    low, high = evaluate.interval(90, 100)
    wide = high - low
    assert 0.8 < low < 0.9 < high < 0.95
    low, high = evaluate.interval(900, 1000)
    assert high - low < wide
