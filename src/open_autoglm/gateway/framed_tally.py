"""Figures of requests that were relayed in frames and went well at once: plain lists, told on together.

Invariant: each such request is in exactly one tally until that was taken; what went another way has a record instead.
"""

from __future__ import annotations

from typing import Final, Protocol

from open_autoglm.exchange.record import RequestRecord

ROUTE: Final = "/mcp/v1/frames"
"""Of framed requests, as in metrics and logs; there is no such path."""


class Tally:
    """What one model did at one endpoint.

    Attributes:
        model: the name asked for; `group` the one that answered.
        endpoint: its name in metrics.
        whole_s: seconds of each request whose answer came in one piece.
        stream_s, first_s: the same of the others, to the end and to the first content.
        prompt_tokens, completion_tokens: sums.
    """

    __slots__ = ("completion_tokens", "endpoint", "first_s", "group", "model", "prompt_tokens", "stream_s", "whole_s")

    def __init__(self, model: str, group: str, endpoint: str) -> None:
        self.model = model
        self.group = group
        self.endpoint = endpoint
        self.whole_s: list[float] = []
        self.stream_s: list[float] = []
        self.first_s: list[float] = []
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def __len__(self) -> int:
        return len(self.whole_s) + len(self.stream_s)

    def clear(self) -> None:
        """What was counted so far has been told on."""
        self.whole_s = []
        self.stream_s = []
        self.first_s = []
        self.prompt_tokens = self.completion_tokens = 0


class PlainAccounts(Protocol):
    """Who is told of what was relayed, beside `gateway.Accounts`."""

    def count(self, tally: Tally) -> None:
        """Count a tally's requests; they are not counted again."""

    def keep(self, record: RequestRecord) -> None:
        """Write one of them down for people, as a sample; its figures are in a tally."""
