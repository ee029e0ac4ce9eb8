"""The task graph: what it refuses, and the lengths of its paths."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.task import Task
from open_autoglm.scheduling.task_graph import GraphLimits, TaskGraph


def _task(task_id: str, *needs: str, tool: str = "add", **fields: object) -> Task:
    return Task(task_id, tool, depends_on=needs, **fields)  # type: ignore[arg-type]


def test_takes_tasks_in_any_order_and_knows_what_waits_for_what() -> None:
    graph = TaskGraph()
    graph.add([_task("c", "b"), _task("b", "a"), _task("a"), Task("d", "add", {"x": "${c.sum}", "y": ["$a"]})])
    assert graph.needs == {"a": (), "b": ("a",), "c": ("b",), "d": ("c", "a")}
    assert sorted(graph.dependants["a"]) == ["b", "d"]
    assert list(graph.tasks).index("a") < list(graph.tasks).index("b") < list(graph.tasks).index("c")


@pytest.mark.parametrize(
    ("tasks", "where", "words"),
    [
        ([_task("a"), _task("a")], "tasks[1].id", "'a' is taken"),
        ([_task("b", "ghost")], "tasks[0]", "'ghost', which is not in the graph"),
        ([Task("b", "add", {"price": "costs $5"})], "tasks[0]", "`$$`"),
        ([_task("x", "z"), _task("y", "x"), _task("z", "y")], "tasks", "circle"),
        ([_task("x", "x")], "tasks", "x -> x"),
        ([_task("a b")], "tasks[0].id", "is no id"),
        ([_task("a", tool="subtract")], "tasks[0].tool", "there are: add"),
        ([_task("a", tool="model:none")], "tasks[0].tool", "there are: glm"),
        ([_task("a", retries=11)], "tasks[0].retries", "0 to 10"),
        ([_task("a", timeout_s=-1.0)], "tasks[0].timeout_s", "out of range"),
        ([_task("a", estimate_s=float("nan"))], "tasks[0].estimate_s", "out of range"),
        ([_task("a", args={"x": "y" * 300_000})], "tasks[0]", "262144 are the most"),
        ([_task(f"t{n}") for n in range(1001)], "tasks", "1000 are the most"),
        (
            [*(_task(f"t{n}") for n in range(101)), _task("e", *(f"t{n}" for n in range(101)))],
            "tasks[101].depends_on",
            "",
        ),
    ],
)
def test_refuses_a_wrong_graph_whole(tasks: list[Task], where: str, words: str) -> None:
    graph = TaskGraph(tools={"add"}, models={"glm"})
    with pytest.raises(RequestError) as caught:
        graph.add(tasks)
    assert caught.value.param == where
    assert words in caught.value.message
    assert not graph.tasks
    assert not graph.path_s


def test_the_message_names_the_cycle() -> None:
    with pytest.raises(RequestError, match=r"(x -> z -> y -> x|z -> y -> x -> z|y -> x -> z -> y)"):
        TaskGraph().add([_task("x", "z"), _task("y", "x"), _task("z", "y")])


def test_a_refused_addition_leaves_what_was_there() -> None:
    graph = TaskGraph(limits=GraphLimits(tasks=2))
    graph.add([_task("a")])
    with pytest.raises(RequestError, match="2 are the most"):
        graph.add([_task("b", "a"), _task("c", "b")])
    graph.add([_task("b", "a")])
    assert graph.path_s == {"a": 2.0, "b": 1.0}


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40))
def test_paths_are_the_longest_whatever_the_parts_it_came_in(seed: int, count: int, part: int) -> None:
    rng = random.Random(seed)
    tasks = [
        _task(f"t{n}", *{f"t{rng.randrange(n)}" for _ in range(rng.randrange(4)) if n}, estimate_s=rng.random())
        for n in range(count)
    ]
    graph = TaskGraph()
    for begin in range(0, count, part):
        coming = tasks[begin : begin + part]
        rng.shuffle(coming)
        graph.add(coming)
    longest: dict[str, float] = {}
    for task in reversed(tasks):
        after = [longest[later.id] for later in tasks if task.id in later.depends_on]
        longest[task.id] = task.estimate_s + max(after, default=0.0)
    assert graph.path_s == longest
