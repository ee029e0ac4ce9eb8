"""OpenAI's embeddings: the client's side. Vectors go out as numbers, or as base64 of little-endian 32-bit floats."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from struct import pack
from typing import ClassVar

import msgspec

from open_autoglm.dialects.canonical import Event, InferRequest, Kind
from open_autoglm.dialects.face import Failover, RequestView
from open_autoglm.dialects.gathering import Gathering, Tally
from open_autoglm.dialects.openai_reader import OpenAIReader
from open_autoglm.dialects.openai_view import EmbeddingView, OpenAIErrors

_reader = OpenAIReader(EmbeddingView, "embedding")


class EmbeddingsFace(OpenAIErrors):
    """`POST /v1/embeddings`; see `Face`."""

    __slots__ = ()
    name: ClassVar[str] = "embeddings"
    kind: ClassVar[Kind] = "embedding"

    def read(self, body: bytes) -> RequestView:
        """See `Face.read`."""
        return _reader.read(body)

    def infer(self, body: bytes, view: RequestView) -> InferRequest:
        """See `Face.infer`."""
        return _reader.infer(body)

    def encoder(self, view: RequestView, request_id: str, model: str, created_s: int) -> EmbeddingsEncoder:
        """See `Face.encoder`."""
        return EmbeddingsEncoder(view, model)


class EmbeddingsEncoder:
    """Writes one answer with embeddings; see `AnswerEncoder`. Embeddings are never streamed."""

    __slots__ = ("_model", "_view")

    def __init__(self, view: RequestView, model: str) -> None:
        self._view = view
        self._model = model

    def stream(self, events: Sequence[Event]) -> bytes:
        """Nothing: there is no stream of embeddings."""
        return b""

    def end(self) -> bytes:
        """Nothing: there is no stream of embeddings."""
        return b""

    def failed_over(self, failover: Failover) -> None:
        """Nothing: there is no stream of embeddings."""

    def whole(self, events: Sequence[Event]) -> bytes:
        """See `AnswerEncoder.whole`."""
        gathering = Gathering(events)
        tally = Tally()
        tally.add(events)
        packed = isinstance(self._view, EmbeddingView) and self._view.encoding_format == "base64"
        usage = tally.usage_or_estimate(self._view.prompt_bytes)
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": packed_vector(vector) if packed else vector}
                    for index, vector in sorted(gathering.vectors.items())
                ],
                "model": self._model,
                "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
            }
        )


def packed_vector(vector: list[float]) -> str:
    """Base64 of the vector as little-endian 32-bit floats.

    Raises:
        OverflowError: a value does not fit into 32 bits.
    """
    return b2a_base64(pack(f"<{len(vector)}f", *vector), newline=False).decode("ascii")
