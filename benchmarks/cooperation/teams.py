"""The task sets and the teams of the published table, each set by a rule that looks at no item.

Nothing here was chosen on items that count: records, curves and thresholds come from the calibration splits, which are
whole sets of their own (`table.CALIBRATION`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from benchmarks.cooperation.table import CALIBRATION, Answers, Item, price
from open_autoglm.voting.ballot import ranked
from open_autoglm.voting.candidate import Candidate, Vote
from open_autoglm.voting.catalog import Knowledge, Member, make_strategy
from open_autoglm.voting.reliability import Reliability
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.strategy import Strategy
from open_autoglm.voting.weighing import Weighing

WORDED: Final = tuple(f"glm-nano/worded-{number}" for number in (1, 2, 3, 4))
FIVE: Final = ("glm-calc-c", "glm-calc-d", "glm-calc-m", "glm-calc-s", "glm-nano")


Steps = tuple[tuple[str, ...], ...]
"""Of a cascade: the members of each."""


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Tasks that are counted together.

    Attributes:
        name, rule: as published.
        parts: held-out sets, each with the one operation that is taken, or all.
        singles: models that can do all of it.
    """

    name: str
    rule: str
    parts: tuple[tuple[str, str], ...]
    singles: tuple[str, ...]

    def items(self, answers: Answers) -> list[Item]:
        """All tasks, in order."""
        return [item for name, only in self.parts for item in answers.items(name, only)]


