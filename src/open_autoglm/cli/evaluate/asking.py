"""Asks models tasks over a server's data listener, some at once, and keeps what they say.

Invariant: each model is asked each task once; an answer that a log of an earlier run has is not asked for again; no
more questions are under way than asked for, and each has a deadline.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.cli.evaluate.task import Task, is_right
from open_autoglm.cli.evaluate.team_answer import TeamAnswer, read_stream
from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed
from open_autoglm.cli.http_call import Answer, Target, call, error_message

LOG_BYTES_MAX: Final = 512 * 2**20
_EMPTY: Final = "an empty answer"
_ANSWER_CHARS_MAX: Final = 20_000
"""Of an answer that is kept; what is compared is the whole."""


class Price(Struct, frozen=True):
    """Money for a million tokens."""

    input: float = 0.0
    output: float = 0.0


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What one model said to one task.

    Attributes:
        model, task: who, and the task's id; `digest` is of the task, so that a changed one is asked again.
        answer: what it said; empty when it failed.
        right: whether that is right.
        failure: why there is no answer.
        latency_s: from the question, connection included, to the answer's end.
        prompt_tokens, completion_tokens: as the server counted; of a team all that its members took.
        cost: money, by the prices given, or as the server says of a team.
        calls: answers of members that went into it; 1 for a single model.
        members: calls by member; empty where the server does not say.
        busy, slots: of these, see `TeamAnswer`.
        confidence: mean probability of the tokens, or the chance that a team gives its decision, 0 to 1; None where
            nobody says.
    """

    model: str
    task: str
    digest: str
    answer: str = ""
    right: bool = False
    failure: str = ""
    latency_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    calls: int = 1
    members: dict[str, int] = {}
    busy: dict[str, float] = {}
    slots: dict[str, int] = {}
    confidence: float | None = None


