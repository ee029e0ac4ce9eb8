"""What happened to one request, in the order it happened: the source of its log line, metrics and explanation.

The request path fills these in as it goes; whoever reads them does so after `ended_s` is set. Times are
monotonic seconds, 0.0 until the thing has happened.
"""

from msgspec import Struct


class AttemptRecord:
    """One try at one endpoint.

    Attributes:
        endpoint: name of the endpoint, as in metrics; never holds a secret.
        group: model name whose group the endpoint was chosen from.
        number: 0 for the first attempt of the request.
        reason: why this endpoint, as `least_connections of 2` or `fallback of chat`.
        started_s, sent_s, head_s, first_s, ended_s: chosen, request written, answer's head read, first content, over.
        status: the upstream's HTTP status; 0 when none came.
        outcome: a word of `exchange.outcomes`, empty while running.
        detail: a few words for people, without secrets.
        reused: whether a kept-alive connection carried it.
    """

    __slots__ = (
        "detail",
        "ended_s",
        "endpoint",
        "first_s",
        "group",
        "head_s",
        "number",
        "outcome",
        "reason",
        "reused",
        "sent_s",
        "started_s",
        "status",
    )

    def __init__(self, endpoint: str, group: str, number: int, reason: str, started_s: float) -> None:
        self.endpoint = endpoint
        self.group = group
        self.number = number
        self.reason = reason
        self.started_s = started_s
        self.sent_s = 0.0
        self.head_s = 0.0
        self.first_s = 0.0
        self.ended_s = 0.0
        self.status = 0
        self.outcome = ""
        self.detail = ""
        self.reused = False


class RequestRecord(Struct, gc=False):
    """One client request.

    Attributes:
        request_id, trace_id: sent back and sent on.
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

    route: str
    received_s: float
    revision: int
    request_id: str = ""
    trace_id: str = ""
    model: str = ""
    served_by: str = ""
    key: str = ""
    client: str = ""
    stream: bool = False
    received_wall_s: float = 0.0
    admitted_s: float = 0.0
    read_s: float = 0.0
    first_s: float = 0.0
    ended_s: float = 0.0
    status: int = 0
    code: str = ""
    message: str = ""
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    usage_estimated: bool = False
    delivered_chars: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    queue_position: int = 0
    queued_s: float = 0.0
    rejected: str = ""
    attempts: list[AttemptRecord] = []
