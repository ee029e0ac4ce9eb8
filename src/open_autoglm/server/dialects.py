"""The dialects that this server speaks, by name."""

from __future__ import annotations

from typing import Final

from open_autoglm.dialects.chat import ChatFace
from open_autoglm.dialects.completions import CompletionsFace
from open_autoglm.dialects.embeddings import EmbeddingsFace
from open_autoglm.dialects.face import Face
from open_autoglm.dialects.generate import GenerateDialect
from open_autoglm.dialects.mcp import McpFace
from open_autoglm.dialects.openai import OpenAIDialect
from open_autoglm.dialects.upstream import UpstreamDialect

PLAIN_FACE: Final[Face] = ChatFace()
"""The form of errors on routes that speak no dialect."""

INFER_ROUTES: Final[tuple[tuple[str, Face], ...]] = (
    ("/v1/chat/completions", PLAIN_FACE),
    ("/v1/completions", CompletionsFace()),
    ("/v1/embeddings", EmbeddingsFace()),
    ("/mcp/v1/messages", McpFace()),
)

UPSTREAMS: Final[dict[str, UpstreamDialect]] = {"openai": OpenAIDialect(), "generate": GenerateDialect()}
