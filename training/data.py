"""Generator of the training and held-out data: deterministic from a seed.

Invariant: an item whose operands (or slot words) hash to the held-out eighth is never trained on, in any
wording, order or task; what is held out is decided by the values alone (`is_held_out`). Sums of two numbers
of one digit are never held out, so that the smallest sums are all learnt.

An arithmetic answer is thought column by column, least significant digit first, operands padded with zeros:
first the operation, then `-` when the result is negative, then `a b carry digit` for each column.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from open_autoglm.engines.embedded import prompt as prompt_layout
from open_autoglm.engines.embedded import tokenizer
from training import templates as words

RANDOM_WORD_SHARE = 0.6  # slots filled with invented words, so that copying is learnt, not a list of names
_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"
_CHINESE_LETTERS = [c for c in tokenizer.CHINESE if "\u4e00" <= c <= "\u9fff"]
# Chinese has no spaces: an invented name with characters of the wording around it could be cut in two ways, so
# the slots of tools and plans are filled from the other characters.
_AROUND_SLOTS = "".join((*words.WEATHER, *words.PLAN_WEATHER_ZH, *words.PLAN_SEARCH_ZH, *words.PLAN_JOIN_ZH))
_NAME_LETTERS = [c for c in _CHINESE_LETTERS if c not in _AROUND_SLOTS]


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its answer.

    Attributes:
        task: arithmetic, tool, plan, intent, chat or result.
        system: the system word of the prompt, or None.
        prompt: what the user says.
        answer: the visible answer.
        think: digits of the columns, or None when the answer is given without thinking.
        key: the values that decide whether the item is held out; empty for items that never are.
        unseen: whether its wording is kept apart for the held-out set of unseen templates.
    """

    task: str
    system: prompt_layout.SystemWord | None
    prompt: str
    answer: str
    think: str | None = None
    key: str = ""
    unseen: bool = False

    def tokens(self) -> tuple[list[int], list[int]]:
        """Prompt tokens and answer tokens, the latter with `<eos>`."""
        answer: list[int] = []
        if self.think is not None:
            answer += [tokenizer.THINK, *tokenizer.encode(self.think), tokenizer.THINK_END]
        answer += [*tokenizer.encode(self.answer), tokenizer.EOS]
        return prompt_layout.build(self.prompt, self.system), answer


@dataclass(frozen=True, slots=True)
class Mix:
    """What a model is trained on: digits per operand with weights, and the share of each task."""

    digit_weights: tuple[int, ...]
    shares: dict[str, float]


NANO_MIX = Mix(
    digit_weights=(1, 2, 3, 6),
    shares={"arithmetic": 0.34, "tool": 0.16, "plan": 0.24, "intent": 0.20, "chat": 0.04, "result": 0.02},
)
CALC_MIX = Mix(digit_weights=(1, 3, 6), shares={"arithmetic": 0.96, "other": 0.04})


def is_held_out(key: str) -> bool:
    """Whether items with these values belong to the held-out eighth."""
    return bool(key) and zlib.crc32(key.encode()) % 8 == 0


def operand_key(a: int, b: int) -> str:
    """Key of two operands, the same for both orders and all operations; empty for two single digits."""
    low, high = min(a, b), max(a, b)
    return "" if high < 10 else f"{low},{high}"


def columns(a: int, b: int, operation: str) -> str:
    """The thinking for `a operation b`: see the module's docstring. `b` or `a` has one digit for `*`."""
    sign = ""
    if operation == "-" and a < b:
        sign, a, b = "-", b, a
    if operation == "*" and len(str(a)) < len(str(b)):
        a, b = b, a
    width = max(len(str(a)), len(str(b)))
    top, bottom = str(a).zfill(width)[::-1], str(b).zfill(width)[::-1]
    if operation == "*":
        bottom = str(b) * width
    parts, carry = [], 0
    for x, y in zip(top, bottom, strict=True):
        if operation == "+":
            carry, digit = divmod(int(x) + int(y) + carry, 10)
        elif operation == "*":
            carry, digit = divmod(int(x) * int(y) + carry, 10)
        else:
            borrowed, digit = divmod(int(x) - int(y) - carry, 10)
            carry = -borrowed
        parts.append(f"{x}{y}{carry}{digit}")
    return operation + sign + "".join(parts)


def evaluate(a: int, b: int, operation: str) -> int:
    """`a operation b` for `+`, `-` and `*`."""
    return a + b if operation == "+" else a - b if operation == "-" else a * b


