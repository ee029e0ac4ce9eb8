"""What happened to one try of a request at one endpoint; see `record.py`."""


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
