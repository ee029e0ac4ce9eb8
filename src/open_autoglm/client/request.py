"""What a request says: preambles and bodies of INFER_REQUEST.

Invariant: what belongs to the frame (model, session, priority, trace, time) is never in the body, and everything else
that the caller said is, by the names of a chat completion.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, Final, TypedDict

from open_autoglm.errors import RequestError
from open_autoglm.protocol.codecs import Codec
from open_autoglm.protocol.opcodes import NO_RETRY, RESUMABLE
from open_autoglm.protocol.preambles import PRIORITY_OF_KEY, TRACE_AT, TRACE_BYTES, write_request

_HEADS_MAX: Final = 1024
_PREFIX_BYTES: Final = TRACE_BYTES - 8
_pack_number: Final = struct.Struct(">Q").pack
_OF_THE_FRAME: Final = frozenset(("session", "timeout_s", "priority", "trace_id", "retry", "resumable"))
"""Options that are not said in the body."""


class Options(TypedDict, total=False):
    """What may be said of a request beside its model and its prompt. What is not here is sent as it is.

    Attributes:
        messages: a conversation, as OpenAI writes it, instead of a prompt.
        session: id of the session that the request belongs to, at most 255 bytes.
        timeout_s: until the whole answer must be there, in seconds; the client's own limit when left out.
        priority: 0 (given up first) to 3; the key's own when left out.
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


class TensorOptions(TypedDict, total=False):
    """What may be said of a request in tensors; see `Options`."""

    session: str
    timeout_s: float
    priority: int
    trace_id: str
    retry: bool


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
        self._heads: dict[str, tuple[bytes, bytes]] = {}

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
        said: dict[str, Any] = options  # type: ignore[assignment]  # at run time they are one, and may have more
        if _OF_THE_FRAME.isdisjoint(said):
            flags, timeout_s, trace = 0, self._timeout_s, b""
            head, names = self._heads.get(model) or self._head(model)
        else:
            resumable = said.pop("resumable", resumable)
            flags, timeout_s, trace, head, names = self._read_frame(model, said)
        if (prompt is None) is ("messages" not in said):
            raise RequestError("invalid_request", "give a prompt or messages, one of the two", param="prompt")
        if prompt is not None:
            said["prompt"] = prompt
        if resumable:
            flags |= RESUMABLE
        trace = trace or self._new_trace()
        return head + trace + names + self._encode(said), trace, flags, timeout_s

    def write_for_tensors(self, model: str, options: TensorOptions) -> tuple[bytes, bytes, int, float]:
        """The same for a request whose body says nothing; see `write`.

        Raises:
            RequestError, ProtocolError: see `write`; there is an option that means nothing beside tensors.
        """
        said: dict[str, Any] = {**options}
        flags, timeout_s, trace, head, names = self._read_frame(model, said)
        if said:
            name = next(iter(said))
            raise RequestError("invalid_request", f"{name} says nothing about a request in tensors", param=name)
        trace = trace or self._new_trace()
        return head + trace + names + self._encode({}), trace, flags, timeout_s

    def _new_trace(self) -> bytes:
        self._next_trace += 1
        return self._prefix + _pack_number(self._next_trace)

    def _read_frame(self, model: str, said: dict[str, Any]) -> tuple[int, float, bytes, bytes, bytes]:
        """Take what the frame says out of the options: flags, time, trace id or nothing, and what stands around it."""
        flags = 0 if said.pop("retry", True) else NO_RETRY
        timeout_s = said.pop("timeout_s", None) or self._timeout_s
        trace = _read_trace(said.pop("trace_id")) if "trace_id" in said else b""
        session, priority = said.pop("session", ""), said.pop("priority", PRIORITY_OF_KEY)
        return flags, timeout_s, trace, *_split(write_request(model, session, priority))

    def _head(self, model: str) -> tuple[bytes, bytes]:
        """What stands before and behind the trace id of a request that says nothing of itself but its model."""
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        head = self._heads[model] = _split(write_request(model))
        return head


def _split(preamble: bytes) -> tuple[bytes, bytes]:
    return preamble[:TRACE_AT], preamble[TRACE_AT + TRACE_BYTES :]


def _read_trace(text: str) -> bytes:
    try:
        trace = bytes.fromhex(text)
    except ValueError:
        trace = b""
    if len(trace) != TRACE_BYTES or not any(trace):
        raise RequestError("invalid_request", f"trace_id {text!r}: 32 hexadecimal digits, not all 0", param="trace_id")
    return trace
