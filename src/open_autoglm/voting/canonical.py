"""What is compared of an answer: the same for all texts that say the same, and the reasons why a text is no vote.

| form | compared | equal are, for example |
|---|---|---|
| `number` | see `number_form` | `#### 1,234.50` and `The answer is 2469/2.` |
| `choice` | one of the choices, or a letter, or yes and no | `(B)`, `答案是 B` and the text of the second choice |
| `json` | the value of the JSON text in it | `{"a": 1.0, "b": 2}` and a fenced `{"b":2,"a":1}` |
| `text` | what it names as its answer, or all of it, but for case and marks around | `Paris.` and `**paris**` |
| `auto` | as choices or a schema want it; else JSON, a letter or a number that is all there is; else as text | |

Invariants: the canonical form of a canonical form is itself; an answer is never longer than its text allows for, and a
text that cannot be read in its form is no vote (`invalid`) instead of a wrong one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from msgspec import Struct

from open_autoglm.voting.number_form import number_form, number_forms, symbolic, without_latex
from open_autoglm.voting.plain_text import named_answer, plain, stripped
from open_autoglm.voting.settings import AnswerForm, TeamSettings

Fits = Callable[[Any], bool]
"""Whether a JSON value is as its schema wants it."""

_CUT_OFF: Final = frozenset({"length", "max_tokens", "MAX_TOKENS"})
_WITHHELD: Final = frozenset({"content_filter", "refusal", "safety", "SAFETY"})
_REFUSAL_CHARS_MAX: Final = 600
"""A longer text that begins with regrets goes on to an answer."""
_REFUSAL: Final = re.compile(
    r"""\s*(?:
    (?:i'?m|i\ am|we'?re)\ (?:really\ |very\ |so\ )?
      (?:unable|not\ able|(?:sorry|afraid)\b.{0,60}\b(?:can(?:no|')t|cannot|won't|unable|not\ able))\b
    | (?:sorry|unfortunately|i\ apologi[sz]e)\b.{0,40}\b(?:can(?:no|')t|cannot|unable|not\ able)\b
    | (?:i|we)\ (?:can(?:no|')t|cannot|can\ not|won'?t|will\ not|am\ not\ able\ to|am\ unable\ to|must\ decline)\b
      .{0,20}\b(?:help|assist|answer|provide|comply|fulfil|do\ that|discuss|create|share|support|continue)
    | as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b.{0,80}
      \b(?:can(?:no|')t|cannot|unable|not\ able)\b
    | (?:非常|很|十分)?(?:抱歉|对不起|不好意思|遗憾).{0,40}(?:无法|不能|不可以|没有办法|没办法)
    | (?:我|作为(?:一个|一名)?.{0,10}(?:人工智能|AI|语言模型|助手)).{0,20}(?:无法|不能)
      (?:为您|为你|给您|给你)?(?:回答|提供|协助|帮助|满足|完成)
    )""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_FENCE: Final = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)
_JSON_STARTS_MAX: Final = 64
"""Places in a text at which a JSON value is looked for."""
_JSON_DEPTH_MAX: Final = 64
_LETTER: Final = re.compile(
    r"""\(([A-Za-z])\)
    | (?<![A-Za-z'])([B-HJ-Z]|A(?!\ (?!(?:and|as|because|but|is|or|since|was)\b)[a-z]))(?![A-Za-z'])""",
    re.VERBOSE,
)
"""Not the words I and A."""
_ONE_LETTER: Final = re.compile(r"(?:option|choice|answer|选项|选)?\ ?\(?([A-Za-z])\)?", re.IGNORECASE)
_FIRST_LETTER: Final = re.compile(r"\s*[*(\[]{0,3}([A-Z])(?:[)\].:]|\*\*)")
_YES: Final = frozenset({"yes", "true", "correct", "是", "是的", "对", "对的", "正确"})
_NO: Final = frozenset({"no", "false", "incorrect", "否", "不", "不是", "不对", "错", "错误", "不正确"})
_NUMBER_CHARS_MAX: Final = 600
"""A longer text is not read as nothing but a number."""
_WORDS_BESIDE_MAX: Final = 2
"""Words that a text may have beside a number and still be nothing but a number: `12 apples`, `x = 12`."""
_SPACE_IN_CHINESE: Final = re.compile(r"(?<=[\u3000-\u9fff])\s+(?=[\u3000-\u9fff])")
_ROUNDS_MAX: Final = 8


class Reading(Struct, frozen=True):
    """What was read of a text: the answer that is compared, empty where `flags` say why it is no vote."""

    answer: str
    flags: tuple[str, ...] = ()


def read_answer(text: str, settings: TeamSettings, finish_reason: str = "stop", fits: Fits | None = None) -> Reading:
    """Read a member's text, see the module; flags are those of `Candidate`.

    Args:
        text: as it came.
        settings: form, choices, schema and length.
        finish_reason: of the answer, as any dialect says it.
        fits: tells whether a JSON value is valid, where there is a schema.
    """
    flags = []
    if not text.strip():
        flags.append("empty")
    if finish_reason in _CUT_OFF:
        flags.append("truncated")
    if finish_reason in _WITHHELD or refuses(text):
        flags.append("refusal")
    if len(text) > settings.answer_chars_max:
        flags.append("too_long")
    if flags:
        return Reading("", tuple(flags))
    form: AnswerForm = settings.answer_form
    if form == "auto" and settings.choices:
        form = "choice"
    elif form == "auto" and settings.answer_schema is not None:
        form = "json"
    answer = canonical(text, form, settings.choices)
    if not answer or (form == "json" and fits is not None and not _is_fit(answer, fits)):
        return Reading("", ("invalid",))
    return Reading(answer)


def _is_fit(answer: str, fits: Fits) -> bool:
    try:
        return fits(json.loads(answer))
    except ValueError:  # Python reads no whole number of more than some thousand digits
        return False


def refuses(text: str) -> bool:
    """Whether a text, English or Chinese, says no more than that it will not answer."""
    if len(text) > _REFUSAL_CHARS_MAX or _REFUSAL.match(text.replace("’", "'")) is None:
        return False
    return named_answer(plain(text)) is None


def canonical(text: str, form: AnswerForm, choices: Sequence[str] = ()) -> str:
    """Return what is compared of a text; empty where it cannot be read in that form.

    Args:
        text: of any kind and length.
        form: see the module.
        choices: the possible answers, for `choice`; none: letters, yes and no.
    """
    match form:
        case "number":
            return number_form(text)
        case "choice":
            return _choice(text, choices)
        case "json":
            return _json(text)
        case "text":
            return _settled(_text, text)
        case "auto":
            return _choice(text, choices) if choices else _settled(_auto, text)


# Choices.


def _choice(text: str, choices: Sequence[str]) -> str:
    text = plain(text)
    named = named_answer(text)
    parts = [text] if named is None else [named, text]
    for part in parts:
        found = _choice_in(part, choices) if choices else _letter_in(part) or _yes_or_no(part)
        if found:
            return found
    return ""


def _choice_in(part: str, choices: Sequence[str]) -> str:
    """The choice that a part of a text is, or else the only one that it mentions, or whose letter it gives."""
    exact = {choice.strip(): choice for choice in reversed(choices) if choice.strip()}
    if part.strip() in exact:
        return exact[part.strip()]
    words = {word: choice for choice in reversed(choices) if (word := _folded(choice))}
    whole = _folded(part)
    if whole in words:
        return words[whole]
    letter = _letter_in(part)
    if letter and letter.lower() not in words and (place := ord(letter) - ord("A")) < len(choices):
        return choices[place] if choices[place].strip() else ""
    mentioned = [word for word in words if _mentions(whole, word)]
    # A choice within another one, as `blue` in `light blue`, is not mentioned by itself.
    longest = [word for word in mentioned if not any(word != other and word in other for other in mentioned)]
    return words[longest[0]] if len(longest) == 1 else ""


def _mentions(text: str, word: str) -> bool:
    start = r"(?<![0-9a-z_])" if word[0].isascii() and word[0].isalnum() else ""
    end = r"(?![0-9a-z_])" if word[-1].isascii() and word[-1].isalnum() else ""
    return re.search(start + re.escape(word) + end, text) is not None


def _letter_in(part: str) -> str:
    """The letter that a part of a text is, begins with, or gives as the only one."""
    whole = _ONE_LETTER.fullmatch(stripped(part))
    if whole:
        return whole[1].upper()
    first = _FIRST_LETTER.match(part)
    if first:
        return first[1]
    letters = {(match[1] or match[2]).upper() for match in _LETTER.finditer(part)}
    return letters.pop() if len(letters) == 1 else ""


def _yes_or_no(part: str) -> str:
    folded = _folded(part)
    words = folded.split(maxsplit=1)
    for word in (folded, stripped(words[0]) if words else ""):
        if word in _YES:
            return "yes"
        if word in _NO:
            return "no"
    return ""


# JSON.


def _json(text: str) -> str:
    """The value of the whole text, or of its last fenced block, or else the largest value in it."""
    for part in (text, *(block for block in reversed(_FENCE.findall(text)[-_JSON_STARTS_MAX:]))):
        try:
            return _written(json.loads(part, parse_float=Decimal, parse_int=Decimal, parse_constant=_refused))
        except (ValueError, InvalidOperation, RecursionError):
            continue
    decoder = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_refused)
    best, best_chars, place = "", 0, 0
    for _ in range(_JSON_STARTS_MAX):
        starts = [start for start in (text.find("{", place), text.find("[", place)) if start >= 0]
        if not starts:
            break
        place = min(starts)
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, InvalidOperation, RecursionError):
            place += 1
            continue
        if end - place > best_chars:
            with suppress(ValueError):
                best, best_chars = _written(value), end - place
        place = end
    return best


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


def _written(value: Any, depth: int = 0) -> str:
    """JSON with sorted keys, no spaces, ASCII only, and each number in one form.

    Raises:
        ValueError: it is nested deeper than `_JSON_DEPTH_MAX`.
    """
    if depth > _JSON_DEPTH_MAX:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(value[key], depth + 1)}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item, depth + 1) for item in value) + "]"
    return _decimal(value) if isinstance(value, Decimal) else json.dumps(value)


