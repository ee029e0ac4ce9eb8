"""Between chat messages and tokens: what an embedded model is shown, and what its tokens mean.

A request becomes one prompt: the last message of the user (or the result of a tool) and one system word that
says which task it is. The models were trained on single questions, so earlier messages are not shown to
them. On the way back, tokens become the events of `engines.events`, with one `ToolCall` at most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from open_autoglm.engines.embedded import calculator, prompt, tokenizer
from open_autoglm.engines.embedded.abilities import TOOL_NAMES, Abilities
from open_autoglm.engines.embedded.constraint import CopyConstraint, EchoConstraint
from open_autoglm.engines.events import (
    Finish,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
)
from open_autoglm.engines.request_text import StopCutter, check_numbers, content_text
from open_autoglm.engines.step_model import Prompt
from open_autoglm.errors import RequestError
from open_autoglm.ids import IdSource

RESULT_CHARACTERS_MAX: Final = 120  # of a tool's result that is shown to the model
CHARACTERS_PER_TOKEN_MAX: Final = 4  # a longer message cannot fit, and is refused before any work is done on it
_RESULT_CHINESE: Final = "结果："  # before a tool's result when the user writes Chinese
_CALL_IDS: Final = IdSource()
_COLUMN_TOKENS: Final = 4  # digits per column of the reasoning: a, b, carry, digit
_WIDE: Final = {0xFF01 + i: 0x21 + i for i in range(94) if chr(0x21 + i) in "0123456789+-*/="}
_SYSTEM: Final[tuple[tuple[prompt.SystemWord, re.Pattern[str]], ...]] = (
    ("intent", re.compile(r"\s*(intent\b|意图)", re.IGNORECASE)),
    ("plan", re.compile(r"\s*(plan\b|计划)", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """What an engine needs to know of a request.

    Attributes:
        tokens: the prompt.
        source: tokens of the user's text alone, from which slots are copied.
        system: the system word, or None.
        tools: names of the request's tools that the model knows.
        guarded: the calculator's answer when the model must not be asked.
    """

    tokens: list[int]
    source: list[int]
    system: prompt.SystemWord | None
    tools: frozenset[str]
    guarded: calculator.GuardedAnswer | None


def prepare(request: GenerateRequest, abilities: Abilities, context: int) -> PreparedPrompt:
    """Chooses task and prompt for a request.

    Args:
        request: what is asked.
        abilities: what the model was trained on.
        context: most tokens of prompt and answer together.

    Raises:
        RequestError: `invalid_request`, `unsupported_parameter` or `context_length_exceeded`.
    """
    check_numbers(request)
    too_long = RequestError(
        "context_length_exceeded",
        f"the last message has more than the {context} tokens that {abilities.name!r} can read; shorten it",
        param="messages",
    )
    text, is_result = _last_text(request.messages)
    if len(text) > CHARACTERS_PER_TOKEN_MAX * context:
        raise too_long
    text = _plain(text)
    tools = frozenset(_tool_names(request.tools)) & TOOL_NAMES if "tools" in abilities.tasks else frozenset()
    system: prompt.SystemWord | None = None
    if is_result:
        system = "result" if "result" in abilities.tasks else None
    elif tools:
        system = "tools"
    else:
        system = _system_word(request.messages, abilities)
    guarded = None
    if system is None and "arithmetic" in abilities.tasks:
        guarded = calculator.guard(text, abilities.digits_max)
    tokens = prompt.build(text, system)
    if len(tokens) >= context:
        raise too_long
    return PreparedPrompt(tokens, tokenizer.encode(text), system, tools, guarded)


def prompt_of(request: GenerateRequest, abilities: Abilities, context: int) -> Prompt:
    """What an engine needs of a request; see `prepare` for what is refused."""
    prepared = prepare(request, abilities, context)
    reader = ReplyReader(prepared, request.stop, _new_call_id)
    prompt = Prompt(prepared.tokens, reader, constraint_of(prepared), spell=tokenizer.spelled)
    if prepared.guarded is not None:
        prompt.answer = guarded_events(prepared.guarded)
        prompt.answer_tokens = guarded_tokens(prepared.guarded)
    return prompt


def constraint_of(prepared: PreparedPrompt) -> CopyConstraint | EchoConstraint | None:
    """What holds the answer's slots to the user's text, or its quotation to a tool's result; None for other tasks."""
    if prepared.system == "result":
        head = tokenizer.encode(_RESULT_CHINESE)
        source = prepared.source
        return EchoConstraint(source[len(head) :] if source[: len(head)] == head else source)
    if prepared.system not in ("tools", "plan"):
        return None
    return CopyConstraint(prepared.source, plan=prepared.system == "plan")


