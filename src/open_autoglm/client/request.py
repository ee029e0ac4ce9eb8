"""What a request says: preambles and bodies of INFER_REQUEST.

Invariant: what belongs to the frame (model, session, priority, trace, time) is never in the body, and everything else
that the caller said is, by the names of a chat completion.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypedDict, cast

from open_autoglm.errors import RequestError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE
from open_autoglm.protocol.preambles import PRIORITY_OF_KEY, TRACE_AT, TRACE_BYTES, write_request

_HEADS_MAX: Final = 1024
_PREFIX_BYTES: Final = 8
_COUNTER_BYTES: Final = TRACE_BYTES - _PREFIX_BYTES


class Options(TypedDict, total=False):
    """What may be said of a request beside its model and its prompt. What is not here is sent as it is.

    Attributes:
        messages: a conversation, as OpenAI writes it, instead of a prompt.
        session: id of the session that the request belongs to, at most 255 bytes.
        timeout_s: until the whole answer must be there, in seconds; the client's own limit when left out.
        priority: 0 (highest) to 3; the key's own when left out.
        trace_id: 32 hexadecimal digits; made here when left out.
        retry: False sends it to one endpoint once.
        resumable: whether the answer may be gone on with over another connection when this one is lost. Streams are,
            unless this is False; single answers are not, unless it is True.
        temperature, top_p, max_tokens, stop, seed, tools, tool_choice, response_format: as of a chat completion.
    """

    messages: list[dict[str, Any]]
    session: str
    timeout_s: float
    priority: int
    trace_id: str
    retry: bool
    resumable: bool
    temperature: float
    top_p: float
    max_tokens: int
    stop: str | list[str]
    seed: int
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    response_format: dict[str, Any]


class RequestWriter:
    """Writes the payloads of one client's requests.

    Args:
        codec: of bodies.
        timeout_s: for requests that say none.
        random_bytes: makes so many bytes that nobody else makes.
    """

    __slots__ = ("_encode", "_heads", "_next_trace", "_prefix", "_timeout_s")

    def __init__(self, codec: Codec, timeout_s: float, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._encode = codec.encode
        self._timeout_s = timeout_s
        self._prefix = random_bytes(_PREFIX_BYTES)
        self._next_trace = 0
        self._heads: dict[tuple[str, str, int], tuple[bytes, bytes]] = {}

    def write(
        self, model: str, prompt: str | None, options: Options, *, resumable: bool
    ) -> tuple[bytes, bytes, int, float]:
        """Payload, trace id, flags and the time that the request has, in seconds.

        Args:
            model: empty leaves the choice to the server.
            prompt: None where `options` have messages.
            options: used up.
            resumable: for options that do not say it.

        Raises:
            RequestError: `invalid_request`: there is not one of prompt and messages, or a value is out of its range.
            ProtocolError: `invalid_request`: a name is too long, or a value has no form on the wire.
        """
        said = cast(dict[str, Any], options)
        flags = 0
        timeout_s = self._timeout_s
        session, priority, given_trace = "", PRIORITY_OF_KEY, None
        if said:
            session = said.pop("session", "")
            priority = said.pop("priority", PRIORITY_OF_KEY)
            timeout_s = said.pop("timeout_s", None) or timeout_s
            given_trace = said.pop("trace_id", None)
            resumable = said.pop("resumable", resumable)
            if not said.pop("retry", True):
                flags = NO_RETRY
        if (prompt is None) is ("messages" not in said):
            raise RequestError("invalid_request", "give a prompt or messages, one of the two", param="prompt")
        if prompt is not None:
            said["prompt"] = prompt
        if resumable:
            flags |= RESUMABLE
        if given_trace is None:
            self._next_trace += 1
            trace = self._prefix + self._next_trace.to_bytes(_COUNTER_BYTES, "big")
        else:
            trace = _read_trace(given_trace)
        head, names = self._heads.get((model, session, priority)) or self._head(model, session, priority)
        return head + trace + names + self._encode(said), trace, flags, timeout_s

    def _head(self, model: str, session: str, priority: int) -> tuple[bytes, bytes]:
        """What stands before and behind the trace id."""
        preamble = write_request(model, session, priority)
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        head = self._heads[model, session, priority] = (preamble[:TRACE_AT], preamble[TRACE_AT + TRACE_BYTES :])
        return head


def _read_trace(text: str) -> bytes:
    try:
        trace = bytes.fromhex(text)
    except ValueError:
        trace = b""
    if len(trace) != TRACE_BYTES or not any(trace):
        raise RequestError("invalid_request", f"trace_id {text!r}: 32 hexadecimal digits, not all 0", param="trace_id")
    return trace
