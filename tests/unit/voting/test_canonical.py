"""What is compared of an answer, in English and Chinese, and what is no vote."""

import pytest

from open_autoglm.voting.canonical import Reading, canonical, read_answer, refuses
from open_autoglm.voting.number_form import number_form
from open_autoglm.voting.settings import AnswerForm, TeamSettings


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["#### 1,234.50", "The answer is 2469/2.", "1'234.5", "1.234,5", "1234½", "1\u202f234.5"], "2469/2"),
        (["１２３", "١٢٣", "123.0", "12.3e1", "1.23 × 10²", "一百二十三", "First 5, then 118: 5 + 118 = 123"], "123"),
        (["-5", "−5", "负五", "Answer: -5.", "\\boxed{-5}"], "-5"),
        (["0.5", "1/2", "½", "\\frac{1}{2}", "二分之一", "零点五", "3/6"], "1/2"),
        (["50%", "50 percent", "百分之五十", "百分之50", "50\\%"], "50%"),
        (["$5", "$\\$5$", "either $4 or $5", "5 dollars", "USD 5", "\\$5.00", "5美元"], "5 usd"),
        (["¥35000", "3.5万元", "三万五千 or rather 35000 yuan"], "35000 cny"),
        (["3 km", "3000 m", "3公里", "3,000 meters"], "3000 m"),
        (["2 hours", "120 min", "2小时", "7200 s"], "7200 s"),
        (
            [
                "12 apples",
                "The answer is $12$.",
                "$x = 12$",
                "The answer is 12. I checked it 3 times.",
                "答案是：12。",
                "故选 12",
            ],
            "12",
        ),
        (["**Answer:** 7", "Final answer: **7**", "the answer is 3 + 4 = 7", "\\boxed{7} as in step 2"], "7"),
        (["二〇二六", "The year 2026"], "2026"),
        (["三亿五千万", "350 million", "3.5亿"], "350000000"),
        (["60 km/h"], "60 km/h"),
        (["\\boxed{1{,}234\\,\\text{km}}", "$1{,}234$ km", "No.7 is 1,234 km"], "1234000 m"),
        (["\\boxed{2\\sqrt{3}}", "The answer is 2π."], ""),
        (["about GPT4", "1/0", "no number", "", "9" * 500, "1e999"], ""),
    ],
)
def test_equal_numbers_are_equal_and_others_are_not(texts: list[str], form: str) -> None:
    assert {text: number_form(text) for text in texts} == dict.fromkeys(texts, form)


@pytest.mark.parametrize(
    ("text", "choices", "choice"),
    [
        ("(B)", (), "B"),
        ("The answer is b.", (), "B"),
        ("答案是 B", (), "B"),
        ("A is wrong, and B too. 故选：C。", (), "C"),
        ("B) because A is wrong", (), "B"),
        ("**C**", (), "C"),
        ("Yes, it is.", (), "yes"),
        ("不是", (), "no"),
        ("It could be A or B", (), ""),
        ("I think B is right", (), "B"),
        ("A dog", (), ""),
        ("blue", ("red", "Blue"), "Blue"),
        ("It must be Light Blue.", ("blue", "light blue"), "light blue"),
        ("B", ("red", "blue"), "blue"),
        ("Answer: (B) blue", ("red", "blue"), "blue"),
        ("red or blue", ("red", "blue"), ""),
        ("Z", ("red", "blue"), ""),
        ("<", ("<", ">", "="), "<"),
        ("应该是红色的", ("红色", "蓝色"), "红色"),
        ("it was predicted", ("red", "blue"), ""),
    ],
)
def test_a_choice_is_found_or_nothing(text: str, choices: tuple[str, ...], choice: str) -> None:
    assert canonical(text, "choice", choices) == choice


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"b": 2.00, "a": 10e-1}', '{"a":1,"b":2}'),
        ('I think:\n```json\n{"b":2,"a":1}\n```\nDone.', '{"a":1,"b":2}'),
        ('It is {"a":1,"b":[]} and [3].', '{"a":1,"b":[]}'),
        (
            "[1e400, 1500, 0.10, -0.0, 123456789012345678901234567890]",
            "[1e400,1500,1e-1,0,123456789012345678901234567890]",
        ),
        ('"红"', '"\\u7ea2"'),
        ("NaN", ""),
        ('{"a": 1', ""),
        ("[" * 5000, ""),
        ("[" * 100 + "]" * 100, ""),
    ],
)
def test_json_is_compared_by_value(text: str, value: str) -> None:
    read = canonical(text, "json")
    assert read.replace("12345678901234567890123456789e1", "123456789012345678901234567890") == value


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The answer is **Paris**.", "paris"),
        ("“Paris”", "paris"),
        ("答案：巴 黎。", "巴黎"),
        ("42 apples", "42"),
        ("Let me think. The answer is 12 km.", "12000 m"),
        ("B", "B"),
        ("2\\pi", "2\\pi"),
        ('{"a": 1}', '{"a":1}'),
        ("I like 2 cats and dogs there", "i like 2 cats and dogs there"),
    ],
)
def test_auto_looks_at_the_text(text: str, form: str) -> None:
    assert canonical(text, "auto") == form


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot answer this question.",
        "As an AI language model, I am unable to judge that.",
        "I cannot assist with this request.",
        "抱歉，我无法回答这个问题。",
        "作为一个人工智能，我不能提供这样的内容。",
    ],
)
def test_refusals(text: str) -> None:
    assert refuses(text)
    assert read_answer(text, TeamSettings()).flags == ("refusal",)


