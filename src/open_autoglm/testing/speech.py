"""What scripted upstreams say: a text that follows from the question alone.

Invariant: whoever knows the question knows the whole answer, so that a judge can compare character by character,
and any upstream can go on exactly where another one broke off. Words repeat, and many are not ASCII: an answer that
lost, doubled or mangled a part is another text.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

TOKENS: Final = 60
"""Of an answer."""

_WORDS: Final = (
    *("the", "a", "of", "to", "and", "in", "is", "on", "it", "as", "for", "with", "model", "stream", "token", "answer"),
    *("again", "bridge", "river", "stone", "light", "1,024", "3.14", '"said"', "\\back", "«quoted»", "—", "naïve"),
    *("façade", "über", "groß", "Ärger", "señal", "café", "Ωmega", "привет", "мир", "你好", "世界", "模型", "東京"),
    *("안녕", "สวัสดี", "e\u0301t\u0301", "🙂", "🚀"),
)


@lru_cache(maxsize=4096)
def tokens_of(question: str, count: int = TOKENS) -> tuple[str, ...]:
    """Return the answer to a question, token by token; joined, it is the whole text.

    Args:
        question: any text.
        count: tokens of the answer.
    """
    rng = random.Random(question)
    words = [rng.choice(_WORDS) for _ in range(count)]
    return tuple(word if number == 0 else f" {word}" for number, word in enumerate(words))


def text_of(question: str, count: int = TOKENS) -> str:
    """Return the whole answer to a question."""
    return "".join(tokens_of(question, count))


def rest_of(question: str, said: str, count: int = TOKENS) -> tuple[str, ...]:
    """Return the tokens that are left after a text that was said already; all of them when it is no beginning.

    The first may be the rest of a token that was broken in the middle.
    """
    whole = text_of(question, count)
    if not whole.startswith(said):
        return tokens_of(question, count)
    left: list[str] = []
    end = 0
    for token in tokens_of(question, count):
        start, end = end, end + len(token)
        if end > len(said):
            left.append(token[max(0, len(said) - start) :])
    return tuple(left)


def read_question(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the question of a request's body, and the beginning of the answer that it carries, often empty.

    In a conversation that beginning is a last message of the assistant's. A bare prompt has it after its last line
    break: questions that may be continued there end with one, answers hold none.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        prompt = body.get("prompt")
        question, found, said = str(prompt if prompt is not None else "").rpartition("\n")
        return (question + found, said) if found else (said, "")
    said = ""
    if messages and messages[-1].get("role") == "assistant":
        said = _text(messages[-1].get("content"))
        messages = messages[:-1]
    return "\n".join(_text(message.get("content")) for message in messages), said


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
