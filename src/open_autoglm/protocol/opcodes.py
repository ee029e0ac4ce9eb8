"""Numbers of the frame layer: what a frame is, and the bits that say how to take it.

A number never changes its meaning. What no version has given a meaning is refused on stream 0 and answered with ERROR
on any other stream, so that a later version may add opcodes.
"""

from __future__ import annotations

from typing import Final

HELLO: Final = 1
WELCOME: Final = 2
PING: Final = 3
PONG: Final = 4
WINDOW: Final = 5
DRAIN: Final = 6
RESUME: Final = 7
GOODBYE: Final = 8
MESSAGE: Final = 9
INFER_REQUEST: Final = 10
INFER_RESPONSE: Final = 11
INFER_CHUNK: Final = 12
CANCEL: Final = 13
ERROR: Final = 14
TICKET_REQUEST: Final = 15
TICKET: Final = 16
USAGE_REPORT: Final = 17
USAGE_ACK: Final = 18
TENSOR: Final = 19
LOAD: Final = 20
CHALLENGE: Final = 21
PROOF: Final = 22
UPDATE_BEGIN: Final = 32
UPDATE_CHUNK: Final = 33
UPDATE_STATE: Final = 34
UPDATE_COMMIT: Final = 35
UPDATE_ABORT: Final = 36
UPDATE_RESULT: Final = 37
NODE_COMMAND: Final = 40
NODE_RESULT: Final = 41

NAMES: Final[dict[int, str]] = {number: name for name, number in list(globals().items()) if type(number) is int}
"""Opcode to name, for messages and logs."""

STREAM: Final = 0x01
"""Of a request: answer in chunks."""
MORE: Final = 0x02
"""This message goes on in the next frame of this stream and opcode."""
RESUMABLE: Final = 0x04
"""Of a request: the answer may be gone on with over another connection."""
NO_RETRY: Final = 0x08
"""Of a request: send it to one endpoint once."""
REASONING: Final = 0x10
"""Of a chunk: thinking, not the answer."""
RETRYABLE: Final = 0x20
"""Of an error: the same request may succeed when it is sent again."""
LAST: Final = 0x40
"""Nothing follows on this stream from this side."""
TENSORS: Final = 0x80
"""Of a request or a response: tensors of this message came before it."""

FLAG_NAMES: Final[dict[int, str]] = {
    STREAM: "STREAM",
    MORE: "MORE",
    RESUMABLE: "RESUMABLE",
    NO_RETRY: "NO_RETRY",
    REASONING: "REASONING",
    RETRYABLE: "RETRYABLE",
    LAST: "LAST",
    TENSORS: "TENSORS",
}
