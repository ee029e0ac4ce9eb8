"""Answers that need no model: lists of models, health, errors."""

from __future__ import annotations

import math
import random

import msgspec

from open_autoglm.clock import iso_utc
from open_autoglm.errors import AutoGLMError, UpstreamError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.snapshot import Listing
from open_autoglm.resilience.backoff import pushback_s

_RETRY_AFTER_MAX_S = 86_400.0
_RETRY_AFTER_S = 1.0
"""Where nobody knows better."""
_PUSHBACK = (429, 503)


def spread(error: AutoGLMError, rng: random.Random) -> None:
    """Have those who are refused together not come back together: `base + uniform(0, base)` seconds for each.

    To be done once, before the error is put into words. What an upstream has said itself is told as it is.
    """
    if error.http_status in _PUSHBACK and not isinstance(error, UpstreamError):
        error.retry_after_s = pushback_s(rng, _RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s)


def error_headers(error: AutoGLMError, record: RequestRecord, allow: str = "", *, overloaded: bool = False) -> str:
    """Header lines that go with an error. While everybody is refused clients are told not to try again by themselves.

    Args:
        error: what is answered.
        record: of the request.
        allow: methods that the route takes, where that is what was wrong.
        overloaded: whether the whole server has too much to do.
    """
    pushback = error.http_status in _PUSHBACK
    lines = f"x-request-id: {record.request_id}\r\n"
    if record.attempts:
        lines += f"x-mcp-attempts: {len(record.attempts)}\r\n"
    if record.queue_position:
        lines += f"x-mcp-queue-position: {record.queue_position}\r\n"
    wait_s = error.retry_after_s if error.retry_after_s is not None or not pushback else _RETRY_AFTER_S
    if wait_s is not None:
        lines += f"retry-after: {max(1, math.ceil(min(wait_s, _RETRY_AFTER_MAX_S)))}\r\n"
    if error.http_status == 401:
        lines += "www-authenticate: Bearer\r\n"
    if allow:
        lines += f"allow: {allow}\r\n"
    worth_it = error.retryable and not (pushback and overloaded)
    return f"{lines}x-should-retry: {'true' if worth_it else 'false'}\r\n"


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
