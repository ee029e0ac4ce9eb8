import json
import re
from pathlib import Path

import pytest

from open_autoglm.scheduling.plan_parser import PlanLimits, PlanParser, PlanProblem
from open_autoglm.scheduling.references import needed
from open_autoglm.scheduling.task import Task

HELD_OUT = Path(__file__).parents[3] / "training/heldout/plan.jsonl"


def read(text: str | bytes, limits: PlanLimits | None = None, **parameters: list[str]) -> list[Task]:
    parser = PlanParser(limits, parameters)
    tasks = parser.feed(text)
    parser.close()
    return tasks


def problem(text: str | bytes, limits: PlanLimits | None = None) -> PlanProblem:
    with pytest.raises(PlanProblem) as found:
        read(text, limits)
    return found.value


A = Task("1", "calculator", {"expression": "53+487"})
B = Task("2", "calculator", {"expression": "$1-8506"}, ("1",))
JSON = (
    '[{"id":1,"tool":"calculator","args":{"expression":"53+487"},"depends_on":[]},'
    '{"id":2,"tool":"calculator","args":{"expression":"$1-8506"},"depends_on":[1]}]'
)


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"Here is the plan [as asked] {{so}}:\n```json\n{JSON}\n```\nDone. [{{",
        f'{{"thought": "tasks: [ \\"tasks\\": [", "steps" : \n {JSON}, "more": 1}}',
        f'{{"plan":{JSON}}}',
        '1. calculator(expression="53+487")\n2. calculator(expression="$1-8506")',
    ],
)
def test_the_ways_to_write_a_plan(text: str) -> None:
    tasks = read(text)
    assert tasks[0] == A
    assert (tasks[1].id, tasks[1].args, len(tasks)) == ("2", B.args, 2)


def test_every_plan_of_the_embedded_models_held_out_set_is_read_as_it_is_meant() -> None:
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 500
    for line in lines:
        answer = json.loads(line)["answer"]
        tasks = read(answer)
        for task, meant in zip(tasks, json.loads(answer), strict=True):
            assert (task.id, task.tool, task.args) == (str(meant["id"]), meant["tool"], meant["args"])
            assert task.depends_on == tuple(str(item) for item in meant["depends_on"])
            assert set(needed(task.args)) <= set(task.depends_on)


def test_each_task_comes_out_with_its_last_byte() -> None:
    ends: list[int] = []
    parser = PlanParser()
    for at, byte in enumerate(JSON.encode()):
        ends += [at] * len(parser.feed(bytes([byte])))
    assert ends == [JSON.index(',{"id":2') - 1, len(JSON) - 2]
    parser = PlanParser()
    assert parser.feed('1. a(x=")"') == []
    assert parser.feed(")") == [Task("1", "a", {"x": ")"})]


def test_all_fields_of_a_task() -> None:
    text = (
        '{"id":"a-1","model":"glm-nano","args":{"x":[1,{"y":null}]},"depends_on":["b",3],"priority":2,"estimate_s":0.5,'
        '"timeout_s":3,"retries":1,"on_failure":"fallback","fallback":{"z":0},"idempotency_key":"k","note":"first"}'
    )
    assert read(text) == [
        Task(
            "a-1", "model:glm-nano", {"x": [1, {"y": None}]}, ("b", "3"), 2, 0.5, 3.0, 1, "fallback", {"z": 0}, "k"
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "args"),
    [
        ("t()", {}),
        ("t(n=$2, m=${3.total}, s='it\\'s \"$4\"')", {"n": "$2", "m": "${3.total}", "s": 'it\'s "$4"'}),
        (
            't(a=[1, -2.5e3, True, false, None], b={\'k\': "v", "l": [], })',
            {"a": [1, -2500.0, True, False, None], "b": {"k": "v", "l": []}},
        ),
        ('t(q="a\\n\\u00e9 (x], \\\\")', {"q": "a\né (x], \\"}),
        ('t(q="two\nlines")', {"q": "two\nlines"}),
        ('t("tea", limit=3)', {"query": "tea", "limit": 3}),
        ("t($1, 2,)", {"query": "$1", "limit": 2}),
    ],
)
def test_arguments_of_a_call(call: str, args: dict[str, object]) -> None:
    assert read(f"Thought: do (so)\n 7. {call}\nThought: [{{ 8. no", t=["query", "limit"]) == [Task("7", "t", args)]


