"""HELLO and WELCOME: what is offered, what is chosen, and the limits that hold from then on.

Both are JSON, because nothing has been agreed on yet. Fields that are not known are passed over, so that a later minor
version may add some. The client chooses the order, the server the first of it that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, structs

from open_autoglm.protocol.errors import ProtocolError

VERSIONS: Final = ("1.0",)
SIGNATURE_ALGORITHM: Final = "hmac-sha256"
HELLO_BYTES_MAX: Final = 64 * 1024
"""Nothing longer is read from somebody who has not said who they are."""
FRAME_BYTES_MAX: Final = 1 << 20
FRAME_BYTES_LEAST: Final = 64 * 1024
FRAME_BYTES_MOST: Final = 16 << 20
MESSAGE_BYTES_MAX: Final = 32 << 20
MESSAGE_BYTES_MOST: Final = 1 << 30
"""No server may say more in its WELCOME."""
REQUESTS_MAX: Final = 1024
HEARTBEAT_MS: Final = 15_000
WINDOW_BYTES: Final = 256 * 1024
WINDOW_BYTES_LEAST: Final = 64 * 1024
WINDOW_BYTES_MOST: Final = 2**31 - 1
"""No stream's credit is ever larger."""

_Text = Annotated[str, Meta(max_length=256)]
_Texts = Annotated[list[_Text], Meta(min_length=1, max_length=16)]
_Token = Annotated[str, Meta(max_length=16 * 1024)]
_KeyId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{32,128}$")]
_Window = Annotated[int, Meta(ge=WINDOW_BYTES_LEAST, le=WINDOW_BYTES_MOST)]


class Signature(Struct, frozen=True, omit_defaults=True):
    """That the client will prove that it knows a key, instead of showing it; see `docs/protocol.md`, "Signatures".

    Attributes:
        key: id of the key, 32 hexadecimal digits.
        nonce: 16 to 64 random bytes of the client, as hexadecimal digits; others on each connection.
        algorithm: of the proofs.
    """

    key: _KeyId
    nonce: _Nonce
    algorithm: _Text = SIGNATURE_ALGORITHM


class Credentials(Struct, frozen=True, omit_defaults=True, repr_omit_defaults=True):
    """Who the client says that it is: one of the three, or none where the transport has said it or nobody asks.

    Attributes:
        key: an API key.
        ticket: see `docs/protocol.md`, "Tickets".
        signature: see `Signature`.
    """

    key: _Token | None = None
    ticket: _Token | None = None
    signature: Signature | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.kind or 'none'})"

    @property
    def kind(self) -> str:
        """`key`, `ticket`, `signature` or empty."""
        return next((name for name in self.__struct_fields__ if getattr(self, name) is not None), "")


class Hello(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a client offers.

    Attributes:
        versions: of the protocol, the best first.
        codecs: the best first.
        auth: who it is.
        window: bytes of chunks that it takes on a stream before it has given more credit.
        agent: name and version of the program, for logs.
        relays: whether it is a server, which asks what others have asked it.
        resume: the resume token of the connection that this one replaces; None for a first one.
    """

    versions: _Texts
    codecs: _Texts
    auth: Credentials = Credentials()
    window: _Window = WINDOW_BYTES
    agent: _Text = ""
    relays: bool = False
    resume: _Text | None = None


class Welcome(Struct, frozen=True, kw_only=True):
    """What the server has chosen, and what holds on this connection in both directions.

    Attributes:
        version, codec: one of those that were offered.
        connection: id of this connection, for logs and support.
        resume: token by which streams of this connection can be gone on with; empty where nothing is kept.
        frame_bytes_max: longest payload of a frame.
        message_bytes_max: longest message, all its fragments together.
        requests_max: streams that may be open at once.
        heartbeat_ms: silence after which a side asks whether the other is there.
        window: bytes of chunks that the server takes on a stream before it has given more credit.
    """

    version: _Text
    codec: _Text
    connection: _Text = ""
    resume: _Text = ""
    frame_bytes_max: Annotated[int, Meta(ge=FRAME_BYTES_LEAST, le=FRAME_BYTES_MOST)] = FRAME_BYTES_MAX
    message_bytes_max: Annotated[int, Meta(ge=FRAME_BYTES_LEAST, le=MESSAGE_BYTES_MOST)] = MESSAGE_BYTES_MAX
    requests_max: Annotated[int, Meta(ge=1, le=1_000_000)] = REQUESTS_MAX
    heartbeat_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = HEARTBEAT_MS
    window: _Window = WINDOW_BYTES


_IN_COMMON_MAX: Final = 64
_in_common: dict[Welcome, Welcome] = {}
_hellos = msgspec.json.Decoder(Hello)
_welcomes = msgspec.json.Decoder(Welcome)
_encode = msgspec.json.Encoder().encode


def signed(hello: Hello, key_id: str, nonce: str) -> Hello:
    """What a client offers that will prove that it knows a key.

    Args:
        hello: but for who it is.
        key_id: of the key.
        nonce: see `Signature`.
    """
    return structs.replace(hello, auth=Credentials(signature=Signature(key_id, nonce)))


def write_hello(hello: Hello) -> bytes:
    """Payload of HELLO."""
    return _encode(hello)


def read_hello(payload: bytes) -> Hello:
    """Read the payload of HELLO.

    Raises:
        ProtocolError: `invalid_request`, with the field; never with a secret.
    """
    try:
        hello = _hellos.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("invalid_request", f"HELLO cannot be read: {error}") from error
    given = [name for name in Credentials.__struct_fields__ if getattr(hello.auth, name) is not None]
    if len(given) > 1:
        raise ProtocolError("invalid_request", f"HELLO has {' and '.join(given)} as auth; send one of them")
    signature = hello.auth.signature
    if signature is not None and signature.algorithm != SIGNATURE_ALGORITHM:
        raise ProtocolError(
            "not_implemented", f"signatures by {signature.algorithm!r} are not known here: {SIGNATURE_ALGORITHM} is"
        )
    return hello


def write_welcome(welcome: Welcome) -> bytes:
    """Payload of WELCOME."""
    return _encode(welcome)


def in_common(welcome: Welcome) -> Welcome:
    """What many connections were told alike, kept once: the same without what only one of them was told."""
    common = structs.replace(welcome, connection="", resume="")
    if len(_in_common) >= _IN_COMMON_MAX:
        _in_common.clear()
    return _in_common.setdefault(common, common)


def read_welcome(payload: bytes, hello: Hello) -> Welcome:
    """Read the payload of WELCOME, and hold it to what was offered.

    Raises:
        ProtocolError: `invalid_request`: it cannot be read, or chooses what nobody offered.
    """
    try:
        welcome = _welcomes.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("invalid_request", f"WELCOME cannot be read: {error}") from error
    if welcome.version not in hello.versions or welcome.codec not in hello.codecs:
        chosen = f"version {welcome.version!r} and codec {welcome.codec!r}"
        raise ProtocolError("invalid_request", f"WELCOME chooses {chosen}; they were not offered")
    return welcome


def choose(offered: Sequence[str], known: Sequence[str], what: str) -> str:
    """The first of what was offered that is known here.

    Args:
        offered: the best first.
        known: in any order.
        what: `versions` or `codecs`, for the error.

    Raises:
        ProtocolError: `not_implemented`: there is none.
    """
    for name in offered:
        if name in known:
            return name
    raise ProtocolError("not_implemented", f"none of the {what} {list(offered)} is spoken here: {', '.join(known)} are")
