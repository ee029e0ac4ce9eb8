from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.scheduling.plan_cache import REQUEST_CHARS_MAX, PlanCache
from open_autoglm.scheduling.references import fill
from open_autoglm.scheduling.task import Task


def plan_of(*expressions: object) -> tuple[Task, ...]:
    return tuple(Task(str(at), "calculator", {"expression": each}) for at, each in enumerate(expressions, 1))


def test_a_request_with_other_numbers_gets_the_plan_with_these() -> None:
    cache = PlanCache()
    cache.put("s", "Work out 53 + 487, then  subtract 8506 ", plan_of("53+487", "$1-8506"))
    assert cache.get("s", "Work out 1 + 2.5, then subtract 1") == plan_of("1+2.5", "$1-1")
    assert cache.get("s", "Work out 7 + 7, then subtract 7") == plan_of("7+7", "$1-7")
    assert cache.get("s", "Work out 1 + 2, then add 3") is None
    assert cache.get("other tools", "Work out 1 + 2.5, then subtract 1") is None


def test_quoted_texts_and_json_numbers_are_slots_as_well() -> None:
    cache = PlanCache()
    task = Task("1", "search", {"query": ["green tea (hot)", "is 3"], "limit": 3, "deep": {"n": 13}}, depends_on=())
    cache.put("s", 'Find 3 pages on "green tea"', (task,))
    found = cache.get("s", 'Find 44 pages on "$1 or less"')
    assert found == (Task("1", "search", {"query": ["$$1 or less (hot)", "is 44"], "limit": 44, "deep": {"n": 13}}),)
    assert fill(found[0].args, {})["query"][0] == "$1 or less (hot)"
    assert cache.get("s", 'Find 007 pages on "a"') is None


def test_a_number_that_may_have_decided_about_the_form_is_no_slot() -> None:
    cache = PlanCache()
    plan = plan_of("a", "b", "c")
    cache.put("s", "Do 3 things", plan)
    assert cache.get("s", "Do 3 things") == plan
    assert cache.get("s", "Do 4 things") is None


def test_equal_values_cannot_be_told_apart() -> None:
    cache = PlanCache()
    cache.put("s", "add 2 and 2", plan_of("2+2"))
    assert cache.get("s", "add 2 and 2") == plan_of("2+2")
    assert cache.get("s", "add 2 and 3") is None


def test_it_is_bounded_and_forgets_what_was_not_used() -> None:
    cache = PlanCache(2)
    for name in "ab":
        cache.put("s", name, plan_of(name))
    assert cache.get("s", "a") == plan_of("a")
    cache.put("s", "c", plan_of("c"))
    assert (len(cache), cache.get("s", "b"), cache.get("s", "a")) == (2, None, plan_of("a"))
    cache.put("s", "x" * (REQUEST_CHARS_MAX + 1), plan_of("x"))
    assert len(cache) == 2


_WORDS = st.text(alphabet='ab 1.2"$\0', max_size=20)


@given(_WORDS, st.lists(_WORDS | st.integers(0, 30), max_size=3), _WORDS)
def test_the_same_request_gets_the_same_plan_and_no_request_breaks_it(
    request: str, values: list[object], other: str
) -> None:
    cache = PlanCache()
    plan = plan_of(*values)
    cache.put("s", request, plan)
    found = cache.get("s", request)
    assert found is None or found == plan
    cache.get("s", other)
