import random

from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.answers import error_headers, spread


def headers(error: AutoGLMError, *, overloaded: bool = False, position: int = 0) -> dict[str, str]:
    record = RequestRecord("/v1/chat/completions", 0.0, 1, "r")
    record.queue_position = position
    lines = error_headers(error, record, overloaded=overloaded)
    return dict(line.split(": ", 1) for line in lines.splitlines())


def spread_out(error: AutoGLMError, rng: random.Random) -> AutoGLMError:
    spread(error, rng)
    return error


def test_those_who_are_sent_away_come_back_spread_over_as_long_again() -> None:
    rng = random.Random(1)
    errors = [RequestError("rate_limit_exceeded", "too many", retry_after_s=4.0) for _ in range(200)]
    assert {headers(spread_out(error, rng))["retry-after"] for error in errors} == {"5", "6", "7", "8"}
    unknown = [spread_out(ServerError("overloaded", "full"), rng).retry_after_s or 0.0 for _ in range(200)]
    assert 1.0 <= min(unknown) < 1.1
    assert 1.9 < max(unknown) <= 2.0


def test_what_an_upstream_has_said_is_told_as_it_is() -> None:
    error = UpstreamError("rate_limit_exceeded", "too many", retry_after_s=4.0)
    assert headers(spread_out(error, random.Random(1)))["retry-after"] == "4"


def test_what_is_no_refusal_names_no_time() -> None:
    assert spread_out(RequestError("invalid_request", "no"), random.Random(1)).retry_after_s is None


def test_every_refusal_says_when_to_come_back() -> None:
    assert headers(ServerError("overloaded", "full"))["retry-after"] == "1"
    assert "retry-after" not in headers(RequestError("invalid_request", "no"))
    assert "retry-after" not in headers(UpstreamError("upstream_error", "broken"))


def test_nobody_is_told_to_try_again_while_everybody_is_refused() -> None:
    error = ServerError("overloaded", "full")
    assert headers(error)["x-should-retry"] == "true"
    assert headers(error, overloaded=True)["x-should-retry"] == "false"
    assert headers(UpstreamError("upstream_error", "broken"), overloaded=True)["x-should-retry"] == "true"


def test_one_that_waited_hears_its_position() -> None:
    assert headers(ServerError("overloaded", "full"), position=3)["x-mcp-queue-position"] == "3"
    assert "x-mcp-queue-position" not in headers(ServerError("overloaded", "full"))
