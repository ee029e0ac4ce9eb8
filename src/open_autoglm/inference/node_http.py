"""What a node says over HTTP: whether it is there, whether it serves, and its metrics.

| route | answer |
|---|---|
| `GET /healthz` | 200 while the process runs |
| `GET /readyz` | 200 while it takes requests, else 503 with the reason |
| `GET /metrics` | Prometheus text; on the admin listener only |
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from open_autoglm.errors import AutoGLMError
from open_autoglm.telemetry.exposition import CONTENT_TYPE
from open_autoglm.transport.http_request import ServerRequest


class NodeHttp:
    """See the module; a `transport.application.Application`.

    Args:
        unready: says why no requests are taken; empty when they are.
        metrics: renders them; None where they are not shown.
    """

    def __init__(self, unready: Callable[[], str], metrics: Callable[[], bytes] | None = None) -> None:
        self._unready = unready
        self._metrics = metrics

    def on_head(self, request: ServerRequest) -> None:
        path = request.target.partition(b"?")[0]
        if path not in (b"/healthz", b"/readyz") and not (path == b"/metrics" and self._metrics is not None):
            text = "a node takes requests in frames; over HTTP it has /healthz, /readyz and, for its admin, /metrics"
            self._answer(request, 404, {"error": {"message": text, "code": "not_found"}})
        elif request.method not in (b"GET", b"HEAD"):
            self._answer(request, 405, {"error": {"message": "GET it", "code": "method_not_allowed"}})
        elif path == b"/metrics" and self._metrics is not None:
            request.connection.respond(request, 200, "", self._metrics(), CONTENT_TYPE)
        elif path == b"/readyz" and (reason := self._unready()):
            self._answer(request, 503, {"status": "unavailable", "reason": reason})
        else:
            self._answer(request, 200, {"status": "ok"})

    def on_body(self, request: ServerRequest) -> None:
        """Everything was answered by the head."""

    def on_gone(self, request: ServerRequest) -> None:
        """Nothing waits for anybody."""

    def on_pause(self, request: ServerRequest) -> None:
        """Answers are short."""

    def on_resume(self, request: ServerRequest) -> None:
        """See `on_pause`."""

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        """See `Application`."""
        return "", msgspec.json.encode({"error": {"message": error.message, "code": error.code}})

    def _answer(self, request: ServerRequest, status: int, body: dict[str, object]) -> None:
        request.connection.respond(request, status, "", msgspec.json.encode(body))
