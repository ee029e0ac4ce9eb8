"""Codecs of bodies: one set of values (those of JSON), three ways to write them.

Invariant: what a codec has decoded is a dictionary with texts as keys, no deeper than 64, of at most 100,000 values,
all of them None, bool, int, finite float, str, list or dict; anything else is a `ProtocolError`. Sizes are bounded
before: a message is at most `message_bytes_max`. HELLO and WELCOME are JSON whatever was agreed on.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from typing import Any, Final, Protocol

import msgspec

from open_autoglm.protocol.errors import ProtocolError

DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000

Body = dict[str, Any]


class Codec(Protocol):
    """Writes and reads bodies."""

    @property
    def name(self) -> str:
        """As HELLO and WELCOME say it."""

    def encode(self, body: Body) -> bytes:
        """Bytes of a body.

        Raises:
            ProtocolError: `invalid_request`: it holds a value that this codec has no form for.
        """

    def decode(self, data: bytes) -> Body:
        """The body that some bytes are; no bytes are an empty body.

        Raises:
            ProtocolError: `invalid_request`: they are none, or break a limit of this module.
        """


def _no_extension(number: int, data: memoryview) -> Any:
    raise ValueError(f"extension type {number}: none is taken")


class JsonCodec:
    """RFC 8259, UTF-8."""

    __slots__ = ("_decoder", "_encoder")
    name: Final = "json"

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Body)

    def encode(self, body: Body) -> bytes:
        """See `Codec.encode`."""
        try:
            return self._encoder.encode(body)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _unwritable(self.name, error) from error

    def decode(self, data: bytes) -> Body:
        """See `Codec.decode`."""
        if not data:
            return {}
        try:
            body = self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(self.name, error) from error
        if len(data) > 2 * DEPTH_MAX:  # what is shorter can be neither too deep nor too many
            check_body(body)
        return body


class MsgpackCodec:
    """MessagePack without extension types and without binary; maps have texts as keys."""

    __slots__ = ("_decoder", "_encoder")
    name: Final = "msgpack"

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Body, ext_hook=_no_extension)

    def encode(self, body: Body) -> bytes:
        """See `Codec.encode`."""
        try:
            return self._encoder.encode(body)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _unwritable(self.name, error) from error

    def decode(self, data: bytes) -> Body:
        """See `Codec.decode`."""
        if not data:
            return {}
        try:
            body = self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, RecursionError) as error:
            raise _unreadable(self.name, error) from error
        check_body(body)
        return body


class ProtobufCodec:
    """`Body` of proto/mcp.proto; needs the package `protobuf`, which is loaded when it is first used."""

    __slots__ = ("_module",)
    name: Final = "protobuf"

    def __init__(self) -> None:
        self._module: Any = None

    def encode(self, body: Body) -> bytes:
        """See `Codec.encode`."""
        encoded: bytes = self._loaded().encode_body(body)
        return encoded

    def decode(self, data: bytes) -> Body:
        """See `Codec.decode`."""
        body: Body = self._loaded().decode_body(data)
        return body

    def _loaded(self) -> Any:
        if self._module is None:
            self._module = import_module("open_autoglm.protocol.protobuf_body")
        return self._module


CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in (MsgpackCodec(), JsonCodec(), ProtobufCodec())}
"""Every codec by its name, the one that we prefer first."""
JSON: Final = CODECS["json"]


def available_codecs() -> tuple[str, ...]:
    """Names of the codecs that can be used here: `protobuf` needs a package that is not always installed."""
    try:
        has_protobuf = find_spec("google.protobuf") is not None
    except ModuleNotFoundError:
        has_protobuf = False
    return tuple(name for name in CODECS if name != "protobuf" or has_protobuf)


def check_body(body: Body) -> None:
    """Hold a decoded body to the limits of this module.

    Raises:
        ProtocolError: `invalid_request`.
    """
    level: list[Any] = [body]
    count = 0
    for _ in range(DEPTH_MAX):
        deeper: list[Any] = []
        for container in level:
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        raise ProtocolError("invalid_request", f"a key of type {type(key).__name__}: keys are texts")
                values = container.values()
            else:
                values = container
            count += len(values)
            if count > VALUES_MAX:
                raise ProtocolError("invalid_request", f"a body of more than {VALUES_MAX} values")
            for value in values:
                kind = type(value)
                if kind is dict or kind is list:
                    deeper.append(value)
                elif kind not in _SCALARS or (kind is float and not isfinite(value)):
                    raise ProtocolError("invalid_request", f"a value of type {kind.__name__}: values are those of JSON")
        if not deeper:
            return
        level = deeper
    raise ProtocolError("invalid_request", f"a body deeper than {DEPTH_MAX}")


_SCALARS: Final = frozenset((str, int, float, bool, type(None)))


def _unreadable(name: str, error: Exception) -> ProtocolError:
    return ProtocolError("invalid_request", f"the body is not {name}: {error}")


def _unwritable(name: str, error: Exception) -> ProtocolError:
    return ProtocolError("invalid_request", f"the body cannot be written as {name}: {error}")
