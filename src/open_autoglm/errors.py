"""The one tree of errors, and the stable words for them.

    AutoGLMError                 anything that we raise on purpose
    ├── ConfigError              a wrong configuration; lists every problem        exit code 78
    ├── RequestError             the client's request cannot be served             4xx
    ├── UpstreamError            a model's server failed us                        502, 503, 504
    └── ServerError              we cannot serve it now                            5xx

A `code` is one of `CODES`. It is used on the wire, in logs and as a metric label, so it never changes.
The table gives each code its HTTP status and the error types of the two public dialects
(OpenAI's and Anthropic's API references).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code means on the wire.

    Attributes:
        http_status: status of the answer, 400 to 599.
        openai_type: `error.type` on OpenAI's routes and ours.
        anthropic_type: `error.type` on Anthropic's routes.
        retryable: whether the same request may succeed when it is sent again later.
    """

    http_status: int
    openai_type: str
    anthropic_type: str
    retryable: bool = False


def _invalid(http_status: int = 400) -> ErrorCode:
    return ErrorCode(http_status, "invalid_request_error", "invalid_request_error")


def _unauthenticated() -> ErrorCode:
    return ErrorCode(401, "authentication_error", "authentication_error")


def _unavailable() -> ErrorCode:
    return ErrorCode(503, "server_error", "overloaded_error", retryable=True)


CODES: dict[str, ErrorCode] = {
    "invalid_request": _invalid(),
    "context_length_exceeded": _invalid(),
    "content_policy": _invalid(),
    "unsupported_parameter": _invalid(),
    "invalid_api_key": _unauthenticated(),
    "invalid_signature": _unauthenticated(),
    "replayed": _unauthenticated(),
    "token_expired": _unauthenticated(),
    "forbidden": ErrorCode(403, "permission_error", "permission_error"),
    "model_not_found": ErrorCode(404, "invalid_request_error", "not_found_error"),
    "not_found": ErrorCode(404, "invalid_request_error", "not_found_error"),
    "method_not_allowed": _invalid(405),
    "request_timeout": _invalid(408),
    "conflict": _invalid(409),
    "session_conflict": _invalid(409),
    "stale_lease": _invalid(409),
    "idempotency_mismatch": _invalid(422),
    "request_too_large": ErrorCode(413, "invalid_request_error", "request_too_large"),
    "headers_too_large": ErrorCode(431, "invalid_request_error", "request_too_large"),
    "rate_limit_exceeded": ErrorCode(429, "rate_limit_error", "rate_limit_error", retryable=True),
    "insufficient_quota": ErrorCode(429, "insufficient_quota", "rate_limit_error"),
    "client_closed": _invalid(499),
    "internal_error": ErrorCode(500, "server_error", "api_error"),
    "not_implemented": ErrorCode(501, "server_error", "api_error"),
    "upstream_error": ErrorCode(502, "server_error", "api_error", retryable=True),
    "stream_interrupted": ErrorCode(502, "server_error", "api_error", retryable=True),
    "overloaded": _unavailable(),
    "no_healthy_endpoint": _unavailable(),
    "server_draining": _unavailable(),
    "no_quorum": _unavailable(),
    "deadline_exceeded": ErrorCode(504, "server_error", "timeout_error", retryable=True),
    "loop_detected": ErrorCode(508, "server_error", "api_error"),
    "storage_full": ErrorCode(507, "server_error", "api_error", retryable=True),
}


class AutoGLMError(Exception):
    """Anything that we raise on purpose.

    Args:
        code: one of `CODES`.
        message: what is wrong, with the value, and what to do. It may reach the client: no secrets, no stack.
        param: the field of the request that is wrong, in the client's spelling.
        retry_after_s: when to try again, seconds, when that is known.
    """

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def http_status(self) -> int:
        """Status of the answer that carries this error."""
        return CODES[self.code].http_status

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when it is sent again later."""
        return CODES[self.code].retryable


class RequestError(AutoGLMError):
    """The client's request cannot be served as it is."""


class UpstreamError(AutoGLMError):
    """A model's server failed us."""


class ServerError(AutoGLMError):
    """We cannot serve the request now."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong in a configuration.

    Attributes:
        path: where, as `models[0].endpoint`; empty for the file as a whole.
        line: line in the file, counted from 1; 0 when the value comes from elsewhere.
        message: what is wrong with the value and what to write instead.
    """

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ConfigError(AutoGLMError):
    """A wrong configuration, with every problem that was found.

    Args:
        source: the file or address that the configuration came from.
        problems: at least one.
    """

    def __init__(self, source: str, problems: list[ConfigProblem]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("invalid_request", f"{source}: {count}\n{lines}")
        self.source = source
        self.problems = problems
