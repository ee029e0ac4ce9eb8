"""Writes the held-out sets: items whose values hash to the eighth that is never trained on.

    python -m training.heldout training/heldout

Each line is one JSON object: `id`, `task`, `system` (the system word or null), `prompt`, `answer`, and for
arithmetic `operation` and `digits` (of the longer operand). The sets are frozen: `SHA256SUMS` lists them, and a
test holds the hashes.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from training.data import CALC_MIX, NANO_MIX, RANDOM_WORD_SHARE, Generator, Item, Mix, compact


@dataclass(frozen=True, slots=True)
class Set:
    """How one held-out set is made: `random_words` is the share of free-text slots with invented words."""

    name: str
    task: str
    mix: Mix
    count: int
    random_words: float = RANDOM_WORD_SHARE
    unseen: bool = False


# `tool` and `plan` have about a third of invented words; in the sets with `-new` in their name every city and every
# search word is invented.
SETS = (
    Set("arithmetic-3", "arithmetic", CALC_MIX, 1500),
    Set("arithmetic-3-calibration", "arithmetic", CALC_MIX, 600),
    Set("arithmetic-4", "arithmetic", NANO_MIX, 1500),
    Set("intent", "intent", NANO_MIX, 600),
    Set("intent-unseen", "intent", NANO_MIX, 400, unseen=True),
    Set("tool", "tool", NANO_MIX, 600, random_words=0.35),
    Set("tool-new", "tool", NANO_MIX, 300, random_words=1.0),
    Set("plan", "plan", NANO_MIX, 500, random_words=0.35),
    Set("plan-new", "plan", NANO_MIX, 300, random_words=1.0),
    Set("result", "result", NANO_MIX, 200),
)
# fmt: off
# Sentences written by hand, in no template's wording; only the label is given.
HAND_WRITTEN: dict[str, tuple[str, ...]] = {
    "math": (
        "If I buy 3 pens at 45 each what do I pay", "seventeen? no: 17 and 26 together make what", "88 less 19",
        "I have 120 and lose 35, what remains", "half of 84", "42乘3得几", "100减去37剩多少", "15 * 9 please",
        "what do you get from 7 times 81", "三个25一共多少",
    ),
    "code": (
        "My python loop never ends, what now?", "I need a regex that matches an email", "Convert this class to rust",
        "the compiler says missing semicolon", "make an sql table for users", "git merge conflict in main.py",
        "how to reverse a list in javascript", "帮我写一段python代码读文件", "函数返回空值怎么改", "写一个排序程序",
    ),
    "translate": (
        "What would cheese be in italian?", "I want this in french: good morning", "english to german: tree",
        "how would a spaniard say water", "Translate my letter into korean", "把这句话变成英语", "苹果用日语怎么说",
        "你好的法语是什么", "turn this into chinese: I love tea", "translate cat",
    ),
    "summarize": (
        "Too long, give me the gist", "Boil this report down to three lines", "a short version of this email please",
        "what are the key points of the meeting", "summary of chapter two", "用两句话总结这篇文章", "这本书的要点",
        "make this paragraph shorter", "summarise the news of today", "shorten my essay",
    ),
    "question": (
        "Which planet is the largest?", "how tall is the eiffel tower", "When did the war end?",
        "who painted the mona lisa",
        "what causes rain", "长江有多长", "谁发现了美洲", "why do leaves turn red", "where do penguins live",
        "is a tomato a fruit",
    ),
    "chat": (
        "good evening my friend", "I feel happy today", "thanks a lot!", "what's up", "see you tomorrow", "早安",
        "我今天很高兴", "哈哈", "you are funny", "hello again",
    ),
}
# fmt: on


def line_of(name: str, index: int, item: Item) -> dict[str, object]:
    """The fields of one line."""
    fields: dict[str, object] = {
        "id": f"{name}-{index:04d}",
        "task": item.task,
        "system": item.system,
        "prompt": item.prompt,
        "answer": item.answer,
    }
    if item.think is not None:
        fields["operation"] = item.think[0]
        fields["digits"] = max(len(part) for part in item.key.split(","))
    return fields


def write(out: Path) -> None:
    """Writes every set and `SHA256SUMS` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[dict[str, object]]] = {}
    seen: set[str] = set()
    for made in SETS:
        generator = Generator(made.mix, f"held-out:{made.name}", random_words=made.random_words)
        items = generator.held_out_items(made.task, made.count * 2, unseen=made.unseen)
        fresh = [item for item in items if item.prompt not in seen][: made.count]
        if len(fresh) < made.count:
            raise ValueError(f"{made.name}: only {len(fresh)} items that are in no other set")
        seen.update(item.prompt for item in fresh)
        files[made.name] = [line_of(made.name, index, item) for index, item in enumerate(fresh)]
    hand = [Item("intent", "intent", text, label) for label, texts in HAND_WRITTEN.items() for text in texts]
    files["intent-hand"] = [line_of("intent-hand", index, item) for index, item in enumerate(hand)]
    sums = []
    for name, lines in sorted(files.items()):
        data = "".join(compact(line) + "\n" for line in lines).encode()
        (out / f"{name}.jsonl").write_bytes(data)
        sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}.jsonl\n")
    (out / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
