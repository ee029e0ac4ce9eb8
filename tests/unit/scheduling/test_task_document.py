"""Task graphs as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.run_account import RunBudget
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_document import read_graph


def test_both_names_of_a_field_and_ids_that_are_numbers() -> None:
    document = read_graph(
        '{"name": "n", "timeout_s": 5, "tasks": [{"task_id": 1, "type": "calculator", "args": {"expression": "1+1"}},'
        ' {"id": "b", "tool": "model:glm", "depends_on": [1], "on_failure": "fallback", "fallback": 7}]}'
    )
    assert document.tasks == (
        Task("1", "calculator", {"expression": "1+1"}),
        Task("b", "model:glm", depends_on=("1",), on_failure="fallback", fallback=7),
    )
    assert (document.name, document.timeout_s) == ("n", 5)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("", "tasks", "no task graph"),
        ("[]", "tasks", "no task graph"),
        ("{}", "tasks", "missing required field `tasks`"),
        ('{"tasks": [], "x": 1}', "tasks", "unknown field `x`"),
        ('{"tasks": [{"id": "a"}]}', "tasks[0]", "missing required field `tool`"),
        ('{"tasks": [{"tool": "a"}]}', "tasks[0]", "got `null`"),
        ('{"tasks": [{"id": "a", "task_id": "b", "tool": "t"}]}', "tasks[0]", "'id' is written twice"),
        ('{"tasks": [{"id": "a", "tool": "t", "depends": []}]}', "tasks[0]", "no field 'depends'"),
        ('{"tasks": [{"id": true, "tool": "t"}]}', "tasks[0]", "got `bool`"),
        ('{"tasks": [{"id": "a", "tool": "t", "on_failure": "panic"}]}', "tasks[0]", "panic"),
        ('{"tasks": [], "timeout_s": 0}', "timeout_s", "not above 0"),
        ('{"tasks": [], "name": "%s"}' % ("n" * 201), "name", "200"),
        ('{"tasks": %s}' % ("[" * 100_000), "tasks", "no task graph"),
    ],
)
def test_what_is_none_is_refused_with_its_place(text: str, where: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_graph(text)
    assert caught.value.param == where
    assert words in caught.value.message


@given(st.text() | st.binary())
def test_whatever_is_sent_is_read_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(RequestError):
        read_graph(text)


def test_a_budget_is_read() -> None:
    document = read_graph('{"tasks": [], "budget": {"tokens": 20000, "money": 0.05, "time": "2m"}}')
    assert document.budget == RunBudget(20000, 0.05, 120.0)
    assert read_graph('{"tasks": [], "budget": {"time": 1.5}}').budget == RunBudget(time_s=1.5)
    assert read_graph('{"tasks": []}').budget == RunBudget()


@pytest.mark.parametrize(
    ("budget", "where", "words"),
    [
        ('{"tokens": -1}', "budget.tokens", ">= 0"),
        ('{"tokens": 0}', "budget.tokens", "leave it out"),
        ('{"tokens": 1.5}', "budget.tokens", "int"),
        ('{"money": -0.1}', "budget.money", ">= 0"),
        ('{"money": "1"}', "budget.money", "float"),
        ('{"money": 1e10}', "budget.money", "<= 1"),
        ('{"time": "soon"}', "budget.time", "soon"),
        ('{"time": 1e9}', "budget.time", "<="),
        ('{"calls": 3}', "budget.calls", "tokens, money, time"),
    ],
)
def test_a_wrong_budget_is_refused(budget: str, where: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        read_graph(f'{{"tasks": [], "budget": {budget}}}')
    assert caught.value.param == where
