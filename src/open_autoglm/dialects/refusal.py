"""Error answers of upstreams: what kind they are, and what of them the client may hear.

The kinds are the words of the exchange's table of outcomes. Upstreams agree on little beyond the HTTP status: the code,
the type and a few phrases decide where they are known (OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama). Only messages
about the request itself are passed on, without control characters, addresses and anything that looks like a secret.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct

MESSAGE_CHARS_MAX: Final = 500
_READ_CHARS_MAX: Final = 2_000
"""Of an upstream's message; searching more is not worth the time."""
_ABOUT_PROMPT: Final = frozenset({400, 413, 415, 422, 500})
"""Statuses that servers give to prompts that are too long or not allowed."""
_PARAM_CHARS_MAX: Final = 100

_TOO_LONG: Final = re.compile(
    r"context[ _](length|window|size)|maximum (context|input|sequence|model) |max_model_len|prompt is too long"
    r"|too many (input )?tokens|exceeds the (available )?context|reduce the length",
    re.IGNORECASE,
)
_POLICY: Final = re.compile(
    r"content[ _]?(management )?(policy|filter)|responsible ?ai ?policy|flagged|safety system", re.IGNORECASE
)
_NO_MODEL: Final = re.compile(
    r"model.{0,300}?(not[ _](found|exist|available|loaded)|unknown|no such)|unknown model|no such model",
    re.IGNORECASE | re.DOTALL,
)
_OVERLOAD: Final = re.compile(r"overload|capacity|unavailable|too busy|try again later|no available", re.IGNORECASE)
_RATE: Final = re.compile(r"rate.?limit|too many requests|quota", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"\b(sk|mcp|pk|rk|gh[pousr]|xox[a-z])[-_][A-Za-z0-9_-]{6,}|\beyJ[A-Za-z0-9_.-]{10,}|\bBearer\s+\S+", re.IGNORECASE
)
_ADDRESS: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]{0,20}://\S+|\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\blocalhost(:\d+)?\b", re.IGNORECASE
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Refusal(Struct, frozen=True):
    """Why an upstream gave no answer.

    Attributes:
        outcome: a word of the exchange's table.
        message: for people; may be shown to the client.
        code: an error code where the client is to hear this very refusal; empty otherwise.
        param: the field that the upstream blames.
    """

    outcome: str
    message: str
    code: str = ""
    param: str | None = None


class _Told(Struct, frozen=True):
    """What an upstream's error object says; all in lower case but the message."""

    message: str = ""
    words: str = ""
    param: str | None = None
    status: int = 0


def classify(status: int, body: bytes) -> Refusal:
    """Say what kind of refusal an answer is.

    Args:
        status: of the answer, anything but 200.
        body: of the answer, possibly cut.
    """
    return _judge(status, error_told(body))


def classify_in_band(error: Any) -> Refusal:
    """Say what kind of refusal an error within a 200 is.

    Args:
        error: the value of `error`, or the whole object where the object is the error.
    """
    told = _read(error)
    refusal = _judge(told.status, told) if 400 <= told.status < 600 else None
    if refusal is not None and refusal.outcome != "refused":
        return refusal
    by_words = _by_words(told)
    if by_words is not None:
        return by_words
    if _RATE.search(told.words) or _RATE.search(told.message):
        return Refusal("throttled", "the model's server limits its rate")
    if _OVERLOAD.search(told.words) or _OVERLOAD.search(told.message):
        return Refusal("unavailable", "the model's server is overloaded")
    return refusal or Refusal("failed", "the model's server reported an error inside its answer")


def error_told(body: bytes) -> _Told:
    """What the body of an error answer says, as far as it is JSON."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Told()
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        for name in ("error", "detail"):
            if value.get(name):
                inner = value[name]
                return _read(inner if isinstance(inner, dict) else {**value, "message": inner})
    return _read(value)


def safe_message(text: str) -> str:
    """A message of an upstream, fit for a client: one line, no addresses, no secrets, `MESSAGE_CHARS_MAX` at most."""
    text = _CONTROL.sub(" ", text[:_READ_CHARS_MAX])
    text = _ADDRESS.sub("[address]", _SECRET.sub("[secret]", text))
    return text[:MESSAGE_CHARS_MAX].strip()


def _read(error: Any) -> _Told:
    if isinstance(error, str):
        return _Told(message=error[:_READ_CHARS_MAX])
    if not isinstance(error, dict):
        return _Told()
    message = error.get("message")
    code = error.get("code")
    param = error.get("param")
    inner = error.get("innererror")
    words = [code, error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    return _Told(
        message=message[:_READ_CHARS_MAX] if isinstance(message, str) else "",
        words=" ".join(word[:100] for word in words if isinstance(word, str)).lower(),
        param=param[:_PARAM_CHARS_MAX] if isinstance(param, str) else None,
        status=_status(code),
    )


def _status(code: Any) -> int:
    """The HTTP status that a code is, or 0."""
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and 0 < code < 1000 else 0


def _judge(status: int, told: _Told) -> Refusal:
    """By words where they are known, by status otherwise."""
    if status in _ABOUT_PROMPT:
        by_words = _by_words(told)
        if by_words is not None:
            return by_words
    match status:
        case 401 | 403:
            if status == 403 and _POLICY.search(told.words):
                return _policy(told)
            return Refusal("misconfigured", "the model's server does not accept our credentials")
        case 404:
            if told.message and not _NO_MODEL.search(f"{told.message} {told.words}"):
                return _about_request(told)
            return Refusal("unknown_model", "the model's server does not have this model")
        case 408 | 502 | 503 | 504 | 529:
            return Refusal("unavailable", "the model's server is overloaded or not available")
        case 413:
            return Refusal(
                "refused", _said(told, "the request is too large for the model's server"), "request_too_large"
            )
        case 429:
            return Refusal("throttled", "the model's server limits its rate")
    if 400 <= status < 500:
        return _about_request(told)
    if status >= 500:
        return Refusal("failed", "the model's server failed")
    return Refusal("malformed", f"the model's server answered with status {status}")


def _by_words(told: _Told) -> Refusal | None:
    if "context_length_exceeded" in told.words or "exceed_context_size" in told.words or _TOO_LONG.search(told.message):
        message = _said(told, "the prompt is longer than the model's context")
        return Refusal("too_long", message, "context_length_exceeded", told.param)
    if _POLICY.search(f"{told.words} {told.message}"):
        return _policy(told)
    return None


def _policy(told: _Told) -> Refusal:
    message = _said(told, "the prompt was refused by a content policy")
    return Refusal("refused", message, "content_policy", told.param)


def _about_request(told: _Told) -> Refusal:
    return Refusal("refused", _said(told, "the model's server refused the request"), "invalid_request", told.param)


def _said(told: _Told, otherwise: str) -> str:
    return safe_message(told.message) or otherwise