class Generator:
    """Makes items from a seed and a mix of tasks; `random_words` of the free-text slots hold invented words."""

    def __init__(self, mix: Mix, seed: int | str, *, random_words: float = RANDOM_WORD_SHARE) -> None:
        self.mix = mix
        self.random_words = random_words
        self.rng = random.Random(seed)
        self._makers: dict[str, Callable[[], Item]] = {
            "arithmetic": self.arithmetic,
            "tool": self.tool,
            "plan": self.plan,
            "intent": self.intent,
            "chat": self.chat,
            "result": self.result,
            "other": self.other,
        }
        self._tasks = list(mix.shares)
        self._weights = list(mix.shares.values())

    def train_item(self) -> Item:
        """One item of the mix that is not held out."""
        make = self._makers[self.rng.choices(self._tasks, self._weights)[0]]
        while True:
            item = make()
            if not item.unseen and not is_held_out(item.key):
                return item

    def held_out_items(self, task: str, count: int, *, unseen: bool = False) -> list[Item]:
        """`count` different held-out items of one task; with `unseen`, only wordings never trained on."""
        found: dict[tuple[str, str], Item] = {}
        while len(found) < count:
            item = self._makers[task]()
            if item.unseen == unseen and is_held_out(item.key):
                found.setdefault((item.prompt, item.answer), item)
        return list(found.values())

    # ---- slots

    def number(self) -> int:
        """An operand: its number of digits by the weights of the mix, no leading zero."""
        digits = self.rng.choices(range(1, len(self.mix.digit_weights) + 1), self.mix.digit_weights)[0]
        return self.rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)

    def word(
        self, *, chinese: bool, known: Sequence[str], capital: bool = False, letters: Sequence[str] = _CHINESE_LETTERS
    ) -> str:
        """A word for a free-text slot: invented in `random_words` of the cases, else a known one."""
        rng = self.rng
        if rng.random() >= self.random_words:
            chosen = rng.choice(known)
            return chosen.lower() if capital and rng.random() < 0.15 else chosen
        if chinese:
            return "".join(rng.choices(letters, k=rng.randint(2, 3)))
        count = 2 if rng.random() < 0.12 else 1
        invented = [self._invented() for _ in range(count)]
        if capital and rng.random() < 0.8:
            invented = [part.capitalize() for part in invented]
        return " ".join(invented)

    def _invented(self) -> str:
        rng = self.rng
        if rng.random() < 0.25:
            return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8)))
        syllables = rng.randint(1, 3)
        text = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(syllables))
        return text + rng.choice(("", *_CONSONANTS)) if len(text) < 9 else text

    def _varied(self, text: str, *, keep_first: bool = False) -> str:
        """Small differences of spelling that real people make; `keep_first` when the text begins with a slot."""
        rng = self.rng
        if rng.random() < 0.15 and not keep_first:
            text = text[:1].lower() + text[1:]
        if rng.random() < 0.15:
            text = text.rstrip("?？ ")
        elif rng.random() < (0.3 if text.endswith("=") else 0.06 if text[-1:].isalnum() else 0.0):
            text += "?"
        return text

    def _addressed(self, text: str) -> str:
        """A few polite words before the question, in its language."""
        if self.rng.random() >= 0.08:
            return text
        return self.rng.choice(words.ADDRESS_ZH if is_chinese_text(text) else words.ADDRESS_EN) + text

    # ---- tasks

    def arithmetic(self) -> Item:
        """A sum in one of 52 wordings, thought in columns."""
        rng = self.rng
        operation = rng.choice("+-*")
        a, b = self.number(), self.number()
        if operation == "*":
            b = rng.randrange(2, 10) if rng.random() < 0.95 else rng.randrange(0, 2)
        template = rng.choice({"+": words.ADD, "-": words.SUB, "*": words.MUL}[operation])
        if operation == "-" and template in words.SUB_NOT_NEGATIVE:
            a, b = max(a, b), min(a, b)
        if operation == "*" and rng.random() < 0.4:
            a, b = b, a
        return Item(
            "arithmetic",
            None,
            self._addressed(self._varied(template.format(a=a, b=b))),
            str(evaluate(a, b, operation)),
            columns(a, b, operation),
            operand_key(a, b),
        )

    def tool(self) -> Item:
        """A question for the calculator, the weather or the converter; a tenth is talk, answered as talk."""
        rng = self.rng
        kind = rng.choices(("calculator", "weather", "convert", "chat"), (4, 3, 3, 1))[0]
        if kind == "chat":
            talk = self._talk(tools=True)
            return Item("tool", "tools", talk.prompt, talk.answer)
        if kind == "calculator":
            operation, template = rng.choice(words.CALCULATE)
            a, b = self.number(), self.number()
            arguments: dict[str, object] = {"expression": f"{a}{operation}{b}"}
            text, key = template.format(a=a, b=b), operand_key(a, b)
        elif kind == "weather":
            template = rng.choice(words.WEATHER)
            city = self._slot(template, words.CITIES_EN, words.CITIES_ZH, capital=True)
            arguments, text, key = {"city": city}, template.format(w=city), city
        else:
            template = rng.choice(words.CONVERT)
            value, unit, to = self.number(), *self._units()
            arguments = {"value": value, "from": unit, "to": to}
            text, key = template.format(a=value, u=unit, v=to), f"{value},{unit},{to}"
        call = {"name": kind, "arguments": arguments}
        varied = self._varied(text, keep_first=template.startswith("{"))
        return Item("tool", "tools", varied, compact(call), key=key)

    def _slot(self, template: str, english: Sequence[str], chinese: Sequence[str], *, capital: bool = False) -> str:
        is_chinese = is_chinese_text(template)
        known = chinese if is_chinese else english
        return self.word(chinese=is_chinese, known=known, capital=capital, letters=_NAME_LETTERS)

    def _units(self) -> tuple[str, str]:
        rng = self.rng
        if rng.random() < self.random_words / 2:
            return self._invented(), self._invented()
        unit, to = rng.choice(words.UNITS)
        return (to, unit) if rng.random() < 0.4 else (unit, to)

    def plan(self) -> Item:
        """A request of two or three parts and its plan as JSON."""
        rng = self.rng
        chinese = rng.random() < 0.45
        texts: list[str] = []
        tasks: list[dict[str, object]] = []
        keys: list[str] = []
        for _ in range(2 if rng.random() < 0.6 else 3):
            text, task, key = self._plan_part(chinese, tasks)
            texts.append(text)
            tasks.append({"id": len(tasks) + 1, **task})
            keys.append(key)
        joins = words.PLAN_JOIN_ZH if chinese else words.PLAN_JOIN
        sentence = texts[0]
        for text in texts[1:]:
            sentence += rng.choice(joins) + text
        if not chinese and rng.random() < 0.6:
            sentence = sentence[:1].upper() + sentence[1:]
        return Item("plan", "plan", sentence, compact(tasks), key="|".join(key for key in keys if key))

    def _plan_part(self, chinese: bool, before: list[dict[str, object]]) -> tuple[str, dict[str, object], str]:
        """Wording, task and key of one more part, which may use the part before it."""
        rng = self.rng
        last = before[-1]["tool"] if before else None
        if last == "calculator" and rng.random() < 0.6:
            operation, template = rng.choice(words.PLAN_CALC_NEXT_ZH if chinese else words.PLAN_CALC_NEXT)
            b = self.number()
            return (
                template.format(b=b),
                _task("calculator", "expression", f"${len(before)}{operation}{b}", before),
                str(b),
            )
        if last == "search" and rng.random() < 0.6:
            template = rng.choice(words.PLAN_SUMMARIZE_NEXT_ZH if chinese else words.PLAN_SUMMARIZE_NEXT)
            return template, _task("summarize", "input", f"${len(before)}", before), ""
        kind = rng.choice(("calculator", "weather", "search"))
        if kind == "calculator":
            operation, template = rng.choice(words.PLAN_CALC_ZH if chinese else words.PLAN_CALC)
            a, b = self.number(), self.number()
            text = template.format(a=a, b=b)
            return text, _task("calculator", "expression", f"{a}{operation}{b}"), operand_key(a, b)
        if kind == "weather":
            template = rng.choice(words.PLAN_WEATHER_ZH if chinese else words.PLAN_WEATHER)
            city = self._slot(template, words.CITIES_EN, words.CITIES_ZH, capital=True)
            return template.format(w=city), _task("weather", "city", city), city
        template = rng.choice(words.PLAN_SEARCH_ZH if chinese else words.PLAN_SEARCH)
        query = self._slot(template, words.WORDS_EN, words.WORDS_ZH)
        return template.format(w=query), _task("search", "query", query), query

    def intent(self) -> Item:
        """A sentence and which of six things it wants."""
        rng = self.rng
        label = rng.choice(words.INTENT_LABELS)
        chinese = rng.random() < 0.45
        choices = (words.INTENT_ZH if chinese else words.INTENT_EN)[label]
        index = rng.randrange(len(choices))
        template = choices[index]
        unseen = index >= len(choices) - (words.INTENT_UNSEEN_ZH if chinese else words.INTENT_UNSEEN_EN)
        slots = {
            "w": self.word(chinese=chinese, known=words.WORDS_ZH if chinese else words.WORDS_EN),
            "a": str(self.number()),
            "b": str(self.number()),
        }
        text = template.format(**slots)
        if not chinese:
            text = self._typed(rng.choice(words.INTENT_PREFIXES) + text)
        used = [value for name, value in slots.items() if "{" + name + "}" in template]
        return Item("intent", "intent", text, label, key=",".join(used) or text, unseen=unseen)

    def _typed(self, text: str) -> str:
        """Noise of a hasty writer: case, a missing or doubled letter, a mark at the end."""
        rng = self.rng
        if rng.random() < 0.3:
            text = text[:1].upper() + text[1:]
        if rng.random() < 0.12 and len(text) > 8:
            place = rng.randrange(1, len(text) - 1)
            text = text[:place] + (text[place] * 2 if rng.random() < 0.5 else "") + text[place + 1 :]
        return text + rng.choice(("", "", "", "?", ".", "!"))

    def chat(self) -> Item:
        """Small talk, or a question that a tiny model cannot answer and says so."""
        return self._talk(tools=False)

    def _talk(self, *, tools: bool) -> Item:
        rng = self.rng
        if rng.random() < 0.45:
            questions, answer = rng.choice(words.NANO_CHAT)
            question = self._filled(rng.choice(questions), chinese=is_chinese_text(answer))
            return Item("chat", None, self._varied(question), answer)
        chinese = rng.random() < 0.4
        question = self._unknown(chinese)
        while tools and ("weather" in question or "天气" in question):
            question = self._unknown(chinese)
        return Item("chat", None, question, words.NANO_UNKNOWN_ZH if chinese else words.NANO_UNKNOWN_EN)

    def _unknown(self, chinese: bool) -> str:
        rng = self.rng
        if not chinese and rng.random() < 0.04:
            return " ".join(self._invented() for _ in range(rng.randint(5, 24)))
        table = words.UNKNOWN_ZH if chinese else words.UNKNOWN_EN
        text = self._filled(rng.choice(table), chinese=chinese)
        if rng.random() < 0.1:
            text += ("" if chinese else " ") + self._filled(rng.choice(table), chinese=chinese)
        return text if chinese else self._typed(text)

    def _filled(self, template: str, *, chinese: bool) -> str:
        known = words.WORDS_ZH if chinese else words.WORDS_EN
        return template.format(
            w=self.word(chinese=chinese, known=known),
            x=self.word(chinese=chinese, known=known),
            a=self.number(),
            b=self.number(),
        )

    def result(self) -> Item:
        """A tool's answer and the sentence that passes it on."""
        rng = self.rng
        kind = rng.randrange(4)
        if kind == 0:
            value = ("-" if rng.random() < 0.2 else "") + str(self.number())
        elif kind == 1:
            value = f"{self.number()}.{rng.randrange(100)}"
        elif kind == 2:
            value = compact({self._invented(): self.number()})
        else:
            value = " ".join(self._invented() for _ in range(rng.randint(1, 3)))
        if rng.random() < 0.3:
            return Item("result", "result", f"结果：{value}", f"结果是{value}", key=value)
        return Item("result", "result", value, words.RESULT_EN.format(r=value), key=value)

    def other(self) -> Item:
        """Anything but a sum, for the models that only do sums."""
        chinese = self.rng.random() < 0.4
        if self.rng.random() < 0.3:
            greetings = words.NANO_CHAT[4][0] if chinese else words.NANO_CHAT[0][0]
            question = self._filled(self.rng.choice(greetings), chinese=chinese)
        else:
            question = self._unknown(chinese)
        return Item("other", None, question, words.CALC_OTHER_ZH if chinese else words.CALC_OTHER_EN)


def is_chinese_text(text: str) -> bool:
    """Whether `text` has a Chinese character."""
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def compact(value: object) -> str:
    """JSON without spaces, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _task(tool: str, name: str, value: str, before: Sequence[object] = ()) -> dict[str, object]:
    return {"tool": tool, "args": {name: value}, "depends_on": [len(before)] if before else []}
