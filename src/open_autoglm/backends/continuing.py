"""Streams that may be continued: what an endpoint is sent, before one breaks and after."""

from __future__ import annotations

from open_autoglm.backends.backend import ModelCall
from open_autoglm.dialects.continuation import Delivered
from open_autoglm.dialects.continuing_relay import open_continuing_relay, open_keeping_relay
from open_autoglm.dialects.face import passes
from open_autoglm.dialects.relay import Relay
from open_autoglm.dialects.splice import splice_request
from open_autoglm.dialects.upstream import UpstreamDialect
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.routing.endpoint import Endpoint


def open_continuable(
    attempt: Attempt, call: ModelCall, delivered: Delivered, dialect: UpstreamDialect, want_usage: bool
) -> tuple[Relay, bytes]:
    """The relay and the body for an attempt at a stream: its beginning, or what follows where another one broke.

    Args:
        attempt: before it is sent.
        call: whose.
        delivered: what the client has.
        dialect: of the endpoint.
        want_usage: ask it for the usage.

    Raises:
        RequestError: the endpoint cannot express the request, or cannot go on with it.
    """
    face, view, target = call.face, call.view, attempt.target
    assert target is not None
    model = target.upstream_model or call.model
    if attempt.resumes:
        to = _place(target, attempt)
        continuing, request = open_continuing_relay(delivered, view, dialect, target.continuation, to=to)
        return continuing, dialect.encode(request, model, want_usage=want_usage)
    if passes(face.name, dialect.name):
        body = splice_request(call.body, view, model, want_usage)
        return open_keeping_relay(delivered, face, dialect, view), body
    request = face.infer(call.body, view)
    encoder = face.encoder(view, call.request_id, call.model, call.created_s)
    relay = open_keeping_relay(delivered, face, dialect, view, encoder=encoder, request=request)
    return relay, dialect.encode(request, model, want_usage=want_usage)


def may_continue(attempt: Attempt, call: ModelCall) -> bool:
    """Whether another endpoint may go on where an attempt broke off; asked once, after it was closed."""
    delivered = call.delivered
    endpoints = attempt.leg.group.endpoints
    if delivered is None or not any(_goes_on(endpoint, call) for endpoint in endpoints):
        return False
    try:
        request = call.face.infer(call.body, call.view)
    except AutoGLMError:
        return False  # the server behind us understood it, we do not
    broken = next(endpoint for endpoint in endpoints if endpoint.name == attempt.endpoint)
    record = call.record
    may = delivered.broke(request, _place(broken, attempt), record.prompt_tokens, record.completion_tokens)
    record.usage_estimated = may
    return may


def _goes_on(endpoint: Endpoint, call: ModelCall) -> bool:
    """Whether an endpoint can go on with an answer on this route."""
    match endpoint.continuation:
        case "none":
            return False
        case "prompt":
            return call.face.kind == "completion" or getattr(endpoint.extra, "dialect_name", "") == "generate"
        case _:
            return True


def _place(endpoint: Endpoint, attempt: Attempt) -> str:
    """What clients are told of an endpoint: its place in its group. Its address is nothing for them."""
    return f"{attempt.group}#{attempt.leg.group.endpoints.index(endpoint) + 1}"