def test_a_plan_of_lines_ends_with_join() -> None:
    assert [task.id for task in read("- 1) a()\n2. b() 3. c()\n4. join()\n5. d()")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("nothing at all", 1, 15, "no plan"),
        ("[]", 1, 3, "no plan"),
        ('{"tasks": []}', 1, 13, ""),
        ('[{"id":1,"tool":"a"}', 1, 21, "ends within the plan"),
        ('[{"id":1,"tool":"a"},{"id":2', 1, 29, "ends within the plan"),
        ('1. a(x="', 1, 9, "ends within the plan"),
        ('[{"id":1,"tool":"a"}\n ; ', 2, 2, "expected `,` or `]`, found `;`"),
        ('[{"id":1,"tool":"a"},]', 1, 22, "expected `{`, found `]`"),
        ('[{"id":1,\n"tool":é}]', 2, 8, "malformed"),
        ('x\n[{"id":1,"tool":"a"]', 2, 20, "`]` does not close"),
        ('[\n{"tool":"a"}]', 2, 1, "needs 'id'"),
        ('[{"id":1}]', 1, 2, "needs 'tool'"),
        ('[{"id":true,"tool":"a"}]', 1, 2, "an id is"),
        ('[{"id":"a b","tool":"a"}]', 1, 2, "an id is"),
        ('[{"id":1,"tool":"a","depends_on":"2"}]', 1, 2, "list of ids"),
        ('[{"id":1,"tool":"a","dependencies":[2]}]', 1, 2, "no field 'dependencies'"),
        ('[{"id":1,"tool":"a","args":[]}]', 1, 2, "task '1': Expected `object`"),
        ('[{"id":1,"tool":"a","on_failure":"hope"}]', 1, 2, "task '1': Invalid enum value"),
        ('[{"id":1,"tool":"a","estimate_s":NaN}]', 1, 34, "malformed"),
        ('[{"id":1,"tool":"a\nb"}]', 1, 19, "malformed|control"),
        ("1. a(\n x=1,\n 2)", 3, 2, "an argument without a name"),
        ("1. a(x=tea)", 1, 8, "'tea' is no value"),
        ("1. a(x=1, x=2)", 1, 11, "twice"),
        ("1. a(x=$1+2)", 1, 10, "expected `,`"),
        ("1. a(x={1: 2})", 1, 9, "a key in quotation"),
        ('1. a(x="\\q")', 1, 8, "wrong escape"),
        ("1. a(x=)", 1, 8, "expected a value"),
        ("1. a(x=]", 1, 8, "`]` does not close"),
        (b'[{"id":1,"tool":"\xff"}]', 1, 18, "not UTF-8"),
        (b"\xe4\xb8", 1, 1, "within a character"),
        ("1. a(\ud800)", 1, 6, "not UTF-8"),
    ],
)
def test_what_is_no_plan_is_told_with_its_place(text: str | bytes, line: int, column: int, message: str) -> None:
    if message:
        found = problem(text)
        assert (found.line, found.column) == (line, column)
        assert found.code == "invalid_request"
        assert re.search(message, found.message), found.message
    else:
        assert read(text) == []


def test_what_came_before_a_problem_is_kept_and_nothing_after_it_is_read() -> None:
    parser = PlanParser()
    assert parser.feed(f"{JSON[:-1]}, oops") == [A, B]
    assert parser.problem is not None
    assert parser.over
    assert parser.feed(JSON) == []


def test_an_object_that_is_no_plan_is_prose() -> None:
    assert read(f'I was told {{"a": {{"b": [1]}}}} and ["x"].\n{JSON}') == [A, B]


def test_a_plan_is_bounded() -> None:
    limits = PlanLimits(tasks=2, text_bytes=len(JSON), depth=3)
    assert read(JSON, limits) == [A, B]
    assert "bytes" in problem(JSON[:-1] + " ]", limits).message
    assert "2 tasks" in problem("1. a()\n2. a()\n3. a()", limits).message
    assert "deeper than 3" in problem('[{"id":1,"tool":"a","args":{"x":[[0]]}}]', limits).message
    assert "deeper than 3" in problem("1. a([[[1]]])", limits).message
    parser = PlanParser(PlanLimits(text_bytes=1000))
    for _ in range(2000):
        parser.feed("[")
    assert parser.problem is not None
