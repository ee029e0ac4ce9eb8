"""What kind of refusal an upstream's error is, in the many ways that servers write them."""

from typing import Any

import pytest

from open_autoglm.dialects.refusal import MESSAGE_CHARS_MAX, classify, classify_in_band, safe_message
from open_autoglm.errors import CODES
from open_autoglm.exchange.outcomes import RULES
from tests.unit.dialects.wire import body


def openai_error(message: str, code: Any = None, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **fields}}


CASES: list[tuple[int, Any, str, str]] = [
    (
        400,
        openai_error("maximum context length is 8192 tokens", "context_length_exceeded"),
        "too_long",
        "context_length_exceeded",
    ),
    (
        400,
        {"object": "error", "message": "This model's maximum context length is 2048", "code": 400},
        "too_long",
        "context_length_exceeded",
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
            }
        },
        "too_long",
        "context_length_exceeded",
    ),
    (500, {"error": "prompt is too long: 9000 tokens"}, "too_long", "context_length_exceeded"),
    (413, {"message": "input too large"}, "refused", "request_too_large"),
    (400, openai_error("flagged by our safety system", "content_policy_violation"), "refused", "content_policy"),
    (
        400,
        openai_error("filtered", "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        "refused",
        "content_policy",
    ),
    (403, openai_error("no", "content_policy_violation"), "refused", "content_policy"),
    (
        400,
        openai_error("Unsupported value: 'temperature'", "unsupported_value", param="temperature"),
        "refused",
        "invalid_request",
    ),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "field required"}]}, "refused", "invalid_request"),
    (422, {"detail": "n must be positive"}, "refused", "invalid_request"),
    (405, b"", "refused", "invalid_request"),
    (409, b"", "refused", "invalid_request"),
    (404, openai_error("The model `x` does not exist", "model_not_found"), "unknown_model", ""),
    (404, {"error": "model 'llama9' not found, try pulling it first"}, "unknown_model", ""),
    (404, b"<html>404</html>", "unknown_model", ""),
    (404, {"detail": "Not Found"}, "refused", "invalid_request"),
    (404, openai_error("No such file: file-1"), "refused", "invalid_request"),
    (401, openai_error("Incorrect API key provided: sk-abcdef123456"), "misconfigured", ""),
    (403, openai_error("your account was flagged"), "misconfigured", ""),
    (408, b"", "unavailable", ""),
    (429, openai_error("You exceeded your current quota", "insufficient_quota"), "throttled", ""),
    (500, openai_error("boom"), "failed", ""),
    (501, b"", "failed", ""),
    (502, b"<html>", "unavailable", ""),
    (503, b"", "unavailable", ""),
    (504, b"", "unavailable", ""),
    (529, b"", "unavailable", ""),
    (301, b"", "malformed", ""),
    (204, b"", "malformed", ""),
]


@pytest.mark.parametrize(("status", "answer", "outcome", "code"), CASES)
def test_kinds(status: int, answer: Any, outcome: str, code: str) -> None:
    refusal = classify(status, answer if isinstance(answer, bytes) else body(answer))
    assert (refusal.outcome, refusal.code) == (outcome, code)
    assert refusal.message
    assert refusal.outcome in RULES
    assert refusal.code in {"", *CODES}
    assert "sk-" not in refusal.message


def test_the_field_and_the_message_are_kept_where_they_concern_the_request() -> None:
    refusal = classify(400, body(openai_error("n must be at most 4", param="n")))
    assert (refusal.message, refusal.param) == ("n must be at most 4", "n")
    assert "secret detail" not in classify(500, body(openai_error("secret detail"))).message


def test_a_bodys_form_is_no_matter() -> None:
    for answer in (b"", b"\xff", b"[]", b"5", b"null", b'{"error":5}', b'{"error":{"message":5}}', b"[" * 9_999):
        assert classify(400, answer).code == "invalid_request"
    listed = body([openai_error("too many tokens")])
    assert classify(400, listed).outcome == "too_long"


def test_in_band_errors() -> None:
    assert classify_in_band({"message": "Rate limit reached", "code": "rate_limit_exceeded"}).outcome == "throttled"
    assert classify_in_band({"message": "no available workers"}).outcome == "unavailable"
    assert classify_in_band({"message": "x", "code": 404}).outcome == "refused"
    assert classify_in_band({"message": "the model is overloaded", "code": 400}).outcome == "unavailable"
    assert classify_in_band({"message": "bad", "code": True}).outcome == "failed"
    for odd in (None, 5, [], {}, "", {"message": None, "type": 5, "innererror": 5}):
        assert classify_in_band(odd).outcome == "failed"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\x1b[31m\x00c\u2028d", "a b [31m c d"),
        ("see https://10.0.0.1:8000/v1/x?key=1 now", "see [address] now"),
        ("at 10.1.2.3:8000 or localhost:9", "at [address] or [address]"),
        ("key sk-abcdef123456 and Bearer abc.def and mcp_0123456789", "key [secret] and [secret] and [secret]"),
        ("token eyJhbGciOiJIUzI1NiJ9.x.y", "token [secret]"),
        ("x" * 10_000, "x" * MESSAGE_CHARS_MAX),
        ("max_tokens is 4, must be <= 2", "max_tokens is 4, must be <= 2"),
    ],
)
def test_messages_are_made_safe(text: str, shown: str) -> None:
    assert safe_message(text) == shown


def test_long_messages_cost_little_and_mean_nothing_beyond_the_limit() -> None:
    refusal = classify(404, body(openai_error("model " * 10_000 + "not found")))
    assert refusal.outcome == "refused"
