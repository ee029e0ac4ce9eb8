"""The faults that a gateway is drilled with, and what is expected of it, as data.

The sixteen are those of a public comparison of gateways; the others come from `docs/reliability.md`. Bounds are
seconds from the client's request to the end of what it got, and tries at the two endpoints of the model's own group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from open_autoglm.testing.faults import FILTER_REASON, PREFILL_REASON

Reach = Literal["once", "route", "group"]
"""Whom a fault befalls: a question's first try, every try at the endpoint that got the first, or the whole group."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault, and what is expected.

    Attributes:
        number: in the scorecard, from 1.
        name: for lists and `--only`.
        title: what happens, for people.
        fault: name in `faults.FAULTS`; `down` is the listener that goes away.
        reach: whom it befalls.
        within_s: by when a client must have its answer or its error.
        tries_max: at the endpoints of the group, for one question.
        later: fault of a question's second try, with reach `once`.
        refusal: text of the upstream's error that the client must get instead of an answer.
        never: text that a client must not see.
        same_route: whether the endpoint that got the first try may get another.
        switch_s: seconds by which a second endpoint must have been tried; 0.0 for no such bound.
        fallback: the answer must say that the fallback gave it, by its model (in the body or a header), and count
            the fallback's usage.
        leaves_s: after so long the client leaves, and only what the upstreams see of that is judged; 0.0 for a client
            that stays.
        streams_told: whether the fault breaks an answer that has begun, so that a stream may end with an error.
        heavy: so many bytes that it would disturb the others; it runs when they are over.
        standard: it is one of the sixteen.
    """

    number: int
    name: str
    title: str
    fault: str
    reach: Reach = "once"
    within_s: float = 10.0
    tries_max: int = 6
    later: str = "none"
    refusal: str = ""
    never: str = ""
    same_route: bool = True
    switch_s: float = 0.0
    fallback: bool = False
    leaves_s: float = 0.0
    streams_told: bool = False
    heavy: bool = False
    standard: bool = True

    @property
    def model(self) -> str:
        """The name under which the gateway has the case's own group."""
        return f"drill-{self.number:02}"


_SILENT_S: Final = 65.0
"""A first token is waited for no longer than a minute, whoever waits."""
_STALL_S: Final = 46.0
"""A stall is found within 45 s; the first half of the answer takes less than one."""

SIXTEEN: Final = (
    Case(1, "rate-limited-once", "429 once, Retry-After: 2", "rate-limited", within_s=5.0, tries_max=3),
    Case(2, "rate-limited", "429 from every endpoint, without end", "rate-limited-bare", "group", 5.0, tries_max=4),
    Case(3, "error-500-once", "500 once", "error-500", within_s=5.0, tries_max=2),
    Case(4, "unavailable", "503 from every endpoint, without end", "unavailable", "group", tries_max=6),
    Case(5, "reset", "reset before the head of the answer", "reset", within_s=5.0, tries_max=3),
    Case(6, "silent", "the request is taken and never answered", "silent", "route", _SILENT_S, same_route=False),
    Case(7, "slow-first-token", "first token after 20 s", "slow-first-token", "route", 20.0, switch_s=15.0),
    Case(8, "cut", "cut at token 40 of 60", "cut", streams_told=True),
    Case(9, "stall", "silence after token 40 of 60", "stall", "route", _STALL_S, streams_told=True),
    Case(10, "malformed-event", "a broken event between two tokens", "malformed-event", streams_told=True),
    Case(11, "no-done", "a whole stream without [DONE]", "no-done", within_s=5.0, tries_max=1),
    Case(12, "context-length", "400, the prompt is too long; a larger model is there", "context-length", "group", 5.0,
         tries_max=2, same_route=False),
    Case(13, "content-filter", "400 by a policy on content", "content-filter", "group", 5.0, tries_max=1,
         refusal=FILTER_REASON),
    Case(14, "cut-prefill-refused", "cut, and then a prefill is refused", "cut", later="prefill-refused",
         never=PREFILL_REASON, streams_told=True),
    Case(15, "down", "an endpoint is away for 60 s", "down"),
    Case(16, "fallback", "502 from the group; the fallback answers", "bad-gateway", "group", fallback=True),
)  # fmt: skip
"""The sixteen."""

MORE: Final = (
    Case(17, "html-200", "200 with a page in HTML", "html-200", standard=False),
    Case(18, "error-200", "200 with an error in its body or first event", "error-200", standard=False),
    Case(19, "error-in-stream", "an error as an event after token 40", "error-in-stream", streams_told=True,
         standard=False),
    Case(20, "cut-cleanly", "a stream ends in order at token 40 of 60", "cut-cleanly", streams_told=True,
         standard=False),
    Case(21, "cut-by-reset", "reset at token 40 of 60", "cut-by-reset", streams_told=True, standard=False),
    Case(22, "empty-stream", "200 without content", "empty-stream", standard=False),
    Case(23, "head-only", "the head of an answer, and nothing after it", "head-only", "route", _SILENT_S,
         standard=False),
    Case(24, "wrong-length", "framing that promises more than comes", "wrong-length", streams_told=True,
         standard=False),
    Case(25, "wrong-types", "JSON of another shape", "wrong-types", standard=False),
    Case(26, "nul", "zero bytes and bytes that are no UTF-8", "nul", standard=False),
    Case(27, "two-in-one", "two objects in one event or body", "two-in-one", standard=False),
    Case(28, "long-line", "an event of 10 MB, a body of 100 MB", "long-line", heavy=True, standard=False),
    Case(29, "odd-events", "odd but right: BOM, CR, LF, CRLF, comments", "odd-events", "group", tries_max=1,
         standard=False),
    Case(30, "comment-flood", "60,000 comments between the tokens", "comment-flood", "group", heavy=True,
         standard=False),
    Case(31, "unauthorized", "401 once: the gateway's own key is wrong there", "unauthorized", standard=False),
    Case(32, "overloaded-529", "529 once", "overloaded-529", standard=False),
    Case(33, "client-leaves", "the client leaves after a second; the work for it must end", "stall", "group",
         leaves_s=1.0, standard=False),
)  # fmt: skip
"""Others, for `--all`."""

CASES: Final = SIXTEEN + MORE
