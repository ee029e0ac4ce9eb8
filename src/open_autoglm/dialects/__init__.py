"""What each model API says on the wire, and translation between them. Pure.

A *face* is the client's side of a route, an *upstream dialect* the side of a model's server, a *relay* takes one answer
from the one to the other. Where both sides speak the same dialect, bytes go on as they came once they have been read.
"""

from open_autoglm.dialects.canonical import (
    Embedding,
    Event,
    Finish,
    InferRequest,
    Kind,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCallDelta,
    Usage,
    estimate_tokens,
)
from open_autoglm.dialects.chat import ChatFace
from open_autoglm.dialects.completions import CompletionsFace
from open_autoglm.dialects.embedded import embedded_messages, embedded_supports
from open_autoglm.dialects.embeddings import EmbeddingsFace
from open_autoglm.dialects.face import AnswerEncoder, Face, RequestView, passes
from open_autoglm.dialects.generate import GenerateDialect
from open_autoglm.dialects.mcp import McpFace
from open_autoglm.dialects.openai import OpenAIDialect
from open_autoglm.dialects.openai_relay import OpenAIRelay
from open_autoglm.dialects.refusal import Refusal
from open_autoglm.dialects.relay import EventRelay, Relay, RelayFailure, TranslatingRelay, open_relay
from open_autoglm.dialects.splice import splice_request
from open_autoglm.dialects.upstream import Decoder, DialectName, UpstreamDialect

__all__ = [
    "AnswerEncoder",
    "ChatFace",
    "CompletionsFace",
    "Decoder",
    "DialectName",
    "Embedding",
    "EmbeddingsFace",
    "Event",
    "EventRelay",
    "Face",
    "Finish",
    "GenerateDialect",
    "InferRequest",
    "Kind",
    "McpFace",
    "OpenAIDialect",
    "OpenAIRelay",
    "ReasoningDelta",
    "Refusal",
    "Relay",
    "RelayFailure",
    "RequestView",
    "TextDelta",
    "TokenScore",
    "ToolCallDelta",
    "TranslatingRelay",
    "UpstreamDialect",
    "Usage",
    "embedded_messages",
    "embedded_supports",
    "estimate_tokens",
    "open_relay",
    "passes",
    "splice_request",
]
