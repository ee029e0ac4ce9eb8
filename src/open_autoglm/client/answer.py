"""What a request comes to, read from INFER_RESPONSE: the preamble has the figures, the body the words."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from open_autoglm.protocol.codecs import CODECS, Codec
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.preambles import read_response


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


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer.

    Attributes:
        text: what the model said.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter`, or empty when nobody says.
        usage: tokens.
        model: that answered, by the name that was asked for unless another one stood in.
        model_version: that computed it; empty when unknown.
        trace_id: 32 hexadecimal digits; `autoglm trace` finds the request by it.
        reasoning: the model's thinking, where it shows it.
        tool_calls: as OpenAI writes them; empty when there are none.
        attempts: endpoints that were asked, 0 when that is not said.
        failover: what was done when a stream broke and another endpoint went on with it; None when none did.
    """

    text: str
    finish_reason: str
    usage: Usage
    model: str
    model_version: str
    trace_id: str
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = msgspec.field(default_factory=list)
    attempts: int = 0
    failover: dict[str, Any] | None = None


class Body(Struct):
    """What the body of a response may say; other fields are passed over, for a later version."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    usage_estimated: bool = False
    x_mcp_failover: dict[str, Any] | None = None


_DECODERS: Final = {"msgpack": msgspec.msgpack.Decoder(Body).decode, "json": msgspec.json.Decoder(Body).decode}
_EMPTY: Final = Body()


def read_answer(payload: bytes, codec: Codec, trace: bytes, text: str = "", reasoning: str = "") -> Answer:
    """Read a response.

    Args:
        payload: preamble and body.
        codec: of the body.
        trace: trace id of the request, 16 bytes.
        text, reasoning: what chunks have brought before.

    Raises:
        ProtocolError: `invalid_request`: it cannot be read.
    """
    preamble = read_response(payload)
    at = preamble.body_at
    body = _read_body(payload[at:], codec) if len(payload) > at else _EMPTY
    return Answer(
        text=text + body.text if text else body.text,
        finish_reason=preamble.finish,
        usage=Usage(preamble.prompt_tokens, preamble.completion_tokens, body.usage_estimated),
        model=preamble.model,
        model_version=preamble.version,
        trace_id=trace.hex(),
        reasoning=reasoning + body.reasoning if reasoning else body.reasoning,
        tool_calls=body.tool_calls or [],
        attempts=preamble.attempts,
        failover=body.x_mcp_failover,
    )


def _read_body(data: bytes, codec: Codec) -> Body:
    decode = _DECODERS.get(codec.name)
    try:
        return decode(data) if decode is not None else msgspec.convert(codec.decode(data), Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("invalid_request", f"the answer's body cannot be read: {error}") from error


def codec_of(name: str) -> Codec:
    """A codec by its name.

    Raises:
        ProtocolError: `not_implemented`: there is none.
    """
    codec = CODECS.get(name)
    if codec is None:
        raise ProtocolError("not_implemented", f"codec {name!r}: {', '.join(CODECS)} are known")
    return codec
