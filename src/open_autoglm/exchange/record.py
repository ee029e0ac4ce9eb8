"""What happened to one request, in the order it happened: the source of its log line, metrics and explanation.

The request path fills these in as it goes; whoever reads them does so after `ended_s` is set. Times are
monotonic seconds, 0.0 until the thing has happened.
"""

from msgspec import Struct

from open_autoglm.exchange.attempt_record import AttemptRecord

__all__ = ["AttemptRecord", "RequestRecord"]


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
    received_wall_s: float = 0.0
    client: str = ""
    trace_id: str = ""
    model: str = ""
    served_by: str = ""
    key: str = ""
    stream: bool = False
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
