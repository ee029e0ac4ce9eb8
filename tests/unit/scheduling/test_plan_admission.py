from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError
from open_autoglm.scheduling.plan_admission import PlanAdmission
from open_autoglm.scheduling.references import needed
from open_autoglm.scheduling.task import Task


def nothing_wrong(task: Task) -> None:
    pass


def admitted(plan: Iterable[Task], succeeded: Iterable[Task] = (), used: Iterable[str] = ()) -> list[Task]:
    before = list(succeeded)
    admission = PlanAdmission(before, {*used, *(task.id for task in before)}, nothing_wrong)
    coming = [each for task in plan for each in admission.take(task)]
    admission.close()
    return coming


A = Task("1", "add", {"x": 1})
B = Task("2", "add", {"x": "$1"})
C = Task("3", "add", {"x": 3}, depends_on=("2",))


def test_a_task_waits_for_what_it_needs_in_the_plan() -> None:
    admission = PlanAdmission([], [], nothing_wrong)
    assert list(admission.take(C)) == []
    assert list(admission.take(B)) == []
    assert [task.id for task in admission.take(A)] == ["1", "2", "3"]
    admission.close()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([A, A], "two tasks have the id '1'"),
        ([B, B], "two tasks have the id '2'"),
        ([Task("1", "t", {"x": "$1"})], "needs itself"),
        ([Task("1", "t", depends_on=("1",))], "needs itself"),
        ([B], "task '2' needs '1', which is not in the plan"),
        ([C, B, Task("1", "t", depends_on=("3",))], "circle: 3 -> 2 -> 1 -> 3"),
        ([Task("1", "t", {"x": "${"})], "without its"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(plan: list[Task], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        admitted(plan)


def test_what_succeeded_is_not_run_again_and_its_result_is_used_by_its_new_name() -> None:
    again = Task("7", "add", {"x": 1}, depends_on=("9",))
    plan = [Task("9", "other"), again, Task("2", "add", {"x": "$7", "y": "${7.f}"}, depends_on=("7",))]
    assert admitted(plan, [A]) == [Task("9", "other"), Task("2", "add", {"x": "${1}", "y": "${1.f}"}, ("1",))]


def test_a_chain_that_succeeded_is_recognised_however_it_is_written() -> None:
    chain = admitted([A, B])
    assert admitted([Task("5", "add", {"x": 1}), Task("6", "add", {"x": "${5}"})], chain) == []


def test_an_id_that_is_taken_gets_a_number() -> None:
    plan = [Task("1", "new"), Task("2", "use", {"x": "$1"}), Task("4", "use", {"x": "$3"}), Task("3", "late")]
    assert admitted(plan, [A, C], used=["1-2"]) == [
        Task("1-3", "new"),
        Task("2", "use", {"x": "${1-3}"}),
        Task("4", "use", {"x": "${3}"}),  # the earlier plan's: this plan's was not written yet
        Task("3-2", "late"),
    ]


def test_what_is_refused_takes_nothing_with_it_that_came_before() -> None:
    def check(task: Task) -> None:
        if task.id == "2":
            raise RequestError("invalid_request", "no such tool")

    admission = PlanAdmission([], [], check)
    assert list(admission.take(B)) == []
    coming = admission.take(A)
    assert next(coming).id == "1"
    with pytest.raises(RequestError, match="no such tool"):
        next(coming)


_IDS = st.sampled_from("12345")
_PLANS = st.lists(
    st.lists(
        st.builds(
            Task,
            id=_IDS,
            tool=st.sampled_from("ab"),
            args=st.fixed_dictionaries({"x": st.sampled_from([0, 1, "$1", "${2}", "$3.", "$$4"])}),
            depends_on=st.lists(_IDS, max_size=2, unique=True).map(tuple),
        ),
        max_size=6,
    ),
    min_size=1,
    max_size=4,
)


@given(_PLANS, st.randoms(use_true_random=False))
def test_over_any_plans_ids_are_unique_needs_come_first_and_nothing_succeeds_twice(
    plans: list[list[Task]], rng
) -> None:  # type: ignore[no-untyped-def]
    succeeded: list[Task] = []
    used: set[str] = set()
    for plan in plans:
        admission = PlanAdmission(succeeded, used, nothing_wrong)
        works = {(task.tool, str(task.args)) for task in succeeded}
        there = {task.id for task in succeeded}
        done_now: list[Task] = []
        try:
            for task in plan:
                for each in admission.take(task):
                    assert each.id not in used
                    assert {*each.depends_on, *needed(each.args)} <= there
                    assert (each.tool, str(each.args)) not in works
                    used.add(each.id)
                    there.add(each.id)
                    done_now += [each] if rng.random() < 0.7 else []
            admission.close()
        except RequestError:
            pass
        succeeded += done_now
