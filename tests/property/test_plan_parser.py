"""However a plan is cut, the same tasks come out, and the same problem."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.scheduling.plan_parser import PlanLimits, PlanParser
from open_autoglm.scheduling.task import Task

_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,7}", fullmatch=True)
_IDS = st.integers(0, 99_999).map(str) | st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
_LAST = {"join", "finish"}
_TASKS = st.lists(
    st.builds(
        Task,
        id=_IDS,
        tool=_NAMES,
        args=st.dictionaries(st.text(max_size=6), _VALUES, max_size=3),
        depends_on=st.lists(_IDS, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=5,
)
_CALLS = st.lists(
    st.builds(
        Task,
        id=st.integers(0, 99_999).map(str),
        tool=_NAMES.filter(lambda name: name not in _LAST),
        args=st.dictionaries(_NAMES, _VALUES, max_size=3),
    ),
    min_size=1,
    max_size=5,
)
_PROSE = st.text(alphabet="ab 1.!\n\"'`é中", max_size=30)


@st.composite
def _json_plans(draw: st.DrawFn) -> tuple[str, list[Task]]:
    tasks = draw(_TASKS)
    fields = [
        {"id": task.id, "tool": task.tool, "args": task.args, "depends_on": list(task.depends_on)} for task in tasks
    ]
    indent = draw(st.sampled_from([None, 1]))
    text = json.dumps(fields, ensure_ascii=draw(st.booleans()), indent=indent)
    if draw(st.booleans()):
        before = json.dumps(draw(st.dictionaries(st.text(alphabet='ab"[', max_size=4), _VALUES, max_size=2)))[1:-1]
        text = "{" + before + ("," if before else "") + f'"tasks":{text},"x":1}}'
    return draw(_PROSE) + "\n" + text + draw(_PROSE), tasks


@st.composite
def _line_plans(draw: st.DrawFn) -> tuple[str, list[Task]]:
    tasks = draw(_CALLS)
    lines = [
        f"{task.id}. {task.tool}({', '.join(f'{name}={json.dumps(value)}' for name, value in task.args.items())})"
        for task in tasks
    ]
    return "\n".join([draw(_PROSE), *lines, draw(_PROSE)]), tasks


def _outcome(pieces: list[bytes], limits: PlanLimits | None = None) -> tuple[list[Task], str]:
    parser = PlanParser(limits)
    tasks = [task for piece in pieces for task in parser.feed(piece)]
    try:
        parser.close()
    except Exception as problem:
        return tasks, str(problem)
    return tasks, ""


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


_CUTS = st.lists(st.integers(0, 5000), max_size=12)


@given(_json_plans() | _line_plans(), _CUTS)
def test_a_plan_is_read_as_it_is_meant_however_it_is_cut(plan: tuple[str, list[Task]], cuts: list[int]) -> None:
    text, tasks = plan
    data = text.encode()
    assert _outcome(_cut(data, cuts)) == (tasks, "")
    assert _outcome([bytes([byte]) for byte in data]) == (tasks, "")


_MARKS = [*"[]{}()\"'\\\n,:é= x", "1. ", "a(", '"id":1', '"tool":"a"', '"tasks":', "$1"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_MARKS), max_size=40).map("".join), st.binary(max_size=3), _CUTS, st.integers(1, 150))
def test_any_text_gives_one_outcome_however_it_is_cut(text: str, tail: bytes, cuts: list[int], size: int) -> None:
    data = text.encode() + tail
    limits = PlanLimits(tasks=3, text_bytes=size, depth=4)
    whole = _outcome([data], limits)
    assert _outcome(_cut(data, cuts), limits) == whole
    assert _outcome([bytes([byte]) for byte in data], limits) == whole
    assert len(whole[0]) <= 3
