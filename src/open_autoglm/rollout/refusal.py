"""Why an update is refused: one exception, with a stable word for logs, metrics and the wire.

| reason | what was wrong |
|---|---|
| `manifest` | it cannot be read, contradicts itself, or names what it does not hold |
| `signature` | it is not signed by the cluster's key |
| `parent` | the version that it changes is not the one that is here |
| `chunk` | a piece is not what was announced, again and again |
| `hash` | the whole is not what the manifest says |
| `format` | no safetensors file, tensors of other shape than the engine's, or a configuration that it cannot use |
| `not_finite` | a weight is NaN or infinite |
| `golden` | a golden prompt is answered otherwise than the manifest says |
| `drift` | it answers too differently from the version that serves |
| `storage` | the disk is full or fails |
| `memory` | there is no room for two versions at once |
| `busy` | another update is on its way, or two versions live already |
| `unknown` | there is no such model, version or update here |
"""

from __future__ import annotations

from typing import Final, Literal

from open_autoglm.errors import RequestError

Reason = Literal[
    "manifest", "signature", "parent", "chunk", "hash", "format",
    "not_finite", "golden", "drift", "storage", "memory", "busy", "unknown",
]  # fmt: skip

CODES: Final[dict[str, str]] = {
    "signature": "invalid_signature",
    "parent": "conflict",
    "storage": "storage_full",
    "memory": "overloaded",
    "busy": "conflict",
    "unknown": "not_found",
}


class UpdateRefused(RequestError):
    """An update that is not taken; what serves is untouched.

    Args:
        reason: see the module.
        message: what is wrong, with the value.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(CODES.get(reason, "invalid_request"), message)
        self.reason = reason