@pytest.mark.parametrize(
    "text",
    [
        "I cannot see why not; 4",
        "Sorry for the delay, the answer is 4",
        "I can't believe it is 4",
        "无法整除，余 4",
        "I'm afraid it is only 4.",
        "I'm sorry, I cannot be sure, but the answer is 4",
    ],
)
def test_regrets_that_go_on_are_no_refusals(text: str) -> None:
    assert not refuses(text)


@pytest.mark.parametrize(
    ("text", "finish_reason", "settings", "flags"),
    [
        (" \n", "stop", {}, ("empty",)),
        ("4", "length", {}, ("truncated",)),
        ("4", "max_tokens", {}, ("truncated",)),
        ("4", "content_filter", {}, ("refusal",)),
        ("4" * 11, "stop", {"answer_chars_max": 10}, ("too_long",)),
        ("four", "stop", {"answer_form": "number"}, ("invalid",)),
        ("green", "stop", {"choices": ["red", "blue"]}, ("invalid",)),
        ("no JSON", "stop", {"answer_schema": {"type": "object"}}, ("invalid",)),
        ('{"a": -1}', "stop", {"answer_schema": {"type": "object"}}, ("invalid",)),
    ],
)
def test_what_is_no_vote(text: str, finish_reason: str, settings: dict[str, object], flags: tuple[str, ...]) -> None:
    def fits(value: object) -> bool:
        return isinstance(value, dict) and value["a"] >= 0

    assert read_answer(text, TeamSettings(**settings), finish_reason, fits) == Reading("", flags)  # type: ignore[arg-type]


def test_what_fits_its_schema_is_a_vote() -> None:
    settings = TeamSettings(answer_schema={"type": "object"})
    assert read_answer('{"a": 1}', settings, "stop", lambda value: value == {"a": 1}).answer == '{"a":1}'


@pytest.mark.parametrize("form", ["auto", "number", "choice", "json", "text"])
def test_long_hostile_texts_are_read_in_time(form: AnswerForm) -> None:
    for piece in ("answer is ", "####", "\\boxed{", "{", "[1,", "1,", "一", "```json\n", "9", "(A", "1/2 "):
        canonical(piece * (200_000 // len(piece)), form)


def test_a_number_that_is_too_long_to_be_held_against_a_schema_is_no_vote() -> None:
    long = '{"a": ' + "7" * 5000 + "}"
    settings = TeamSettings(answer_form="json")
    assert read_answer(long, settings, fits=lambda value: True).flags == ("invalid",)
    assert read_answer(long[:40] + "}", settings, fits=lambda value: True).flags == ()
