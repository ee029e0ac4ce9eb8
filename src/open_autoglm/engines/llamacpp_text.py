"""The tokenizer inside a GGUF file, in the form of those of the library `tokenizers`, which `TokenizerText` uses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from open_autoglm.engines.tokenizers_layouts import LAYOUTS, specials_of
from open_autoglm.engines.tokenizers_text import TokenizerText

_PIECE_BYTES: Final = 256


class Encoded(Struct, frozen=True):
    """Tokens of a text."""

    ids: list[int]


class GgufTokenizer:
    """See the module.

    Args:
        library: the module `llama_cpp`.
        vocabulary: of a model that is loaded; it must stay loaded.
    """

    def __init__(self, library: Any, vocabulary: Any) -> None:
        self.encode_special_tokens = True
        self._library = library
        self._vocabulary = vocabulary
        self._size = int(library.llama_vocab_n_tokens(vocabulary))

    def no_truncation(self) -> None:
        """Nothing is cut here."""

    def no_padding(self) -> None:
        """Nothing is filled up here."""

    def get_vocab_size(self) -> int:
        """How many tokens there are."""
        return self._size

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoded:
        """Tokens of a text, which spells no special one."""
        return Encoded(self._tokens(text, special=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens; special ones are left out."""
        return b"".join(self._piece(token) for token in ids).decode("utf-8", "replace")

    def token_to_id(self, text: str) -> int | None:
        """The special token that a text names, or None."""
        tokens = self._tokens(text, special=True)
        if len(tokens) == 1 and self._library.llama_vocab_is_control(self._vocabulary, tokens[0]):
            return tokens[0]
        return None

    def knows(self, special: str) -> bool:
        """Whether there is a special token of this name."""
        return self.token_to_id(special) is not None

    def end_ids(self) -> list[int]:
        """Tokens that end an answer."""
        library, vocabulary = self._library, self._vocabulary
        return [token for token in range(self._size) if library.llama_vocab_is_eog(vocabulary, token)]

    def opening(self) -> list[int]:
        """What every text begins with, when no layout says so."""
        library, vocabulary = self._library, self._vocabulary
        return [int(library.llama_vocab_bos(vocabulary))] if library.llama_vocab_get_add_bos(vocabulary) else []

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self._library.llama_tokenize(self._vocabulary, data, len(data), tokens, room, False, special)
        if count < 0:  # more than one token for each byte
            room = -count
            tokens = (ctypes.c_int32 * room)()
            count = self._library.llama_tokenize(self._vocabulary, data, len(data), tokens, room, False, special)
        return list(tokens[:count])

    def _piece(self, token: int) -> bytes:
        piece = ctypes.create_string_buffer(_PIECE_BYTES)
        size = self._library.llama_token_to_piece(self._vocabulary, token, piece, _PIECE_BYTES, 0, False)
        if size < 0:
            piece = ctypes.create_string_buffer(-size)
            size = self._library.llama_token_to_piece(self._vocabulary, token, piece, -size, 0, False)
        return piece.raw[:size]


def text_of(tokenizer: GgufTokenizer, version: str) -> TokenizerText:
    """The way to talk to a model: the first layout whose special tokens its tokenizer has."""
    fitting = (name for name, layout in LAYOUTS.items() if all(map(tokenizer.knows, specials_of(layout))))
    layout = next(fitting)
    opening = tokenizer.opening() if layout == "plain" else []
    library: Any = tokenizer
    return TokenizerText(library, LAYOUTS[layout], version, tokenizer.end_ids(), opening)
