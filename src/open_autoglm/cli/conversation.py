"""A conversation with one server: its questions and answers so far, and how an answer is shown.

Invariant: the history holds whole answers only; a question whose answer failed or was stopped leaves no trace in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from open_autoglm.cli.chat_stream import Failed, Finished, Piece, Reasoning, Text, refusal_message, stream_chat
from open_autoglm.cli.failure import CommandFailed
from open_autoglm.cli.http_call import Target, call
from open_autoglm.cli.terminal import Terminal

MESSAGES_MAX = 2048
"""Of a conversation; servers of ours take no more in one request."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer that has been shown.

    Attributes:
        text: what the model said.
        failure: why it is not whole; empty when it is.
    """

    text: str
    failure: str


@dataclass(slots=True)
class Conversation:
    """See the module.

    Attributes:
        target: the data listener.
        model: who is asked.
        settings: further fields of each request, as `temperature`.
        timeout_s: longest wait between two pieces of an answer.
        keep: whether a question is asked with those before it.
        messages: the history, the system's words first.
    """

    target: Target
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0
    keep: bool = True
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str, terminal: Terminal, *, reasoning: bool = True) -> Shown:
        """Ask, and show the answer while it arrives.

        Args:
            question: the user's words.
            terminal: where it is shown.
            reasoning: whether a terminal shows what the model thinks before it answers.
        """
        if len(self.messages) + 2 > MESSAGES_MAX:
            return Shown("", f"the conversation has {MESSAGES_MAX} messages; /reset begins a new one")
        words = {"role": "user", "content": question}
        shown = show(terminal, self._pieces(words), reasoning=reasoning)
        if self.keep and not shown.failure:
            self.messages += [words, {"role": "assistant", "content": shown.text}]
        return shown

    def reset(self) -> None:
        """Forget all but the system's words."""
        self.messages = [message for message in self.messages if message["role"] == "system"]

    def _pieces(self, words: dict[str, str]) -> Iterator[Piece]:
        request = {"model": self.model, "messages": [*self.messages, words], **self.settings}
        return stream_chat(self.target, request, self.timeout_s)


def show(terminal: Terminal, pieces: Iterable[Piece], *, reasoning: bool = True) -> Shown:
    """Write pieces as they come, reasoning dimmed and on a terminal only; end with a line end.

    An answer that fails after some of it was written is ended by a line end too; the caller says why it failed.
    """
    text, failure, thinking = "", "", False
    for piece in pieces:
        match piece:
            case Reasoning(words):
                if reasoning and terminal.colour:
                    terminal.piece(terminal.styled(terminal.shown(words), "dim"))
                    thinking = True
            case Text(words):
                if thinking:
                    terminal.line()
                    thinking = False
                text += words
                terminal.piece(terminal.shown(words))
            case Failed(message):
                failure = message
            case Finished():
                pass
    if text or thinking or not failure:
        terminal.line()
    return Shown(text, failure)


def model_names(target: Target, timeout_s: float = 10.0) -> list[str]:
    """Return the models that this key may use.

    Raises:
        CommandFailed: no connection, or a refusal.
    """
    answer = call(target, "GET", "/v1/models", timeout_s=timeout_s)
    value = answer.json()
    data = value.get("data") if isinstance(value, dict) else None
    if answer.status != 200 or not isinstance(data, list):
        raise CommandFailed(refusal_message(answer.status, answer.body))
    return [str(each["id"]) for each in data if isinstance(each, dict) and "id" in each]
