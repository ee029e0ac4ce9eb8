"""What happened to one request, in the order it happened: the source of its log line, metrics and explanation.

The request path fills these in as it goes; whoever reads them does so after `ended_s` is set. Times are
monotonic seconds, 0.0 until the thing has happened.
"""

from __future__ import annotations

from open_autoglm.exchange.attempt_record import AttemptRecord

__all__ = ["AttemptRecord", "RequestRecord"]


class RequestRecord:
    """One client request.

    Attributes:
        request_id, trace_id: sent back and sent on. A trace id is 32 hexadecimal digits, or empty so far.
        own_id: the request id was made here, so it holds no text of anybody's.
        route: the route's pattern, as in metrics.
        model: the name asked for (empty when the request named none); `served_by` the name that answered.
        key: name of the API key, empty before authentication.
        client: address of the client.
        stream: whether the answer is streamed.
        received_wall_s: wall seconds of arrival, for people.
        received_s, admitted_s, read_s, first_s, ended_s: head read, let in by key and limits, body read and
            understood, first byte of the answer sent, over.
        status: HTTP status sent; 499 when the client left.
        code: a word of `errors.CODES`, empty for success.
        message: the error's message, empty for success.
        finish_reason, prompt_tokens, completion_tokens: as the upstream said, tokens -1 when it did not.
        version: of the model's weights, empty when nobody said it.
        usage_estimated: two endpoints gave one answer, so the tokens are put together from what is known of both.
        delivered_chars: characters of text sent to the client.
        bytes_in, bytes_out: of bodies.
        revision: of the configuration that served it.
        queue_position, queued_s: its place in the line for room when it came, 1 for the next, and seconds there; 0 for
            a request that did not wait.
        rejected: why it was turned away before any attempt, where the code does not say: `queue_full`,
            `shed_in_queue`, `expired_in_queue`.
        attempts: in order.
    """

    __slots__ = (
        "admitted_s",
        "attempts",
        "bytes_in",
        "bytes_out",
        "client",
        "code",
        "completion_tokens",
        "delivered_chars",
        "ended_s",
        "finish_reason",
        "first_s",
        "key",
        "message",
        "model",
        "own_id",
        "prompt_tokens",
        "queue_position",
        "queued_s",
        "read_s",
        "received_s",
        "received_wall_s",
        "rejected",
        "request_id",
        "revision",
        "route",
        "served_by",
        "status",
        "stream",
        "trace_id",
        "usage_estimated",
        "version",
    )

    def __init__(
        self,
        route: str,
        received_s: float,
        revision: int,
        request_id: str = "",
        received_wall_s: float = 0.0,
        client: str = "",
    ) -> None:
        self.route = route
        self.received_s = received_s
        self.revision = revision
        self.request_id = request_id
        self.received_wall_s = received_wall_s
        self.client = client
        self.trace_id = self.model = self.served_by = self.key = self.finish_reason = ""
        self.code = self.message = self.rejected = self.version = ""
        self.own_id = self.stream = self.usage_estimated = False
        self.admitted_s = self.read_s = self.first_s = self.ended_s = self.queued_s = 0.0
        self.status = self.delivered_chars = self.bytes_in = self.bytes_out = self.queue_position = 0
        self.prompt_tokens = self.completion_tokens = -1
        self.attempts: list[AttemptRecord] = []
