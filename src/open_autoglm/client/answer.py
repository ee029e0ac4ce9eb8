"""What a request comes to, read from INFER_RESPONSE: the preamble has the figures, the body the words."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.protocol.codecs import CODECS, Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.preambles import FINISHES, RESPONSE_BYTES, read_response


class Usage(Struct, frozen=True, gc=False):
    """Tokens that were counted.

    Attributes:
        prompt_tokens, completion_tokens: of the request and of the answer.
        estimated: nobody counted; it was reckoned from the texts' lengths.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


class Answer(Struct, frozen=True, gc=False):
    """A whole answer.

    Attributes:
        text: what the model said.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter`, or empty when nobody says.
        usage: tokens.
        model: that answered, by the name that was asked for unless another one stood in.
        model_version: that computed it; empty when unknown.
        trace: id that the request had on its way, 16 bytes.
        reasoning: the model's thinking, where it shows it.
        tool_calls: as OpenAI writes them.
        attempts: endpoints that were asked, 0 when that is not said.
        failover: what was done when a stream broke and another endpoint went on with it; None when none did.
    """

    text: str
    finish_reason: str
    usage: Usage
    model: str
    model_version: str
    trace: bytes
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    attempts: int = 0
    failover: dict[str, Any] | None = None

    @property
    def trace_id(self) -> str:
        """`trace` as 32 hexadecimal digits; `autoglm trace` finds the request by it."""
        return self.trace.hex()


class Body(Struct, gc=False):
    """What the body of a response may say; other fields are passed over, for a later version."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    usage_estimated: bool = False
    x_mcp_failover: dict[str, Any] | None = None


_DECODERS: Final = {"msgpack": msgspec.msgpack.Decoder(Body).decode, "json": msgspec.json.Decoder(Body).decode}
_EMPTY: Final = Body()
_NAMES_MAX: Final = 1024
_SIZES_AT: Final = 10
"""Where a response's preamble says how long its names are; they end it."""
_unpack: Final = struct.Struct(">IIBBBB").unpack_from


class AnswerReader:
    """Reads the responses of one client.

    Args:
        codec: of bodies.
    """

    __slots__ = ("_codec", "_decode", "_names")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._decode = _DECODERS.get(codec.name) or self._decode_slowly
        self._names: dict[bytes, tuple[str, str]] = {}

    def read(self, payload: bytes, trace: bytes, text: str = "", reasoning: str = "") -> Answer:
        """Read a response.

        Args:
            payload: preamble and body.
            trace: trace id of the request, 16 bytes.
            text, reasoning: what chunks have brought before.

        Raises:
            ProtocolError: `invalid_request`: it cannot be read.
        """
        if len(payload) < RESPONSE_BYTES:
            read_response(payload)  # raises
        prompt_tokens, completion_tokens, finish, attempts, version_bytes, model_bytes = _unpack(payload)
        at = RESPONSE_BYTES + version_bytes + model_bytes
        names = self._names.get(payload[_SIZES_AT:at]) or self._read_names(payload)
        try:
            body = self._decode(payload[at:]) if len(payload) > at else _EMPTY
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("invalid_request", f"the answer's body cannot be read: {error}") from error
        return Answer(
            text + body.text if text else body.text,
            FINISHES[finish] if finish < len(FINISHES) else "",
            Usage(prompt_tokens, completion_tokens, body.usage_estimated),
            names[1],
            names[0],
            trace,
            reasoning + body.reasoning if reasoning else body.reasoning,
            body.tool_calls,
            attempts,
            body.x_mcp_failover,
        )

    def _read_names(self, payload: bytes) -> tuple[str, str]:
        """Version and model, which are the same in most responses."""
        preamble = read_response(payload)
        if len(self._names) >= _NAMES_MAX:
            self._names.clear()
        names = self._names[payload[_SIZES_AT : preamble.body_at]] = (preamble.version, preamble.model)
        return names

    def _decode_slowly(self, data: bytes) -> Body:
        return msgspec.convert(self._codec.decode(data), Body)


def codec_of(name: str) -> Codec:
    """A codec by its name.

    Raises:
        ProtocolError: `not_implemented`: there is none.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise ProtocolError("not_implemented", f"codec {name!r}: {', '.join(CODECS)} are known")
    return codec
