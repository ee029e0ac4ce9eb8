"""The generator of training data: right answers, parallel tables, and nothing held out is ever trained on."""

from __future__ import annotations

import json
import string

import pytest
from training import templates
from training.data import (
    CALC_MIX,
    NANO_MIX,
    Generator,
    Item,
    Mix,
    columns,
    evaluate,
    is_held_out,
    operand_key,
)

from open_autoglm.engines.embedded import tokenizer

TASKS = ("arithmetic", "tool", "plan", "intent", "chat", "result", "other")


def items(count: int = 1500, mix: Mix = NANO_MIX) -> list[Item]:
    generator = Generator(mix, "test")
    return [generator.train_item() for _ in range(count)]


def made(task: str, count: int = 300) -> list[Item]:
    generator = Generator(NANO_MIX, f"test {task}")
    return [getattr(generator, task)() for _ in range(count)]


def texts(value: object) -> list[str]:
    """Every string inside nested tables."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in (*value.keys(), *value.values()) for text in texts(part)]
    return [text for part in value for text in texts(part)] if isinstance(value, tuple) else []


def slots(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


TABLES = {name: table for name, table in vars(templates).items() if name.isupper()}


def test_the_same_seed_gives_the_same_items() -> None:
    assert items(200) == items(200)
    assert Generator(NANO_MIX, "other").train_item() != Generator(NANO_MIX, "test").train_item()


@pytest.mark.parametrize("name", TABLES)
def test_no_template_is_spelt_in_bytes(name: str) -> None:
    for text in texts(TABLES[name]):
        assert not [t for t in tokenizer.encode(text) if t < tokenizer.ASCII_FIRST], text


def test_there_are_52_wordings_of_sums_each_with_both_operands() -> None:
    tables = (templates.ADD, templates.SUB, templates.MUL)
    assert sum(map(len, tables)) == 52
    for template in (text for table in tables for text in table):
        assert slots(template) == {"a", "b"}, template
        assert len(set(tables[0] + tables[1] + tables[2])) == 52


def test_the_wordings_that_must_not_be_negative_are_wordings() -> None:
    assert set(templates.SUB_NOT_NEGATIVE) <= set(templates.SUB)


def test_intent_tables_are_parallel() -> None:
    assert set(templates.INTENT_EN) == set(templates.INTENT_ZH) == set(templates.INTENT_LABELS)
    assert all(len(table) == 13 for table in templates.INTENT_EN.values())
    assert all(len(table) == 9 for table in templates.INTENT_ZH.values())


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        (templates.WEATHER, {"w"}),
        (templates.CONVERT, {"a", "u", "v"}),
        (tuple(text for _, text in templates.CALCULATE), {"a", "b"}),
        (tuple(text for _, text in templates.PLAN_CALC + templates.PLAN_CALC_ZH), {"a", "b"}),
        (tuple(text for _, text in templates.PLAN_CALC_NEXT + templates.PLAN_CALC_NEXT_ZH), {"b"}),
        (templates.PLAN_WEATHER + templates.PLAN_WEATHER_ZH, {"w"}),
        (templates.PLAN_SEARCH + templates.PLAN_SEARCH_ZH, {"w"}),
        (templates.PLAN_SUMMARIZE_NEXT + templates.PLAN_SUMMARIZE_NEXT_ZH, set()),
    ],
)
def test_every_wording_of_a_table_has_the_same_slots(table: tuple[str, ...], wanted: set[str]) -> None:
    assert len(set(table)) == len(table)
    for template in table:
        assert slots(template) == wanted, template


@pytest.mark.parametrize(
    ("a", "b", "operation", "thought"),
    [
        (12, 30, "+", "+20021304"),
        (95, 7, "+", "+57129010"),
        (305, 47, "+", "+571204053003"),
        (812, 999, "-", "--920791089801"),
        (1000, 1, "-", "-0119001900191000"),
        (84, 7, "*", "*47288758"),
        (7, 84, "*", "*47288758"),
        (0, 0, "-", "-0000"),
    ],
)
def test_columns(a: int, b: int, operation: str, thought: str) -> None:
    assert columns(a, b, operation) == thought


def test_columns_and_answer_agree() -> None:
    for item in made("arithmetic", 600):
        assert item.think is not None
        digits = item.think.lstrip("+-*")
        negative = item.think.startswith("--")
        value = "".join(digits[3::4][::-1])
        carry = digits[-2] if item.think[0] in "+*" else "0"
        assert int(item.answer) == int(carry + value) * (-1 if negative else 1)


def test_answers_are_right() -> None:
    for item in made("arithmetic", 600):
        low, high = (int(part) for part in item.key.split(",")) if item.key else (0, 9)
        assert item.think is not None
        results = {evaluate(low, high, item.think[0]), evaluate(high, low, item.think[0])}
        assert int(item.answer) in results or not item.key


def test_nothing_held_out_is_trained_on() -> None:
    trained = items(3000) + items(1500, CALC_MIX)
    assert not [item for item in trained if is_held_out(item.key) or item.unseen]
    held_out = Generator(NANO_MIX, "test").held_out_items("arithmetic", 200)
    assert all(is_held_out(item.key) for item in held_out)
    assert not {item.key for item in held_out} & {item.key for item in trained if item.key}


def test_operands_are_held_out_in_both_orders_and_never_when_tiny() -> None:
    assert operand_key(12, 305) == operand_key(305, 12) != ""
    assert operand_key(9, 9) == ""
    shares = [is_held_out(operand_key(a, b)) for a in range(10, 90) for b in range(a, 90)]
    assert 0.1 < sum(shares) / len(shares) < 0.15


@pytest.mark.parametrize("task", TASKS)
def test_prompts_and_answers_fit_and_end(task: str) -> None:
    for item in made(task):
        prompt, answer = item.tokens()
        assert answer[-1] == tokenizer.EOS
        assert answer.count(tokenizer.EOS) == 1
        assert len(prompt) + len(answer) < 256
        assert item.prompt.strip() == item.prompt != ""


def test_tool_calls_copy_from_the_question() -> None:
    for item in made("tool"):
        if item.answer.startswith("{"):
            call = json.loads(item.answer)
            assert call.keys() == {"name", "arguments"}
            for value in call["arguments"].values():
                parts = str(value).replace("*", "+").replace("/", "+").replace("-", "+").split("+")
                assert all(part.lower() in item.prompt.lower() for part in parts), item


def test_plans_depend_only_on_what_came_before() -> None:
    referring = 0
    for item in made("plan"):
        tasks = json.loads(item.answer)
        assert [task["id"] for task in tasks] == list(range(1, len(tasks) + 1))
        assert 2 <= len(tasks) <= 3
        for task in tasks:
            assert all(before < task["id"] for before in task["depends_on"])
            used = [before for before in range(1, 4) if f"${before}" in next(iter(task["args"].values()))]
            assert used == task["depends_on"]
            referring += len(used)
    assert referring > 50


def test_talk_is_answered_in_the_language_of_the_question() -> None:
    for item in made("chat"):
        assert any("\u4e00" <= c <= "\u9fff" for c in item.prompt) == any(
            "\u4e00" <= c <= "\u9fff" for c in item.answer
        )


def test_shares_add_up() -> None:
    for mix in (NANO_MIX, CALC_MIX):
        assert sum(mix.shares.values()) == pytest.approx(1.0)
