"""Writes `docs/errors.md` from the tables that the code goes by: `python -m open_autoglm.server.error_reference`.

Invariant: every code of `errors.CODES` is on the page with what it means, and so is every word of
`exchange.outcomes.RULES`; a code that nothing raises yet is listed apart. Tests compare all of it with the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from open_autoglm.errors import CODES
from open_autoglm.exchange import outcomes

PAGE: Final = Path(__file__).parents[3] / "docs" / "errors.md"

MEANINGS: Final[dict[str, str]] = {
    "invalid_request": "the request is malformed, or a field of it has a value that cannot be",
    "context_length_exceeded": "the prompt is longer than every model that may answer it can read",
    "content_policy": "the model's server refused the prompt by its content policy",
    "unsupported_parameter": "the model's server cannot express a field of the request; `param` names it",
    "invalid_api_key": "no API key was sent, or one that is not known here",
    "forbidden": "the admin listener does not answer this host, or this page's origin",
    "model_not_found": "no model of this name, or none that this key may use; the message lists those that it may",
    "invalid_signature": "the manifest of a model's version is not signed by the cluster's key, or a node was shown "
    "what is no ticket for it",
    "token_expired": "a ticket for a node is over, or used up: the server writes another",
    "insufficient_quota": "the budget of a virtual model is too small for one answer",
    "no_quorum": "the members of a virtual model came to no answer, and there is no fallback, or it failed too",
    "not_found": "no such route, or no such object",
    "method_not_allowed": "the route exists, but takes another method",
    "request_timeout": "the request's head or body came too slowly",
    "conflict": "the server's state does not allow it now, as a rollback with no earlier configuration",
    "request_too_large": "the body is larger than `limits.body_bytes`, or than the model's server takes",
    "headers_too_large": "the request line or the headers are larger than `limits.wire` says",
    "rate_limit_exceeded": "the key has reached one of its limits, the address has guessed keys, or the model's server "
    "limits its rate",
    "client_closed": "the client left before the answer was whole; logged only",
    "internal_error": "a defect of the server, or at the start something that it needs and cannot have",
    "not_implemented": "the part of the system that this route belongs to is not in this version",
    "upstream_error": "no endpoint of the model gave an answer; the message says what the last one did",
    "stream_interrupted": "the stream broke after part of it had been sent",
    "overloaded": "too many connections, too many requests for the model, or too much to do for the whole server",
    "no_healthy_endpoint": "every endpoint of the model is resting after failures, or no model is configured",
    "server_draining": "the server is stopping",
    "deadline_exceeded": "the request's time ran out",
    "loop_detected": "servers send the request round in a circle: an `mcp://` endpoint is a server that asks this one, "
    "or this one itself",
    "storage_full": "a node's disk has no room for a version of a model, or a server's for the journal of runs",
}
"""What each code means, for those that something raises."""

RESERVED: Final[dict[str, str]] = {
    "replayed": "signed requests",
    "session_conflict": "sessions",
    "stale_lease": "several servers",
    "idempotency_mismatch": "idempotency keys",
}
"""Codes that nothing raises yet, and the part of the system that will."""

_HEAD: Final = """\
# Errors

<!-- Written by `python -m open_autoglm.server.error_reference`; change the code, not the page. -->

What to do about each of them is in [troubleshooting](troubleshooting.md).

Every error carries one of the codes below. They are the same on the wire, in the log (`code`), in the metric
`mcp_requests_total{code}` and in `autoglm requests --code CODE`. They never change; the messages beside them may.

Every answer has the header `x-request-id`; `autoglm trace ID` shows what happened to that request. Where it is known
when another try makes sense, the answer has `retry-after`, in seconds.

## What an error looks like

On `/v1/…`, and on routes that do not exist:

```json
{"error": {"message": "no model 'chatt' here; this key may use: chat", "type": "invalid_request_error",
           "code": "model_not_found", "param": "model", "request_id": "req-55e32a98a5e0eb7e00000003"}}
```

On `/mcp/v1/messages`, in the form of the request (here `opcode`; `"type": "ERROR"` in the other form). What is refused
before its body is read (a key that is not known, a limit that is reached) has both `type` and `opcode`:

```json
{"opcode": 14, "payload": {"code": "model_not_found", "message": "no model 'chatt' here; this key may use: chat",
                           "retryable": false, "retry_after_ms": null, "param": "model",
                           "request_id": "req-55e32a98a5e0eb7e00001d22"}}
```

A stream that breaks after its first content has begun with status 200. It ends with an event that holds the same
object, `data: {"error": {…}}` (an `ERROR` message on `/mcp/v1/messages`), and no `data: [DONE]`. A client that sees
neither `[DONE]` nor a finish reason has not got the whole answer.

## Codes

*Again*: whether the same request may succeed when it is sent again later.

"""

_RESERVED: Final = """\

## Codes of parts that are not in this version

Nothing sends them yet: """

_OUTCOMES: Final = """\


## What becomes of one attempt

A request may take several attempts, each at one endpoint. How an attempt ended decides what comes next, until the
first content has reached the client: from then on a failure ends the stream, or another endpoint
[goes on with it](streams.md).

- *Other endpoint*: whether another endpoint of the group, or a fallback, is tried because of it.
- *Again later*: whether the same group may be asked again after a pause, when all of its endpoints have been tried.
- *Breaker*: what the endpoint's circuit breaker is told.
- *Code*: what the client gets when nothing else is left.

These words are in the log (`outcome`), in `mcp_attempts_total{outcome}` and in `autoglm trace`.

"""

_ROW = re.compile(r"\| (\w+) \| (.+) \|")


def page() -> str:
    """Return the page.

    Raises:
        KeyError: a code has no meaning here, or an outcome none in its module's docstring.
    """
    return f"{_HEAD}{_codes()}{_RESERVED}{_reserved()}.{_OUTCOMES}{_outcomes()}\n"


def meanings_of_outcomes() -> dict[str, str]:
    """Return what the table in the docstring of `exchange.outcomes` says of each word."""
    found = (_ROW.fullmatch(line) for line in (outcomes.__doc__ or "").splitlines())
    return {match[1]: match[2] for match in found if match is not None and match[1] != "word"}


def _codes() -> str:
    lines = ["| status | code | means | type (OpenAI) | type (Anthropic) | again |", "|---|---|---|---|---|---|"]
    for code, meant in CODES.items():
        if code not in RESERVED:
            again = "yes" if meant.retryable else "–"
            lines.append(
                f"| {meant.http_status} | [`{code}`](troubleshooting.md#{code}) | {MEANINGS[code]} "
                f"| `{meant.openai_type}` | `{meant.anthropic_type}` | {again} |"
            )
    return "\n".join([*lines, ""])


def _reserved() -> str:
    return ", ".join(f"`{code}` ({CODES[code].http_status}, {part})" for code, part in RESERVED.items())


def _outcomes() -> str:
    meant = meanings_of_outcomes()
    lines = ["| outcome | means | other endpoint | again later | breaker | code |", "|---|---|---|---|---|---|"]
    for word, rule in outcomes.RULES.items():
        code = f"`{rule.code}`" if rule.code else "–"
        other = {"no": "–"}.get(rule.other, rule.other)
        same = "yes" if rule.same else "–"
        verdict = {"none": "nothing"}.get(rule.verdict, rule.verdict)
        lines.append(f"| `{word}` | {meant[word]} | {other} | {same} | {verdict} | {code} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
