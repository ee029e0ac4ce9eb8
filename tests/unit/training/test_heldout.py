"""The held-out sets: what is committed is what the generator makes, and nothing in them is ever trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from training import heldout
from training.data import is_held_out, operand_key

from open_autoglm.engines.embedded.calculator import guard

FOLDER = Path(heldout.__file__).parent / "heldout"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
SHARED_FIELDS = {"id", "task", "system", "prompt", "answer"}


def lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def test_the_sets_are_large_enough() -> None:
    sizes = {name: len(lines(name)) for name in NAMES}
    assert sizes == {
        "arithmetic-3": 1500,
        "arithmetic-3-calibration": 600,
        "arithmetic-4": 1500,
        "intent": 600,
        "intent-hand": 60,
        "intent-unseen": 400,
        "plan": 500,
        "plan-new": 300,
        "result": 200,
        "tool": 600,
        "tool-new": 300,
    }


def test_the_generator_makes_the_same_bytes(tmp_path: Path) -> None:
    heldout.write(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_fields_complete(name: str) -> None:
    items = lines(name)
    assert len({item["id"] for item in items}) == len(items)
    assert all(item.keys() >= SHARED_FIELDS for item in items)


def test_no_prompt_is_in_two_sets() -> None:
    counts = Counter((item["system"], item["prompt"]) for name in NAMES for item in lines(name))
    assert [prompt for prompt, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("name", ["arithmetic-3", "arithmetic-3-calibration", "arithmetic-4"])
def test_sums_are_right_and_left_to_the_model(name: str) -> None:
    digits_max = int(name[11])
    for item in lines(name):
        found = "".join(c if c.isascii() and c.isdigit() else " " for c in item["prompt"]).split()
        a, b = (int(number) for number in found)
        results = {"+": {a + b}, "-": {a - b, b - a}, "*": {a * b}}[item["operation"]]
        assert int(item["answer"]) in results
        assert is_held_out(operand_key(a, b))
        assert max(len(number) for number in found) <= digits_max
        assert guard(item["prompt"], digits_max) is None


@pytest.mark.parametrize("name", ["tool", "tool-new", "plan", "plan-new"])
def test_json_answers_parse(name: str) -> None:
    for item in lines(name):
        assert json.loads(item["answer"])