@dataclass(slots=True)
class Questioner:
    """Asks one question.

    Attributes:
        target: the data listener.
        timeout_s: for one answer.
        prices: of models, by name.
        max_tokens: of an answer; None leaves it to the model.
        silent: models that do not tell probabilities; found out as they are asked.
        teams: virtual models, whose answers are streamed with the events of their runs.
    """

    target: Target
    timeout_s: float
    prices: dict[str, Price]
    max_tokens: int | None
    silent: set[str]
    teams: frozenset[str] = frozenset()

    def ask(self, model: str, task: Task) -> Outcome:
        """Ask; whatever the server does is part of the outcome."""
        began_s = clock.monotonic()
        try:
            answer = self._call(model, task)
        except CommandFailed as error:
            return self._failed(model, task, error.message, began_s)
        latency_s = clock.monotonic() - began_s
        if answer.status == 200 and model in self.teams:
            return self._read_team(model, task, read_stream(answer.body), latency_s)
        body = answer.json()
        if answer.status != 200 or not isinstance(body, dict):
            return self._failed(model, task, f"{answer.status} {error_message(body)}".strip(), began_s)
        return self._read(model, task, body, latency_s)

    def _call(self, model: str, task: Task) -> Answer:
        fields: dict[str, Any] = {"model": model, "messages": task.messages, "temperature": 0}
        if task.tools:
            fields["tools"] = task.tools
        if self.max_tokens is not None:
            fields["max_tokens"] = self.max_tokens
        if model in self.teams:
            return self._post({**fields, "stream": True, "stream_options": {"include_usage": True}, "mcp_events": True})
        if model not in self.silent:
            answer = self._post({**fields, "logprobs": True})
            if answer.status != 400:
                return answer
            # It may be the question of probabilities that it does not understand; it is asked without from now on.
            plain = self._post(fields)
            if plain.status == 200:
                self.silent.add(model)
            return plain
        return self._post(fields)

    def _post(self, fields: dict[str, Any]) -> Answer:
        return call(self.target, "POST", "/v1/chat/completions", fields, timeout_s=self.timeout_s)

    def _failed(self, model: str, task: Task, failure: str, began_s: float) -> Outcome:
        latency_s = clock.monotonic() - began_s
        return Outcome(model, task.id, digest_of(task), failure=failure[:300] or "no answer", latency_s=latency_s)

    def _read(self, model: str, task: Task, body: dict[str, Any], latency_s: float) -> Outcome:
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        text = answer_text(choice.get("message"))
        usage = body.get("usage")
        told = usage if isinstance(usage, dict) else {}
        read, written = (_whole(told.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        price = self.prices.get(model, Price())
        return Outcome(
            model,
            task.id,
            digest_of(task),
            text[:_ANSWER_CHARS_MAX],
            is_right(task, text),
            "" if text else _EMPTY,
            latency_s,
            read,
            written,
            (read * price.input + written * price.output) / 1e6,
            confidence=confidence_of(choice),
        )

    def _read_team(self, model: str, task: Task, told: TeamAnswer, latency_s: float) -> Outcome:
        failure = told.failure or ("" if told.complete else "the stream broke off") or ("" if told.text else _EMPTY)
        cost = told.usage.get("cost")
        return Outcome(
            model,
            task.id,
            digest_of(task),
            told.text[:_ANSWER_CHARS_MAX],
            not failure and is_right(task, told.text),
            failure,
            latency_s,
            _whole(told.usage.get("prompt_tokens")),
            _whole(told.usage.get("completion_tokens")),
            float(cost) if isinstance(cost, int | float) else 0.0,
            sum(told.members.values()) or 1,
            told.members,
            told.busy,
            told.slots,
            told.posterior,
        )


def answer_text(message: object) -> str:
    """What is checked of an answer: its text, or its one tool call as a JSON object of name and arguments."""
    if not isinstance(message, dict):
        return ""
    calls = message.get("tool_calls")
    if isinstance(calls, list) and len(calls) == 1 and isinstance(calls[0], dict):
        function = calls[0].get("function")
        try:
            arguments = msgspec.json.decode(str(function["arguments"]))  # type: ignore[index]
            return msgspec.json.encode({"name": function["name"], "arguments": arguments}).decode()  # type: ignore[index]
        except (KeyError, TypeError, msgspec.MsgspecError):
            return ""
    content = message.get("content")
    return content if isinstance(content, str) else ""


def confidence_of(choice: dict[str, Any]) -> float | None:
    """The mean probability of a choice's tokens; None where it does not tell."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return None
    told = [entry.get("logprob") for entry in content if isinstance(entry, dict)]
    chances = [math.exp(min(0.0, logprob)) for logprob in told if isinstance(logprob, float | int) and _is_log(logprob)]
    return math.fsum(chances) / len(chances) if chances else None


def _is_log(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all figures
        return False


def digest_of(task: Task) -> str:
    """Tells tasks apart by what they ask and what is right."""
    return hashlib.sha256(msgspec.json.encode(task)).hexdigest()[:16]


def read_log(path: Path) -> dict[tuple[str, str], Outcome]:
    """Outcomes of an earlier run by model and digest; failures are left out, to be asked again.

    Raises:
        CommandFailed: it cannot be read, or holds something else.
    """
    kept: dict[tuple[str, str], Outcome] = {}
    if not path.exists():
        return kept
    if path.stat().st_size > LOG_BYTES_MAX:
        raise CommandFailed(f"{str(path)!r} is too long for a log of answers; name another file", WRONG_USAGE)
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            outcome = msgspec.json.decode(line, type=Outcome)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if number == len(lines):
                break  # the run before was ended while it wrote
            message = f"{str(path)!r}, line {number} is no answer of an evaluation; name another file"
            raise CommandFailed(message, WRONG_USAGE) from error
        if not outcome.failure:
            kept[outcome.model, outcome.digest] = outcome
    return kept


def ask_all(
    ask: Callable[[str, Task], Outcome],
    questions: Sequence[tuple[str, Task]],
    concurrency: int,
    log: TextIO | None,
    told: Callable[[Outcome], None],
) -> None:
    """Ask questions, `concurrency` at once; each outcome is written to the log as it comes and told.

    Raises:
        KeyboardInterrupt: whoever pressed Ctrl-C waits for what is under way, not for the rest.
    """
    left = iter(questions)
    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(concurrency, "evaluate") as pool:
        while True:
            while len(running) < concurrency and (question := next(left, None)) is not None:
                running.add(pool.submit(ask, *question))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                if log is not None:
                    log.write(msgspec.json.encode(outcome).decode() + "\n")
                    log.flush()
                told(outcome)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
