"""The tokenizer of the embedded models: 628 tokens, no training, longest piece first.

Layout of the ids: 9 special tokens, 256 byte fallbacks, 95 printable ASCII characters, 33 longer pieces
(JSON parts, tool names, labels), 235 Chinese characters and signs. Digits are single tokens.

Invariant: ``decode(encode(text)) == text`` for every text, and no text can spell a special token, because
`encode` never produces ids below `BYTE_FIRST`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Final

NAME: Final = "open-autoglm-628"
"""As in a model's manifest."""

SPECIALS: Final = (
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<think>",
    "</think>",
    "<eos>",
    "<pad>",
)
GMASK, SOP, SYSTEM, USER, ASSISTANT, THINK, THINK_END, EOS, PAD = range(len(SPECIALS))
BYTE_FIRST: Final = len(SPECIALS)
ASCII_FIRST: Final = BYTE_FIRST + 256

# A tool call is about 60 characters; with these pieces it is 11 tokens, which a small model can learn.
PIECES: Final = (
    '{"name":"',
    '","arguments":{"',
    'expression":"',
    'city":"',
    'value":',
    ',"from":"',
    '","to":"',
    '"}}',
    '[{"id":',
    ',"tool":"',
    '","args":{"',
    'query":"',
    'input":"',
    '"},"depends_on":[',
    ']},{"id":',
    "]}]",
    "calculator",
    "weather",
    "convert",
    "search",
    "summarize",
    "math",
    "code",
    "translate",
    "question",
    "chat",
    "tools",
    "intent",
    "plan",
    "result",
    "glm-nano",
    " tiny language model",
    "Ask me for a sum",
)
CHINESE: Final = (
    "×、。一上下不与东个中为么乐乘也书买了于京人什今介从仓代以会你倍做元公共兴具再写减几出函分划判到剩加务北午卖南历"
    "厘去又口句只叫可史吃名后吗和哪喜嗨器图在型多大天好如字安客小少州工差己帮广序库店度式影很得怎思总您意成我找把换接搜"
    "改数文断早时明春是晚月有服本术机果查样模欢每比气水求津测海点然现球用电的相看着知短码积程等算箱米索红绍结给翻能自花"
    "英苹蓝行西要见言计译试话语说请谁调谢货走运还这道都里钟错长问除雨音题首高！，？"
    "：；（）÷“”零二三四五六七八九十百千万两们就对想年"
)
VOCABULARY_SIZE: Final = ASCII_FIRST + 95 + len(PIECES) + len(CHINESE)


def _texts() -> list[bytes]:
    """UTF-8 bytes of every token; special tokens have none, so decoding never shows them."""
    texts = [b""] * len(SPECIALS)
    texts += [bytes([value]) for value in range(256)]
    texts += [bytes([value]) for value in range(0x20, 0x7F)]
    texts += [piece.encode() for piece in PIECES]
    texts += [character.encode() for character in CHINESE]
    return texts


TOKEN_BYTES: Final[tuple[bytes, ...]] = tuple(_texts())
_ID: Final[dict[str, int]] = {TOKEN_BYTES[token].decode(): token for token in range(ASCII_FIRST, VOCABULARY_SIZE)}
_MATCH: Final = re.compile(
    "|".join(re.escape(piece) for piece in sorted(PIECES, key=len, reverse=True)) + "|.", re.DOTALL
)


def token_id(text: str) -> int:
    """Id of the one token that spells `text`; KeyError when there is none."""
    return _ID[text]


def encode(text: str) -> list[int]:
    """Token ids of `text`: the longest piece first, then characters, then UTF-8 bytes.

    A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
    """
    ids: list[int] = []
    for match in _MATCH.finditer(text):
        piece = match.group()
        known = _ID.get(piece)
        if known is not None:
            ids.append(known)
        else:
            ids.extend(BYTE_FIRST + value for value in piece.encode("utf-8", "replace"))
    return ids


def decode(ids: Iterable[int]) -> str:
    """Text of `ids`; special tokens are left out, bytes that are no UTF-8 become U+FFFD."""
    return b"".join(TOKEN_BYTES[token] for token in ids).decode("utf-8", "replace")


def spelled(token: int) -> bytes:
    """Bytes that show a token; a special one, which decoding never shows, by its name."""
    return TOKEN_BYTES[token] or SPECIALS[token].encode()


class StreamDecoder:
    """Turns tokens into text piece by piece and never emits half of a character.

    Bytes of an unfinished character are held back until the next tokens finish it; what turns out to be no
    UTF-8 becomes U+FFFD. The pieces joined are always what `decode` gives for all tokens at once.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Text that `token` completes; empty while a character is unfinished."""
        return self._decoder.decode(TOKEN_BYTES[token])

    def finish(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)
