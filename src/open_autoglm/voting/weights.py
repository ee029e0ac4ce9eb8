"""What a vote weighs: the exact Bayes weight of an independent voter, less what it shares with others.

A voter that is right with chance x, and else gives any of the K - 1 other answers alike, speaks for its answer with
ln((K - 1) x / (1 - x)); below 0, and so against it, when it is worse than a guess. x is the vote's own confidence where
its member has a curve that makes a chance of it (or where the settings take every confidence for one), else the share
of its answers that its member has had right. Members whose errors go together are
one cluster, and a weight in it is divided by 1 + correlation * (members of it - 1). K is the number of choices, or one
more than the different answers so far, 2 at least. Invariant: frozen, a function of members, settings and knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import exp, fsum, log
from typing import Final

from open_autoglm.voting.ballot import ranked
from open_autoglm.voting.beta import beta_quantile, chance_leads
from open_autoglm.voting.candidate import Candidate
from open_autoglm.voting.knowledge import JointErrors, Knowledge, Member, Skill
from open_autoglm.voting.settings import TeamSettings

_LABELS_MIN: Final = 20.0
"""Labelled decisions before the weights are measured against a plain majority."""
_JOINT_PRIOR: Final = 20.0
"""What is assumed of two members' errors weighs as much as so many labels."""
_ROUNDING: Final = 1e-9


class Weights:
    """See the module.

    Args:
        guarded: whether the weights are put aside where a plain majority has been better.

    Attributes:
        put_aside: all votes weigh the same because the weights did worse than a majority.
        correlated: some member shares its weight with another.
        usual: mean weight of the members where there are two answers.
    """

    __slots__ = ("_accuracy", "_curves", "_discount", "_equal", "_settings", "correlated", "put_aside", "usual")

    def __init__(
        self, members: Iterable[Member], settings: TeamSettings, knowledge: Knowledge, *, guarded: bool = True
    ) -> None:
        members = tuple(members)
        self._settings = settings
        self.put_aside = guarded and settings.weighting == "learned" and majority_better(settings, knowledge)
        self._equal = settings.weighting == "equal" or self.put_aside
        self._accuracy = {} if self._equal else accuracies(members, settings, knowledge)
        self._discount = {} if self._equal else discounts(members, settings, knowledge)
        curves = (curve for curve in knowledge.calibration if curve.task_class == settings.task_class)
        self._curves = {curve.member: (curve.right[0], curve.right[-1]) for curve in curves}
        self.correlated = any(discount > 1.0 for discount in self._discount.values())
        weights = [self._weight(member.name, 2, None) for member in members]
        self.usual = fsum(weights) / len(weights)

    def of(self, votes: Sequence[Candidate]) -> list[float]:
        """Return the weight of each vote, with as many answers as plausible by now."""
        return self._of(votes, self._plausible(votes))

    def posterior(self, votes: Sequence[Candidate], weights: Sequence[float]) -> float:
        """Return the chance that the first answer is right, if one of the plausible ones is; 0 without votes."""
        if not votes:
            return 0.0
        standings = ranked(votes, weights)
        if self._equal:
            return chance_leads(standings[0].votes, standings[1].votes if len(standings) > 1 else 0)
        highest = max(standings[0].score, 0.0)
        total = fsum(exp(standing.score - highest) for standing in standings)
        total += max(0, self._plausible(votes) - len(standings)) * exp(-highest)
        return exp(standings[0].score - highest) / total

    def decided(self, votes: Sequence[Candidate], outstanding: Sequence[str]) -> bool:
        """Whether the first answer stays the first whatever the members `outstanding` say, or if they say nothing.

        An outstanding vote moves two answers apart by its weight at most, for one or against the other. New answers
        raise K and thereby all weights, so each K that may come is looked at.
        """
        if not votes:
            return False
        now = self._plausible(votes)
        known = bool(self._settings.choices) or self._equal
        leader = ""
        for plausible in range(now, now + (1 if known else len(outstanding) + 1)):
            standings = ranked(votes, self._of(votes, plausible))
            leader = leader or standings[0].answer
            rivals = [standing.score for standing in standings[1:]]
            if len(standings) < plausible:
                rivals.append(0.0)
            swing = fsum(self._swing(member, plausible) for member in outstanding)
            ahead = standings[0].score - max(rivals, default=0.0) - swing
            if standings[0].answer != leader or ahead <= _ROUNDING:
                return False
        return True

    # Inside.

    def _of(self, votes: Sequence[Candidate], plausible: int) -> list[float]:
        return [self._weight(vote.member, plausible, vote.confidence) for vote in votes]

    def _weight(self, member: str, plausible: int, confidence: float | None) -> float:
        if self._equal:
            return 1.0
        accuracy = self._accuracy[member]
        if confidence is not None and (self._settings.confidence_weighting or member in self._curves):
            accuracy = clipped(confidence, self._settings)
        return log((plausible - 1) * accuracy / (1 - accuracy)) / self._discount[member]

    def _swing(self, member: str, plausible: int) -> float:
        """What an outstanding vote may weigh at most, for or against."""
        told = self._curves.get(member, (0.0, 1.0))  # without effect where its confidence does not count
        return max(abs(self._weight(member, plausible, confidence)) for confidence in (*told, None))

    def _plausible(self, votes: Sequence[Candidate]) -> int:
        if self._settings.choices:
            return max(2, len(self._settings.choices))
        return max(2, len({vote.answer for vote in votes}) + 1)


