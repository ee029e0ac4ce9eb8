"""The body of an INFER_REQUEST, in the connection's codec, as a request to an engine.

Most bodies are read in one step into a structure; what that refuses is looked at field by field, so that a field that
changes nothing is passed over, and one that an engine cannot honour is named.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from open_autoglm.engines.events import GenerateRequest
from open_autoglm.errors import RequestError
from open_autoglm.protocol.codecs import CODECS

MESSAGES_MAX: Final = 4096
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True, False),
    "logit_bias": ({},),
}
"""Parameters that no engine has, by the values that ask for nothing."""
_PASSED_OVER: Final = frozenset(("user", "metadata", "store", "service_tier", "stream_options", "usage_estimated"))


class _Body(Struct, forbid_unknown_fields=True):
    prompt: str | None = None
    data_chunk: str | None = None
    messages: list[dict[str, Any]] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    max_completion_tokens: int | None = None
    tool_choice: Literal["auto", "none"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[_Body] | msgspec.json.Decoder[_Body]]] = {
    "msgpack": msgspec.msgpack.Decoder(_Body),
    "json": msgspec.json.Decoder(_Body),
}


class BodyReader:
    """Reads the bodies of one connection.

    Args:
        codec: of the connection, by name.
    """

    __slots__ = ("_codec", "_decode")

    def __init__(self, codec: str) -> None:
        self._codec = CODECS[codec]
        decoder = _DECODERS.get(codec)
        self._decode = decoder.decode if decoder is not None else self._read_slowly

    def read(self, data: bytes, deadline_s: float | None, stream: bool, salt: str) -> GenerateRequest:
        """Read a body.

        Args:
            data: of the body alone.
            deadline_s: monotonic seconds, or None.
            stream: whether the answer goes out in chunks.
            salt: see `GenerateRequest`.

        Raises:
            AutoGLMError: `invalid_request` or `unsupported_parameter`, with the field.
        """
        try:
            body = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            body = self._read_slowly(data)
        messages = body.messages
        prompt = body.prompt if body.data_chunk is None else body.data_chunk
        if messages is None:
            if prompt is None or (body.data_chunk is not None and body.prompt is not None):
                raise _one_prompt()
            messages = [{"role": "user", "content": prompt}]
        elif prompt is not None:
            raise _one_prompt()
        elif not 1 <= len(messages) <= MESSAGES_MAX:
            message = f"{len(messages)} messages; send 1 to {MESSAGES_MAX}"
            raise RequestError("invalid_request", message, param="messages")
        stop = body.stop
        return GenerateRequest(
            messages,
            None if body.tool_choice == "none" else body.tools,
            body.max_tokens if body.max_tokens is not None else body.max_completion_tokens,
            body.temperature or 0.0,
            1.0 if body.top_p is None else body.top_p,
            body.seed,
            () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
            deadline_s,
            stream,
            salt,
            _top_logprobs(body),
        )

    def _read_slowly(self, data: bytes) -> _Body:
        fields = self._codec.decode(data)
        kept = {}
        for name, value in fields.items():
            if name in _Body.__struct_fields__ and name != "tool_choice":
                kept[name] = value
            elif value is None or name in _PASSED_OVER:
                continue
            elif name not in _NEUTRAL or value not in _NEUTRAL[name]:
                raise RequestError("unsupported_parameter", f"this node's engines know no {name[:80]}", param=name[:80])
            elif name == "tool_choice":
                kept[name] = value
        try:
            return msgspec.convert(kept, _Body)
        except msgspec.ValidationError as error:
            raise RequestError("invalid_request", f"the body cannot be read: {error}") from error


def _top_logprobs(body: _Body) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise RequestError("invalid_request", "top_logprobs needs logprobs: true", param="top_logprobs")
    return None


def _one_prompt() -> RequestError:
    return RequestError("invalid_request", "send one of prompt, data_chunk and messages", param="prompt")
