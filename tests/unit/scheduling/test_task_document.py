"""Task graphs as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError
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