def _decimal(value: Decimal) -> str:
    """One form of each number, whatever its zeros and its exponent: `1500` is `15e2`."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "JSON has neither infinity nor NaN"
    written = "".join(map(str, digits)).lstrip("0")
    short = written.rstrip("0")
    exponent += len(written) - len(short)
    if not short:
        return "0"
    body = short + "0" * exponent if 0 <= exponent <= 20 else f"{short}e{exponent}"
    return "-" + body if sign else body


# Texts.


def _settled(read: Callable[[str], str], text: str) -> str:
    """Read what was read until nothing changes: marks may stand within marks, and names within names."""
    for _ in range(_ROUNDS_MAX):
        again = read(text)
        if again == text:
            break
        text = again
    return text


def _text(text: str) -> str:
    text = plain(text)
    named = named_answer(text)
    return _folded(text if named is None else named)


def _folded(text: str) -> str:
    """Without case, without marks around it, one space between words and none between Chinese ones."""
    return stripped(_SPACE_IN_CHINESE.sub("", " ".join(plain(plain(text).casefold()).split())))


def _auto(text: str) -> str:
    if text.lstrip().startswith(("{", "[", "```")) and (found := _json(text)) and found[0] in "{[":
        return found
    made = plain(text)
    named = named_answer(made)
    part = made if named is None else named
    whole = _ONE_LETTER.fullmatch(stripped(part))
    if whole:
        return whole[1].upper()
    part = without_latex(part)
    forms = [] if len(part) > _NUMBER_CHARS_MAX or symbolic(part) else number_forms(part)
    if len(forms) == 1:
        _, start, end = forms[0]
        beside = stripped(part[:start]) + " " + stripped(part[end:])
        if len(beside.split()) <= _WORDS_BESIDE_MAX and len(beside) <= 40:
            return forms[0][0]
    return _text(text)
