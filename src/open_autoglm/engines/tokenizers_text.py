"""Text and tokens of models that bring a `tokenizer.json`, read by the library `tokenizers`.

Invariants: what a client writes never becomes a special token; half of a character is never told; the texts of an
answer joined are what the tokens say, stop strings apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.engines.events import (
    Finish,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
)
from open_autoglm.engines.model_folder import CONFIG, ModelFolder
from open_autoglm.engines.request_text import StopCutter, check_numbers, content_text
from open_autoglm.engines.step_model import Prompt
from open_autoglm.engines.text_side import TOKENIZER_FILE
from open_autoglm.engines.tokenizers_layouts import LAYOUTS, ROLES, Layout, specials_of, written
from open_autoglm.errors import RequestError, ServerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_PER_TOKEN_MAX: Final = 128
"""A longer message cannot fit, and is refused before any work is done on it."""
MESSAGES_MAX: Final = 4096
HELD_TOKENS_MAX: Final = 16
"""So many tokens may be held back for the end of a character, which has four bytes at most."""
_REPLACEMENT: Final = "\ufffd"


def open_tokenizer(folder: ModelFolder) -> TokenizerText:
    """The tokenizer of a folder, with the layout that its manifest names.

    Raises:
        ServerError: `internal_error`, a file cannot be used, or the library is not installed.
    """
    name = folder.manifest.text
    layout = LAYOUTS.get(name)
    if layout is None:
        known = ", ".join(sorted(LAYOUTS))
        raise folder.refuse("manifest.json", f"names no layout of conversations: {name!r:.80}; there are: {known}")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ServerError("internal_error", "the library tokenizers is missing; install open-autoglm[onnx]") from error
    data = folder.read(TOKENIZER_FILE)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain exceptions
        raise folder.refuse(TOKENIZER_FILE, f"cannot be used: {error}"[:300]) from error
    ends = folder.read_json(CONFIG).get("eos_token_id")
    ids = ends if isinstance(ends, list) else [ends]
    return TokenizerText(
        tokenizer, layout, folder.manifest.files[TOKENIZER_FILE].sha256, [end for end in ids if type(end) is int]
    )


class TokenizerText:
    """See the module; a `TextSide`.

    Args:
        tokenizer: of the library; it is changed so that text is never read as special tokens.
        layout: of conversations.
        name: of the vocabulary.
        end_ids: tokens that end an answer, beside the layout's.
        opening: tokens before everything, for models that need some though their layout says none.

    Raises:
        ServerError: `internal_error`, the tokenizer lacks a special token of the layout.
    """

    def __init__(
        self, tokenizer: Tokenizer, layout: Layout, name: str, end_ids: list[int], opening: Sequence[int] = ()
    ) -> None:
        self.tokenizer = name
        self.vocabulary: int = tokenizer.get_vocab_size()
        self._library = tokenizer
        self._library.encode_special_tokens = True
        self._library.no_truncation()
        self._library.no_padding()
        self._layout = layout
        self._opening = list(opening)
        self._special = {each: self._id(each) for each in specials_of(layout)}
        found = [tokenizer.token_to_id(each) for each in layout.ends]
        self.end_tokens = frozenset([*end_ids, *(end for end in found if end is not None)])
        if not self.end_tokens:
            raise ServerError("internal_error", "no token ends an answer; say eos_token_id in config.json")
        self._think = tokenizer.token_to_id("<think>"), tokenizer.token_to_id("</think>")

    def prepare(self, request: GenerateRequest, context: int) -> Prompt:
        """See `TextSide`."""
        check_numbers(request)
        if request.tools:
            raise RequestError("unsupported_parameter", "this model was not given a way to call tools", param="tools")
        if len(request.messages) > MESSAGES_MAX:
            raise _too_long(context)
        messages = [_message(message) for message in request.messages]
        if not any(content.strip() for _, content in messages):
            raise RequestError("invalid_request", "messages hold no text; add some", param="messages")
        characters = sum(len(content) for _, content in messages)
        if characters > CHARACTERS_PER_TOKEN_MAX * context:
            raise _too_long(context)
        tokens = list(self._opening)
        for part in written(self._layout, messages):
            if isinstance(part, str):
                tokens += self._library.encode(part, add_special_tokens=False).ids
            else:
                tokens.append(self._special[part[0]])
        if len(tokens) >= context:
            raise _too_long(context)
        return Prompt(tokens, TextReader(self._library, self._think, request.stop), spell=self._spelled)

    def _spelled(self, token: int) -> bytes:
        if token in self._think:
            return b"<think>" if token == self._think[0] else b"</think>"
        return str(self._library.decode([token])).encode()

    def _id(self, special: str) -> int:
        found = self._library.token_to_id(special)
        if found is None:
            raise ServerError("internal_error", f"the tokenizer has no token {special!r}; choose another layout")
        return int(found)


class TextReader:
    """Turns the tokens of one answer into events; a `step_model.Reader`.

    A window of tokens is decoded again with each one, from the last place where a text was told, because a tokenizer
    may write a token after others differently than alone.

    Args:
        tokenizer: of the library.
        think: tokens that begin and end thinking, or None.
        stop: stop strings of the request.
    """

    __slots__ = ("_cutter", "_from", "_ids", "_library", "_think", "_thinking", "_told")

    def __init__(self, tokenizer: Any, think: tuple[int | None, int | None], stop: tuple[str, ...]) -> None:
        self._library = tokenizer
        self._think = think
        self._thinking = False
        self._cutter = StopCutter(stop)
        self._ids: list[int] = []
        self._from = 0
        self._told = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached."""
        return self._cutter.stopped

    def push(self, token: int) -> list[GenerateEvent]:
        """See `Reader`."""
        if token in self._think:
            events = self._events(self._text(last=True))
            self._ids, self._from, self._told = [], 0, 0
            self._thinking = token == self._think[0]
            return events
        self._ids.append(token)
        return self._events(self._text(last=len(self._ids) - self._told > HELD_TOKENS_MAX))

    def finish(self, reason: FinishReason) -> list[GenerateEvent]:
        """See `Reader`."""
        events = self._events(self._text(last=True))
        rest = self._cutter.push("", last=True)
        if rest:
            events.append(TextDelta(rest))
        return [*events, Finish("stop" if self.stopped else reason)]

    def _text(self, *, last: bool) -> str:
        """What the newest tokens add, unless they end inside a character."""
        before = self._library.decode(self._ids[self._from : self._told])
        text = self._library.decode(self._ids[self._from :])
        if len(text) <= len(before) or (text.endswith(_REPLACEMENT) and not last):
            return ""
        self._from, self._told = self._told, len(self._ids)
        return str(text[len(before) :])

    def _events(self, text: str) -> list[GenerateEvent]:
        if self._thinking:
            return [ReasoningDelta(text)] if text else []
        text = self._cutter.push(text)
        return [TextDelta(text)] if text else []


def _message(message: dict[str, Any]) -> tuple[str, str]:
    role = ROLES.get(str(message.get("role")))
    if role is None:
        raise RequestError(
            "unsupported_parameter", f"this model knows no role {message.get('role')!r:.80}", param="messages"
        )
    return role, content_text(message.get("content"))


def _too_long(context: int) -> RequestError:
    return RequestError(
        "context_length_exceeded",
        f"the messages have more than the {context} tokens that the model can read; shorten them",
        param="messages",
    )
