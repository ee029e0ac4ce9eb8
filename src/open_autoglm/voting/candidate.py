"""What goes into a decision and what comes out, the same for every strategy; all of it can be written down as JSON."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Purpose = Literal["answer", "judge", "combine", "revise", "compute"]
"""What a member is asked for: its own answer, a choice among answers, one answer out of several, a second thought; and
a tool: to compute anew what the one candidate that it is shown has written."""


class Ask(Struct, frozen=True, omit_defaults=True):
    """One question to one member.

    Attributes:
        number: 0, 1, … in the order of asking; unique in a run.
        member: name of the model.
        purpose: see `Purpose`.
        prompt: the last message of the user, instead of the client's own; empty: the client's request as it is. The
            client's own comes in the place of the first `prompts.QUESTION` in it, and of no other.
        shown: numbers of the candidates whose texts the prompt shows, or whose text a tool is given.
        temperature: instead of the client's own.
        seed: for the sampling, where the model takes one.
        after_s: seconds to wait before asking; no longer than until nothing else of the run is being asked.
    """

    number: int
    member: str
    purpose: Purpose = "answer"
    prompt: str = ""
    shown: tuple[int, ...] = ()
    temperature: float | None = None
    seed: int | None = None
    after_s: float = 0.0


class Candidate(Struct, frozen=True, omit_defaults=True):
    """What became of an ask.

    Attributes:
        ask: its number.
        member: who was asked.
        answer: what is compared and counted, see `voting.canonical`; empty for one that does not count. Of a judge the
            number of its choice, see `prompts.read_choice`.
        text: what the member wrote; strategies never decide by it, they only show it to others.
        confidence: calibrated chance that it is right, 0 to 1; None where nothing is known.
        latency_s: from asking to its end, seconds.
        prompt_tokens, completion_tokens: as billed.
        cost: money, in the currency of the prices.
        version: of the model.
        flags: why it is no vote: `empty`, `truncated`, `refusal`, `too_long`, `invalid`, and `abstained` of a tool that
            has nothing to say; it is paid for all the same.
        failure: code of the error when there was no answer at all.
    """

    ask: int
    member: str
    answer: str = ""
    text: str = ""
    confidence: float | None = None
    latency_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    version: str = ""
    flags: tuple[str, ...] = ()
    failure: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is a vote."""
        return bool(self.answer) and not self.flags and not self.failure


class Vote(Struct, frozen=True):
    """One candidate's weight at that moment; below 0 it speaks against its answer."""

    ask: int
    member: str
    answer: str
    weight: float


class Decision(Struct, frozen=True, omit_defaults=True):
    """The end of a run. Encoded with `msgspec.json`, it is the same bytes whenever it is replayed.

    Attributes:
        answer: the one that won; empty when nothing can be said (`candidate` is -1 then).
        candidate: number of the ask whose text is given to the client.
        posterior: chance that it is right by what the strategy knows, 0 to 1.
        agreement: share of the votes for it, 0 to 1.
        votes: all, in the order of their coming.
        reason: why it stopped: `all_in`, `decided` (nothing outstanding could change it), `confident`, `lead`,
            `accepted`, `judged`, `combined`, `deadline`, `budget_exhausted`, `no_quorum`, `nobody_left`,
            `unsure` (a cascade that rather says nothing).
        tie: several had the same score, see the strategy for what decided.
        notes: what else should be known, as `shadow_majority` or `correlated`.
    """

    answer: str
    candidate: int
    posterior: float
    agreement: float
    votes: tuple[Vote, ...]
    reason: str
    tie: bool = False
    notes: tuple[str, ...] = ()
