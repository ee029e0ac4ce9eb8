"""What may be written of virtual models."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Count, Seconds
from open_autoglm.voting.settings import TeamSettings

MEMBERS_MAX = 64
"""Of one virtual model."""

DEPTH_MAX = 2
"""A member may be a virtual model itself, whose members are not."""

TOOL_PREFIX: Final = "tool:"
"""Before the name of a tool among the members of a team."""

CooperationStrategy = Literal[
    "dynamic_voting",
    "self_consistency",
    "universal_self_consistency",
    "ahead_by_k",
    "cascade",
    "best_of_n",
    "mixture",
    "hedged",
    "debate",
    "plan_execute",
]


class CooperationBudget(Struct, frozen=True, forbid_unknown_fields=True):
    """What one answer of a virtual model may cost. Zero means no limit.

    Attributes:
        tokens: over all members.
        money: over all members, in the currency of the prices.
    """

    tokens: Count = 0
    money: Annotated[float, Meta(ge=0)] = 0.0


class CooperationEntry(TeamSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A virtual model: a name behind which several models work on one answer. A strategy reads what it needs.

    Attributes:
        strategy: how they come to one answer.
        members: names of models, virtual ones too, at most 64; `plan_execute` can do without, with tools alone. Of a
            cascade also `tool:NAME`, a tool of class `read` that computes anew what a step before it has answered.
        timeout_s: for the answer as a whole; with a fallback, which needs time too, at most 60 % of the request's time.
        budget: what it may cost.
        fallback: the model that answers when cooperation fails.
        planner: model that writes the plan of `plan_execute`; the first member where it is left out.
        tools: names of tools that its tasks may call; dangerous ones are left out, since nobody is there to agree. Of a
            cascade those that may be members.
        replans: how often the planner may plan again when a task failed or something is missing.
        plan_cache: plans that are kept for requests that differ in numbers and quoted texts alone; 0 keeps none.
        logprobs: ask members for log probabilities, of which the confidence of their answers is made.
    """

    strategy: CooperationStrategy
    members: list[str]
    timeout_s: Seconds = field(default=30.0, name="timeout")
    budget: CooperationBudget = CooperationBudget()
    fallback: str | None = None
    planner: str = ""
    tools: list[str] = field(default_factory=list)
    replans: Annotated[int, Meta(ge=0, le=2)] = 2
    plan_cache: Annotated[int, Meta(ge=0, le=100_000)] = 0
    logprobs: bool = False
