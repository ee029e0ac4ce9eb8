"""The endpoint's side: writing requests to a model's server, reading its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

from open_autoglm.dialects.canonical import Event, InferRequest, Kind
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.splice import splice_request

__all__ = ["Decoder", "DialectName", "UpstreamDialect", "splice_request"]

DialectName = Literal["openai", "generate"]
"""Dialects that are spoken over HTTP."""


class Decoder(Protocol):
    """Reads one answer as events. Use either `feed` and `end`, or `whole`. Never raises on what it reads.

    Attributes:
        failure: why the answer is none, when it is none.
    """

    failure: Refusal | None

    def feed(self, payload: bytes) -> Sequence[Event]:
        """The events that these bytes complete."""

    def end(self) -> Sequence[Event]:
        """The last events; the answer has ended cleanly. Sets `failure` when it is not complete."""

    def whole(self, body: bytes, content_type: str) -> Sequence[Event]:
        """The events of a unary answer."""


class UpstreamDialect(Protocol):
    """What an endpoint speaks."""

    name: ClassVar[DialectName]

    def path(self, kind: Kind) -> str:
        """Appended to the endpoint's path."""

    def encode(self, request: InferRequest, upstream_model: str, *, want_usage: bool = True) -> bytes:
        """Write a request, whose usage is asked for if it is streamed, unless `want_usage` is False.

        Raises:
            RequestError: `unsupported_parameter`, with the field of the client that cannot be expressed.
        """

    def decoder(self, streamed: bool, request: InferRequest | None = None) -> Decoder:
        """A decoder for one answer; `request` is what was sent."""

    def classify(self, status: int, content_type: str, body: bytes) -> Refusal:
        """Say what kind of refusal an answer with a status other than 200 is."""