@dataclass(frozen=True, slots=True)
class Team:
    """A strategy with members.

    Attributes:
        name: as published.
        gain: what it stands for: `votes`, `escalation` (asking again only where it is unsure) or `tools`.
        strategy: of `voting.catalog`, by class of task; `*` for every other class.
        members: by class of task, as above.
        settings: as above.
        steps: of a cascade, by class.
        sure: whether answers come with a confidence, for which members must tell log probabilities; without it ties are
            broken by cost.
        share: of the calibration split that each step hands on: its threshold is that quantile of the confidence there.
    """

    name: str
    gain: str
    strategy: dict[str, str]
    members: dict[str, tuple[str, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Steps] = field(default_factory=dict)
    share: float = 0.2
    sure: bool = True


SUMS: Final = TaskSet(
    "sums of three digits",
    "every item of `arithmetic-3`",
    (("arithmetic-3", ""),),
    FIVE,
)
MIXED: Final = TaskSet(
    "sums of four digits, new names and intents",
    "every item of `arithmetic-4` and of the four sets whose wordings or names no model has seen: "
    "`intent-unseen`, `intent-hand`, `tool-new`, `plan-new`",
    tuple((name, "") for name in ("arithmetic-4", "intent-unseen", "intent-hand", "tool-new", "plan-new")),
    ("glm-nano",),
)
HARD: Final = TaskSet(
    "subtractions, new names and intents",
    "every subtraction of `arithmetic-3` and `arithmetic-4`, and the same four sets that no model has seen",
    (
        ("arithmetic-3", "-"),
        ("arithmetic-4", "-"),
        *((name, "") for name in ("intent-unseen", "intent-hand", "tool-new", "plan-new")),
    ),
    ("glm-nano",),
)
SUBTRACTIONS: Final = TaskSet(
    "subtractions and new names",
    "every subtraction of `arithmetic-3` and `arithmetic-4`, every item of `tool-new` and `plan-new`",
    (("arithmetic-3", "-"), ("arithmetic-4", "-"), ("tool-new", ""), ("plan-new", "")),
    ("glm-nano",),
)
PRODUCTS: Final = TaskSet(
    "subtractions, products and new names",
    "every subtraction of `arithmetic-3` and `arithmetic-4`, every product of `arithmetic-4`, every item of `tool-new` "
    "and `plan-new`",
    (("arithmetic-3", "-"), ("arithmetic-4", "-"), ("arithmetic-4", "*"), ("tool-new", ""), ("plan-new", "")),
    ("glm-nano",),
)
SETS: Final = (SUMS, SUBTRACTIONS, PRODUCTS, HARD, MIXED)


def vote(name: str, members: Sequence[str], **settings: Any) -> Team:
    """A dynamic vote; answers come with a confidence where votes weigh by it, or `sure` says so."""
    sure = settings.pop("sure", settings.get("confidence_weighting", False))
    return Team(name, "votes", {"*": "dynamic_voting"}, {"*": tuple(members)}, settings, sure=sure)


def cascade(name: str, gain: str, steps: Mapping[str, Steps], **more: Any) -> Team:
    """A cascade with these steps by class."""
    members = {kind: tuple(dict.fromkeys(each for step in rows for each in step)) for kind, rows in steps.items()}
    share = more.pop("share", 0.2)
    settings = {"cascade_samples": 1, "reliability_clip": 0.001, **more}
    return Team(name, gain, {"*": "cascade"}, members, settings, steps, share)


_SURE: Final = {"confidence_weighting": True, "reliability_clip": 0.001, "correlation_guard": False}
SUM_TEAMS: Final = (
    vote("majority of c, d, m", FIVE[:3], weighting="equal"),
    vote("majority of c, d, m, ties by confidence", FIVE[:3], weighting="equal", sure=True),
    vote("c, d, m by record", FIVE[:3]),
    vote("c, d, m by confidence", FIVE[:3], **_SURE),
    vote("c and d by confidence", FIVE[:2], **_SURE),
    vote("c, d, nano by confidence", ("glm-calc-c", "glm-calc-d", "glm-nano"), **_SURE),
    vote("c, d, m, nano by confidence", ("glm-calc-c", "glm-calc-d", "glm-calc-m", "glm-nano"), **_SURE),
    vote("majority of five", FIVE, weighting="equal"),
    vote("five by record", FIVE),
    vote("five by confidence", FIVE, **_SURE),
    vote("m, s, nano by confidence", FIVE[2:], **_SURE),
    Team(
        "eight samples of glm-calc-s", "votes", {"*": "self_consistency"}, {"*": ("glm-calc-s",)},
        {"adaptive": False, "samples": 8, "wave": 8}, sure=False,
    ),
    Team(
        "samples of glm-calc-s until sure", "votes", {"*": "self_consistency"}, {"*": ("glm-calc-s",)},
        {"adaptive": True, "votes_max": 8}, sure=False,
    ),
    Team(
        "samples of glm-calc-s, ahead by two", "votes", {"*": "ahead_by_k"}, {"*": ("glm-calc-s",)},
        {"lead": 2, "votes_max": 8}, sure=False,
    ),
    vote("five wordings to glm-nano", ("glm-nano", *WORDED), weighting="equal"),
    Team(
        "best of five by confidence", "votes", {"*": "best_of_n"}, {"*": FIVE},
        {"samples": 5, "scorer": "confidence", "temperature": None},
    ),
    cascade("glm-calc-s, the least sure to a vote of all", "escalation", {"*": (("glm-calc-s",), FIVE[:3] + FIVE[4:])}),
    cascade("glm-calc-c, then d and m, then s and nano", "escalation", {"*": (FIVE[:1], FIVE[1:3], FIVE[3:])}),
    cascade("glm-nano, the least sure with a calculator to call", "tools", {"*": (("glm-nano",), ("glm-nano/tool",))}),
    *(
        cascade(f"{name}, the least sure recomputed", "tools", {"*": ((name,), (f"{name}/columns",))})
        for name in FIVE
    ),
    cascade("c and d, the least sure recomputed", "tools", {"*": (FIVE[:2], ("glm-calc-d/columns",))}),
    cascade("glm-nano, all recomputed", "tools", {"*": (("glm-nano",), ("glm-nano/columns",))}, share=1.0),
)  # fmt: skip
_CHECKED: Final = (("glm-nano",), ("glm-nano/columns",))
_SPLIT: Final = {"*": (("glm-nano",), WORDED)}
MIXED_TEAMS: Final = (
    vote("five wordings, majority", ("glm-nano", *WORDED), weighting="equal"),
    vote("five wordings by confidence", ("glm-nano", *WORDED), **_SURE),
    Team(
        "eight samples, majority", "votes", {"*": "self_consistency"}, {"*": ("glm-nano",)},
        {"adaptive": False, "samples": 8, "wave": 8}, sure=False,
    ),
    cascade("the least sure to four other wordings", "escalation", _SPLIT),
    cascade("sums: the least sure recomputed", "tools", {"*": (("glm-nano",),), "arithmetic": _CHECKED}),
    cascade("sums: the least sure recomputed; others: to wordings", "tools", {**_SPLIT, "arithmetic": _CHECKED}),
    cascade(
        "the same, and the least sure of the others to a person", "tools",
        {"*": (("glm-nano",),), "arithmetic": _CHECKED}, cascade_abstain=True,
    ),
)  # fmt: skip
TEAMS: Final = {tasks.name: SUM_TEAMS if tasks is SUMS else MIXED_TEAMS for tasks in SETS}


def maker(team: Team, kind: str, answers: Answers) -> Callable[[int], Strategy]:
    """What makes the team's strategy for a class of tasks, with all that its calibration split teaches."""
    names = _of(team.members, kind)
    prices = {name: price(name, 1) for name in names}
    members = tuple(Member(name, name.partition("/")[0], prices[name]) for name in names)
    fields: dict[str, Any] = {"task_class": kind, "answer_form": "text", "forgetting": 1.0, **team.settings}
    if team.steps:
        steps = _of(team.steps, kind)
        fields["cascade_steps"] = [list(step) for step in steps]
    settings = TeamSettings(**fields)
    knowledge = _learned(members, settings, kind, answers)
    if team.steps:
        values = thresholds(Weighing(members, settings, knowledge), steps, kind, answers, team.share)
        if not settings.cascade_abstain or len(steps) > 1:  # what was recomputed needs nobody's second look
            values[-1] = 0.0
        settings = replace(settings, thresholds=values)
    strategy = _of(team.strategy, kind)
    return lambda seed: make_strategy(strategy, members, settings, knowledge, seed)


def thresholds(
    weighing: Weighing, steps: Sequence[Sequence[str]], kind: str, answers: Answers, share: float
) -> list[float]:
    """For each step the quantile `share` of its confidence on the calibration split, counted as the cascade counts it:
    of a lone member its own, of several the chance of the first answer by the votes of all so far. 1 accepts nothing.
    """
    if share >= 1.0:
        return [1.0] * len(steps)
    sure: list[list[float]] = [[] for _ in steps]
    for item in answers.items(CALIBRATION[kind]):
        voters: list[Candidate] = []
        for number, step in enumerate(steps):
            for name in step:
                said = answers.said(item, name)
                chance = answers.confidence(item, name, said)
                if said.text:
                    voters.append(Candidate(len(voters), name, said.text, confidence=chance))
            own = voters[-1:] if len(step) == 1 else voters
            first = ranked(own, weighing.weights(own))[0].answer if own else ""
            if len(step) == 1:
                sure[number].append(weighing.chance(own[0]) if own else 0.0)
            else:
                sure[number].append(weighing.posterior(own, first))
    return [sorted(values)[int(share * len(values))] for values in sure]


def _learned(members: tuple[Member, ...], settings: TeamSettings, kind: str, answers: Answers) -> Knowledge:
    """Records and joint errors of the members, from the calibration split."""
    record = Reliability(members, settings)
    for item in answers.items(CALIBRATION[kind]):
        votes = [
            Vote(number, member.name, answers.said(item, member.name).text, 1.0)
            for number, member in enumerate(members)
        ]
        record.learn(votes, item.answer, kind)
    return record.knowledge()


def _of(by_kind: Mapping[str, Any], kind: str) -> Any:
    return by_kind.get(kind, by_kind["*"])
