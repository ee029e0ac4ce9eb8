"""Going on with a broken stream at another endpoint: the text so far, and the request that goes on with it.

What can be continued is one answer of plain text. Anything else is cut: of several answers, tool calls, JSON that a
server holds to a schema, and log probabilities, half is gone with the endpoint that broke; thinking cannot be given
back to a model, and text that goes on without the thoughts before it would be another answer.

| route and endpoint | the continuing request |
|---|---|
| chat, openai, `prefill` | the text is a last message of the assistant's |
| chat, openai, `vllm` | the same, and the server is told to go on with that message |
| completions, openai | the text stands behind the prompt |
| any, generate | the text stands behind the prompt |

Invariant: everything else of the request stays as it was, but the most tokens, which are fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, Literal

import msgspec
from msgspec import Raw
from msgspec import structs as struct_of

from open_autoglm.dialects.canonical import (
    Event,
    InferRequest,
    Message,
    TextDelta,
    TextPart,
    Usage,
    estimate_tokens,
)
from open_autoglm.dialects.face import AnswerEncoder, RequestView
from open_autoglm.dialects.generate import prompt_of
from open_autoglm.dialects.openai_chunk import Chunk, Delta, NotAnAnswer, read_chunk
from open_autoglm.dialects.openai_reading import has_value
from open_autoglm.dialects.support import NEUTRAL
from open_autoglm.dialects.upstream import DialectName
from open_autoglm.errors import RequestError

Continuation = Literal["none", "prefill", "vllm"]
"""How an endpoint of the openai dialect goes on with an answer that a conversation ends with."""

TEXT_CHARS_MAX: Final = 2**20
"""Of the text that is kept; a longer answer is not continued."""

_UNREAD_BYTES_MAX: Final = 4096
"""Of events that were passed on and not read again yet: reading many at once costs less."""
_BARRED: Final = (
    *("n", "best_of", "logprobs", "top_logprobs", "prompt_logprobs", "echo", "suffix", "modalities", "audio"),
    *("tools", "tool_choice", "functions", "function_call", "web_search_options", "min_tokens"),
    *("response_format", "structured_outputs", "json_schema", "regex", "ebnf", "grammar"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
"""Fields that ask for more than one plain text, or hold it to a form as a whole; with neutral values they do not."""
_VLLM: Final = {"add_generation_prompt": Raw(b"false"), "continue_final_message": Raw(b"true")}


class Delivered:
    """What the client of one stream has got so far. Used by each attempt's relay in turn, from its first content on.

    Attributes:
        event: one of the events that were sent, JSON; empty where `encoder` wrote them.
        encoder: who wrote the stream, where it was translated.
        source: the endpoint that broke, as `chat#1`; empty until one did.
        request: the client's, once one did.
        prompt_tokens, completion_tokens: as that endpoint said so far, -1 when it did not.
    """

    __slots__ = (
        "_deltas",
        "_kept",
        "_pieces",
        "_size",
        "_unread",
        "_unread_bytes",
        "completion_tokens",
        "encoder",
        "event",
        "prompt_tokens",
        "request",
        "source",
    )

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = self._deltas = 0
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._kept = True
        self.event = b""
        self.encoder: AnswerEncoder | None = None
        self.source = ""
        self.request: InferRequest | None = None
        self.prompt_tokens = self.completion_tokens = -1

    @classmethod
    def of(cls, view: RequestView) -> Delivered | None:
        """For a stream whose request does not say at first sight that it cannot be continued; None for others."""
        return cls() if view.choices == 1 and not view.structured else None

    def take(self, payload: bytes) -> None:
        """Note events of the openai dialect in the common form, as they go to the client."""
        if self._kept:
            self._unread.append(payload)
            self._unread_bytes += len(payload)
            if self._unread_bytes > _UNREAD_BYTES_MAX:
                self._read()

    def take_events(self, events: Sequence[Event], encoder: AnswerEncoder) -> None:
        """Note events that `encoder` writes for the client."""
        self.encoder = encoder
        for event in events:
            if isinstance(event, TextDelta) and not event.index:
                self._add(event.text)
            elif not isinstance(event, Usage):
                self._give_up()

    def broke(self, request: InferRequest, source: str, prompt_tokens: int, completion_tokens: int) -> bool:
        """The endpoint failed that gave this text. Return whether another one may go on.

        Nobody may where the text has all the tokens that were asked for: one more is the least that can be asked.

        Args:
            request: the client's.
            source: the endpoint.
            prompt_tokens, completion_tokens: as it said so far, -1 when it did not.
        """
        self._read()
        if not (self._size and self._kept and _is_plain(request)):
            return False
        self.request = request
        self.source = source
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        return self.tokens < min(_limit(request.max_tokens), _limit(_max_completion_tokens(request)))

    @property
    def chars(self) -> int:
        """Characters of the text."""
        return self._size

    @property
    def text(self) -> str:
        """The text."""
        text = "".join(self._pieces)
        self._pieces = [text]
        return text

    @property
    def tokens(self) -> int:
        """Of the text: as the endpoint said, or else an estimate.

        A server seldom sends less than a token at once, so that there are not more tokens than pieces; an estimate
        that is too high would end the rest of the answer early.
        """
        if self.completion_tokens >= 0:
            return self.completion_tokens
        return min(self._deltas, estimate_tokens(len(self.text.encode("utf-8", "replace"))))

    def _read(self) -> None:
        unread = b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        for line in unread.split(b"\n\n"):
            data = line[6:]
            if not data.startswith(b"{"):
                continue
            try:
                chunk = read_chunk(data)
            except NotAnAnswer:
                self._give_up()
                return
            if chunk.choices:
                self.event = data
                self._take_chunk(chunk)

    def _take_chunk(self, chunk: Chunk) -> None:
        for choice in chunk.choices or ():
            delta = choice.delta
            text = choice.text if delta is None else delta.content
            if choice.index or choice.finish_reason or (delta is not None and not _is_text(delta)):
                self._give_up()
            elif text:
                self._add(text)

    def _add(self, text: str) -> None:
        self._size += len(text)
        self._deltas += 1
        self._pieces.append(text)
        if self._size > TEXT_CHARS_MAX:
            self._give_up()

    def _give_up(self) -> None:
        """This answer cannot be continued: keep nothing of it."""
        self._kept = False
        self._pieces.clear()
        self._unread.clear()


def continued_request(delivered: Delivered, dialect: DialectName, continuation: str) -> tuple[InferRequest, int]:
    """The request that goes on with a text, and how many characters of the text it gives.

    Args:
        delivered: the text; `broke` has been called.
        dialect: of the endpoint that shall go on.
        continuation: what that endpoint can do: `prefill`, `vllm`, or anything else for plain prompts alone.

    Raises:
        RequestError: `unsupported_parameter`: the endpoint cannot go on with this request.
    """
    request, text = delivered.request, delivered.text
    assert request is not None
    given = len(text)
    request = _with_fewer_tokens(request, delivered.tokens)
    if dialect == "generate":
        return struct_of.replace(request, kind="completion", prompt=prompt_of(request) + text), given
    if request.kind == "completion":
        return struct_of.replace(request, prompt=(_single_prompt(request) or "") + text), given
    if continuation not in ("prefill", "vllm"):
        raise RequestError("unsupported_parameter", "the endpoint cannot go on with a message")
    # Templates drop or double white space at the end of a message; the seam expects it from the model again.
    prefill = text.rstrip()
    if not prefill:
        return request, 0
    return _prefilled(request, prefill, continuation), len(prefill)


def _prefilled(request: InferRequest, prefill: str, continuation: str) -> InferRequest:
    messages, extra = request.messages, request.extra
    # Where the client itself lets the model go on with a message, the text belongs to that message.
    own = messages[-1] if messages and messages[-1].role == "assistant" else None
    if own is not None and (continuation == "prefill" or extra.get("continue_final_message") == Raw(b"true")):
        if own.tool_calls or not own.plain or own.parts is None:
            raise RequestError("unsupported_parameter", "the last message is no plain text", param="messages")
        messages = messages[:-1]
        last = struct_of.replace(own, parts=(TextPart(own.text() + prefill),))
    else:
        last = Message("assistant", (TextPart(prefill),))
    if continuation == "vllm":
        extra = extra | _VLLM
    return struct_of.replace(request, messages=(*messages, last), extra=extra)


def _with_fewer_tokens(request: InferRequest, used: int) -> InferRequest:
    """The same request with what is left of its tokens; `Delivered.broke` saw to it that something is."""
    extra = request.extra
    most, asked = request.max_tokens, _max_completion_tokens(request)
    if asked is not None and _limit(asked) < inf:
        extra = extra | {"max_completion_tokens": Raw(str(asked - used).encode())}
    if most is not None and _limit(most) < inf:
        most -= used
    return struct_of.replace(request, max_tokens=most, extra=extra)


def _limit(most: int | None) -> float:
    """As a number; some servers take 0 or -1 for none."""
    return most if most is not None and most > 0 else inf


def _max_completion_tokens(request: InferRequest) -> int | None:
    """The most tokens by their newer name."""
    raw = request.extra.get("max_completion_tokens")
    return None if raw is None else msgspec.json.decode(raw, type=int | None)


def _single_prompt(request: InferRequest) -> str | None:
    """A completion's prompt, where it is one text."""
    prompt: object = request.prompt
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _is_plain(request: InferRequest) -> bool:
    """Whether one plain text is asked for, and nothing else."""
    if request.kind == "completion" and _single_prompt(request) is None:
        return False
    typed = {
        "n": request.n,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "response_format": request.response_format,
    }
    for name in _BARRED:
        value = typed.get(name)
        if value is None and name in request.extra:
            value = msgspec.json.decode(request.extra[name])
        if value is not None and value not in NEUTRAL.get(name, ()):
            return False
    return True


def _is_text(delta: Delta) -> bool:
    """Whether a piece holds text and nothing else."""
    return not (
        delta.reasoning_content
        or delta.reasoning
        or delta.refusal
        or delta.tool_calls
        or has_value(delta.function_call)
        or has_value(delta.audio)
    )