def clipped(accuracy: float, settings: TeamSettings) -> float:
    """Keep an accuracy away from 0 and 1, where a single vote would decide everything."""
    return min(max(accuracy, settings.reliability_clip), 1 - settings.reliability_clip)


def prior(settings: TeamSettings, mean: float | None = None) -> tuple[float, float]:
    """Return the counts of hits and misses that stand for knowing nothing but a mean."""
    share = settings.prior_accuracy if mean is None else mean
    return settings.prior_strength * share, settings.prior_strength * (1 - share)


def accuracies(members: Iterable[Member], settings: TeamSettings, knowledge: Knowledge) -> dict[str, float]:
    """Return each member's accuracy in the class of tasks of the settings, clipped.

    Where nothing is known of a member in that class, its mean over all classes is the prior; else that of the settings.
    """
    skills: dict[tuple[str, str | None], Skill] = {(s.member, s.task_class): s for s in knowledge.skills}
    found: dict[str, float] = {}
    for member in members:
        right, wrong = prior(settings)
        if (overall := skills.get((member.name, None))) is not None:
            right, wrong = prior(settings, overall.right / (overall.right + overall.wrong))
        if (skill := skills.get((member.name, settings.task_class))) is not None:
            right, wrong = skill.right, skill.wrong
        if settings.pessimistic:
            accuracy = beta_quantile(settings.pessimistic_quantile, right, wrong)
        else:
            accuracy = right / (right + wrong)
        found[member.name] = clipped(accuracy, settings)
    return found


def discounts(members: Sequence[Member], settings: TeamSettings, knowledge: Knowledge) -> dict[str, float]:
    """Return what each member's weight is divided by, 1.0 for those that err on their own."""
    if not settings.correlation_guard:
        return {member.name: 1.0 for member in members}
    joint = {frozenset((errors.first, errors.second)): errors for errors in knowledge.joint_errors}
    linked: dict[str, dict[str, float]] = {member.name: {} for member in members}
    for one, other in combinations(members, 2):
        correlation = _correlation(one, other, settings, joint)
        if correlation >= settings.correlation_limit:
            linked[one.name][other.name] = linked[other.name][one.name] = correlation
    # Of a cluster of m whose mean correlation with one is rho, 1 + rho * (m - 1) is 1 + the sum of the correlations;
    # two that are linked only through others count as uncorrelated.
    return {name: 1.0 + fsum(correlations.values()) for name, correlations in linked.items()}


def majority_better(settings: TeamSettings, knowledge: Knowledge) -> bool:
    """Whether the weights have done worse than a plain majority, by more than the margin, on labelled items."""
    for losses in knowledge.losses:
        if losses.task_class == settings.task_class and losses.labels >= _LABELS_MIN:
            return (losses.weighted - losses.majority) / losses.labels > settings.shadow_margin
    return False


def _correlation(
    one: Member, other: Member, settings: TeamSettings, joint: Mapping[frozenset[str], JointErrors]
) -> float:
    assumed = settings.correlation_domain if one.failure_domain == other.failure_domain else 0.0
    errors = joint.get(frozenset((one.name, other.name)))
    if errors is None:
        return assumed
    return (errors.labels * errors.correlation + _JOINT_PRIOR * assumed) / (errors.labels + _JOINT_PRIOR)
