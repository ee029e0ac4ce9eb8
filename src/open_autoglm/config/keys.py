"""Names of keys: the notations that count as one, and the nearest known one to a wrong one."""

import re
from collections.abc import Iterable

from open_autoglm.config.tree import shorten

ALIASES = {"worker_threads": "workers"}
"""Other names of keys: what may be written -> the key that it stands for."""

FOREIGN_NAMES = {
    "api_base": "endpoint",
    "api_key": "token",
    "base_url": "endpoint",
    "model_name": "name",
    "url": "endpoint",
}
"""What other programs call a key of ours: it is no other name of it, but surely what was meant."""

COMPARED_CHARACTERS_MAX = 64
"""Of a wrong key; comparing takes quadratic time, and no key of ours is half as long."""

NAME_CHARACTERS_MAX = 256
"""Of a name that users give: a model, a key, a virtual model."""

NAME_RULE = f"1 to {NAME_CHARACTERS_MAX} printable characters without spaces around them"

COMPARED_WORDS_MAX = 500
"""Of the known words; among more, only those with the same first letter are compared."""

_ALIKE_RATIO = 0.6
"""Above it lie a letter too few, a letter too many and swapped letters of any word of four or more."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def canonical(key: str) -> str:
    """Turn `maxConnections`, `max-connections`, `MAX_CONNECTIONS` into `max_connections`; aliases into their key."""
    snake = _HUMP.sub("_", key).replace("-", "_").lower()
    return ALIASES.get(snake, snake)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like a wrong one; empty when nothing is known."""
    import difflib  # only a wrong configuration needs it

    wrong = word[:COMPARED_CHARACTERS_MAX]
    candidates = list(known)
    if len(candidates) > COMPARED_WORDS_MAX:
        candidates = [each for each in candidates if each[:1] == wrong[:1]][:COMPARED_WORDS_MAX] or candidates[:1]
    matches = difflib.get_close_matches(wrong, candidates, n=1, cutoff=0.0)
    return matches[0] if matches else ""


def alike(word: str, known: str) -> bool:
    """Whether a wrong word is so like a known one that it was probably meant."""
    import difflib

    return difflib.SequenceMatcher(None, word[:COMPARED_CHARACTERS_MAX], known).ratio() >= _ALIKE_RATIO


def is_name(text: str) -> bool:
    """Whether a text follows `NAME_RULE`."""
    return 0 < len(text) <= NAME_CHARACTERS_MAX and text.isprintable() and text == text.strip()


def shown_key(key: str) -> str:
    """Write a key of a user's for a path in a message: as it is when it is a short name, else quoted and cut."""
    return key if is_name(key) and len(key) <= COMPARED_CHARACTERS_MAX else shorten(key)
