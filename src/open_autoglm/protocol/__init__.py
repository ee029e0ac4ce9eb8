"""MCP 1.0 on the wire: frames, what is in them, and the state of a connection. Pure.

`docs/protocol.md` says the same for whoever writes a client. Server and client are two roles of one machine
(`connection`), driven by a shell that owns the socket and the clock.
"""

from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.codecs import CODECS, Codec
from open_autoglm.protocol.connection import Connection
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.frames import HEADER, HEADER_BYTES, PREFACE, FrameReader, encode_frame
from open_autoglm.protocol.handshake import Credentials, Hello, Welcome
from open_autoglm.protocol.resume import ResumeStore
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.protocol.sinks import ClientSink, ServerSink
from open_autoglm.protocol.wire_error import WireError, read_error, write_error

__all__ = [
    "CODECS",
    "HEADER",
    "HEADER_BYTES",
    "PREFACE",
    "ClientConnection",
    "ClientSink",
    "Codec",
    "Connection",
    "ConnectionSettings",
    "Credentials",
    "FrameReader",
    "Hello",
    "ProtocolError",
    "ResumeStore",
    "ServerConnection",
    "ServerSink",
    "Welcome",
    "WireError",
    "encode_frame",
    "read_error",
    "write_error",
]
