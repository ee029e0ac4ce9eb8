"""Answers that need no model: lists of models, health, errors."""

from __future__ import annotations

import math

import msgspec

from open_autoglm.clock import iso_utc
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.snapshot import Listing

_RETRY_AFTER_MAX_S = 86_400.0


def error_headers(error: AutoGLMError, record: RequestRecord, allow: str = "") -> str:
    """Header lines that go with an error.

    Args:
        error: what is answered.
        record: of the request.
        allow: methods that the route takes, where that is what was wrong.
    """
    lines = f"x-request-id: {record.request_id}\r\n"
    if record.attempts:
        lines += f"x-mcp-attempts: {len(record.attempts)}\r\n"
    if error.retry_after_s is not None:
        lines += f"retry-after: {max(1, math.ceil(min(error.retry_after_s, _RETRY_AFTER_MAX_S)))}\r\n"
    if error.http_status == 401:
        lines += "www-authenticate: Bearer\r\n"
    if allow:
        lines += f"allow: {allow}\r\n"
    return f"{lines}x-should-retry: {'true' if error.retryable else 'false'}\r\n"


def models_list(listings: list[Listing], anthropic: bool) -> bytes:
    """The list of models in OpenAI's form, or Anthropic's."""
    if not anthropic:
        return msgspec.json.encode({"object": "list", "data": [_openai(listing) for listing in listings]})
    data = [_anthropic(listing) for listing in listings]
    first = listings[0].name if listings else None
    last = listings[-1].name if listings else None
    return msgspec.json.encode({"data": data, "has_more": False, "first_id": first, "last_id": last})


def model_card(listing: Listing, anthropic: bool) -> bytes:
    """One model in OpenAI's form, or Anthropic's."""
    return msgspec.json.encode(_anthropic(listing) if anthropic else _openai(listing))


def _openai(listing: Listing) -> dict[str, object]:
    card: dict[str, object] = {
        "id": listing.name,
        "object": "model",
        "created": listing.created_s,
        "owned_by": listing.owner,
    }
    if listing.context_window:
        card["context_window"] = listing.context_window
    return card


def _anthropic(listing: Listing) -> dict[str, object]:
    created = iso_utc(listing.created_s)
    return {"id": listing.name, "type": "model", "display_name": listing.name, "created_at": created}
