"""What a team can be asked, what its members are asked for it, and what is read of their answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.question import question_of
from open_autoglm.cooperation.reading import calibrated, make_reader
from open_autoglm.dialects.canonical import InferRequest
from open_autoglm.dialects.parameters import read_request
from open_autoglm.errors import RequestError
from open_autoglm.voting.candidate import Ask
from open_autoglm.voting.knowledge import Curve, Knowledge
from open_autoglm.voting.prompts import QUESTION
from open_autoglm.voting.settings import TeamSettings

CHAT = {"model": "team", "messages": [{"role": "user", "content": "6 * 7?"}]}


def request(**fields: Any) -> InferRequest:
    return read_request(msgspec.Raw(msgspec.json.encode(CHAT | fields)), "chat")


@pytest.mark.parametrize(
    ("field", "value"),
    [("tools", [{"type": "function", "function": {"name": "f"}}]), ("n", 2), ("logprobs", True), ("top_logprobs", 3)],
)
def test_what_only_one_model_can_give_is_no_question(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        question_of(request(**{field: value}))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", field)


def test_neutral_values_change_nothing() -> None:
    question = question_of(request(n=1, tools=[], logprobs=False, max_completion_tokens=9, user="me", stop="x"))
    assert (question.text, question.max_tokens, question.parameters) == ("6 * 7?", 9, {"stop": ["x"]})


def test_a_completions_prompt_is_a_message_and_a_list_of_prompts_is_none() -> None:
    one = InferRequest("completion", prompt=["6 * 7?"])
    assert question_of(one).text == "6 * 7?"
    for many in (["a", "b"], [1, 2]):
        with pytest.raises(RequestError):
            question_of(InferRequest("completion", prompt=many))
    with pytest.raises(RequestError):
        question_of(InferRequest("embedding", input="x"))


def test_the_clients_question_fills_the_first_mark_only() -> None:
    question = question_of(request(messages=[*CHAT["messages"], {"role": "assistant", "content": "42"}]))
    asked = question.asked(Ask(0, "a", "judge", f"Q: {QUESTION} A: {QUESTION}"))
    assert [message.text() for message in asked] == [f"Q: 6 * 7? A: {QUESTION}", "42"]
    assert len(question_of(request(messages=[{"role": "system", "content": "x"}])).asked(Ask(0, "a", prompt="p"))) == 2


@pytest.mark.parametrize(
    ("text", "finish", "answer", "flags"),
    [
        ("The answer is **42**.", "stop", "42", ()),
        ("", "stop", "", ("empty",)),
        ("42", "length", "", ("truncated",)),
        ("I'm sorry, but I can't help with that.", "stop", "", ("refusal",)),
    ],
)
def test_answers_are_read(text: str, finish: str, answer: str, flags: tuple[str, ...]) -> None:
    read = make_reader(TeamSettings(), question_of(request()))
    assert read(Ask(0, "a"), Reply(text, finish)) == (answer, flags)


def test_a_judge_chooses_by_number() -> None:
    read = make_reader(TeamSettings(), question_of(request()))
    judged = Ask(4, "a", "judge", "which?", shown=(0, 1))
    assert read(judged, Reply("2")) == ("2", ())
    assert read(judged, Reply("both")) == ("", ("invalid",))


def test_long_texts_that_say_the_same_are_one_answer() -> None:
    read = make_reader(TeamSettings(), question_of(request()))
    texts = [
        "The treaty was signed in the old town hall by both of the ministers.",
        "The treaty was signed in the old town hall by both ministers.",
        "Nobody ever signed anything; the negotiations collapsed after a week of quarrels.",
    ]
    first, second, third = (read(Ask(n, "a"), Reply(text))[0] for n, text in enumerate(texts))
    assert first == second != third


def test_json_must_be_as_the_client_wants_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    read = make_reader(TeamSettings(), question_of(request(response_format=wanted)))
    assert read(Ask(0, "a"), Reply('{"a": 1.0}')) == read(Ask(1, "a"), Reply('```json\n{"a":1}\n```'))
    assert read(Ask(2, "a"), Reply('{"b": 1}')) == ("", ("invalid",))


def test_confidence_goes_by_the_curve_where_one_is_known() -> None:
    knowledge = Knowledge(calibration=(Curve("a", "", (0.0, 1.0), (0.2, 0.6)),))
    assert calibrated(knowledge, "a", 0.5) == pytest.approx(0.4)
    assert calibrated(knowledge, "b", 0.5) == 0.5
    assert calibrated(knowledge, "a", None) is None
