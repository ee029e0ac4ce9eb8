"""What keeps related requests on one endpoint: a 64-bit number from the client's address, session or prompt."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

from open_autoglm.gateway.call import Call


def affinity_of(kind: Literal["client", "session"], call: Call, headers: dict[str, bytes]) -> int:
    """Hash what identifies the client (`client`), or the conversation (`session`).

    A session id, given in the header or the body, comes first; without one the beginning of the prompt stands for
    the conversation, so that its later turns meet the same prefix cache.
    """
    if kind == "client":
        source = call.record.client
    else:
        source = headers.get("x-mcp-session", b"").decode("latin-1") or call.view.session or call.view.affinity_text
    if not source:
        return 0
    return int.from_bytes(blake2b(source.encode("utf-8", "surrogateescape"), digest_size=8).digest()) or 1