def _tool_names(tools: list[dict[str, Any]] | None) -> list[str]:
    """Names of function tools; anything malformed is passed over, because the model would not know it."""
    found = []
    for tool in tools or ():
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            found.append(name)
    return found


def _system_word(messages: list[dict[str, Any]], abilities: Abilities) -> prompt.SystemWord | None:
    """`intent` or `plan` when a system message begins with that word (or 意图, 计划)."""
    for message in messages:
        if message.get("role") not in ("system", "developer"):
            continue
        text = content_text(message.get("content"))
        for word, pattern in _SYSTEM:
            if word in abilities.tasks and pattern.match(text):
                return word
    return None


def _last_text(messages: list[dict[str, Any]]) -> tuple[str, bool]:
    """What the model is asked, and whether it is the result of a tool."""
    question = ""
    for message in reversed(messages):
        if message.get("role") == "user":
            question = content_text(message.get("content"))
            break
    last = messages[-1] if messages else {}
    if last.get("role") == "tool":
        result = content_text(last.get("content"))[:RESULT_CHARACTERS_MAX]
        return (f"{_RESULT_CHINESE}{result}" if calculator.is_chinese(question) else result), True
    if not question or question.isspace():
        raise RequestError("invalid_request", "messages hold no text of the user; add one", param="messages")
    return question, False


def _plain(text: str) -> str:
    """One line, with digits and operators of full width written as usual ones."""
    return " ".join(text.split()).translate(_WIDE)


class ReplyReader:
    """Turns the tokens of one answer into events.

    With tools offered, an answer that begins with `{` is held back whole: it is a tool call when it parses and
    names an offered tool, else text. Text that could be the beginning of a stop string is held back until the
    next tokens decide.

    Args:
        prepared: the request's prompt.
        stop: the request's stop strings.
        new_id: makes the id of a tool call.
    """

    __slots__ = ("_column", "_cutter", "_decoder", "_new_id", "_prepared", "_thinking", "_whole")

    def __init__(self, prepared: PreparedPrompt, stop: tuple[str, ...], new_id: Callable[[], str]) -> None:
        self._prepared = prepared
        self._cutter = StopCutter(stop)
        self._new_id = new_id
        self._decoder = tokenizer.StreamDecoder()
        self._thinking = False
        self._column = 0
        self._whole: str | None = None if prepared.system != "tools" else ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached: the caller ends the answer."""
        return self._cutter.stopped

    def push(self, token: int) -> list[GenerateEvent]:
        """Events of one more token."""
        if token == tokenizer.THINK:
            self._thinking = True
            return []
        if token == tokenizer.THINK_END:
            self._thinking = False
            return []
        text = self._decoder.push(token)
        if self._thinking:
            return self._reasoning(text)
        if self._whole is not None:
            if self._whole or text.startswith("{"):
                self._whole += text
                return []
            self._whole = None
        return self._text(text)

    def finish(self, reason: FinishReason) -> list[GenerateEvent]:
        """The last events: what was held back, a tool call, and `Finish`."""
        rest = self._decoder.finish()
        if self._whole is None:
            events = self._text(rest, last=True)
            return [*events, Finish(reason)]
        whole = self._whole + rest
        call = self._tool_call(whole) if reason == "stop" else None
        if call is not None:
            return [call, Finish("tool_calls")]
        events = self._text(whole, last=True)
        return [*events, Finish("stop" if self.stopped else reason)]

    def _reasoning(self, digits: str) -> list[GenerateEvent]:
        """Thinking, with a space before each column of four digits so that people can read it."""
        if not digits.isdigit():
            return [ReasoningDelta(digits)] if digits else []
        before = " " if self._column % _COLUMN_TOKENS == 0 else ""
        self._column += 1
        return [ReasoningDelta(before + digits)]

    def _text(self, text: str, *, last: bool = False) -> list[GenerateEvent]:
        text = self._cutter.push(text, last=last)
        return [TextDelta(text)] if text else []

    def _tool_call(self, text: str) -> ToolCall | None:
        try:
            call = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(call, dict) or call.keys() != {"name", "arguments"}:
            return None
        name, arguments = call["name"], call["arguments"]
        if not isinstance(name, str) or name not in self._prepared.tools or not isinstance(arguments, dict):
            return None
        return ToolCall(self._new_id(), name, json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


def guarded_events(answer: calculator.GuardedAnswer) -> list[GenerateEvent]:
    """The whole reply when the calculator answered in the model's place."""
    return [ReasoningDelta(answer.reasoning), TextDelta(answer.text), Finish("stop")]


def guarded_tokens(answer: calculator.GuardedAnswer) -> int:
    """How long that reply is."""
    return len(tokenizer.encode(answer.reasoning)) + len(tokenizer.encode(answer.text))


def _new_call_id() -> str:
    return f"call_{_CALL_IDS.trace_id()[-24:]}"
