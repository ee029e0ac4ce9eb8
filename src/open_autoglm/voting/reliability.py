"""What members have been right about: learned from labels, forgotten with time, dropped when they change.

A member's accuracy in a class of tasks is Beta(right, wrong). Each label first lets what was known fade,
1 + (count - 1) * forgetting, then counts one hit or miss. A class that is new begins with the member's mean over all.

| a record is | until | then |
|---|---|---|
| learning | the hits run off their own mean by more than `change_threshold` (two-sided CUSUM, Page 1954) | cut down |
| cut down | at once | learning, with `change_keep` of its evidence and a new mean |

Invariants: both counts stay above 0; a label changes only the records of those that voted; restoring what `knowledge`
says gives the same; `CLASSES_MAX` classes are kept, the one learned longest ago goes first. Without a label from
outside a member is never judged by a decision that it took part in: by that of the others only, if they are sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import fsum
from typing import Final

from msgspec import convert, to_builtins
from msgspec.structs import replace

from open_autoglm.voting.ballot import ranked
from open_autoglm.voting.candidate import Candidate, Vote
from open_autoglm.voting.knowledge import JointErrors, Knowledge, Losses, Member, Skill
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weights import Weights, prior

CLASSES_MAX: Final = 256
_CHANGE_LABELS_MIN: Final = 30.0
"""Labels before hits are held against their own mean: it means little before."""


class Reliability:
    """See the module.

    Args:
        members: those that may vote.
        settings: of the team; the class of tasks is said with each label.
        knowledge: what was known before; what it says of others than the members is dropped.
    """

    def __init__(self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge | None = None) -> None:
        self._members = {member.name: member for member in members}
        self._settings = settings
        knowledge = Knowledge() if knowledge is None else knowledge
        self._skills = {(s.member, s.task_class): s for s in knowledge.skills if s.member in self._members}
        self._joint = {
            (errors.first, errors.second): errors
            for errors in knowledge.joint_errors
            if errors.first in self._members and errors.second in self._members
        }
        self._losses = {losses.task_class: losses for losses in knowledge.losses}
        self._calibration = knowledge.calibration
        self._known: Knowledge | None = None

    def knowledge(self) -> Knowledge:
        """Return all that is known now; it does not change any more."""
        if self._known is None:
            self._known = Knowledge(
                tuple(self._skills.values()),
                tuple(self._joint.values()),
                tuple(self._losses.values()),
                self._calibration,
            )
        return self._known

    def learn(self, votes: Sequence[Vote], label: str, task_class: str = "") -> list[str]:
        """Take the right answer of an item from outside: from data, a human, or something that checks answers.

        Args:
            votes: of its decision; of members that voted several times, the share of right votes counts once.
            label: in the canonical form of the votes.

        Returns:
            Members whose record was cut down because they have changed suddenly.
        """
        shares = self._right(votes, label)
        if not shares:
            return []
        self._measure(votes, label, task_class)
        changed = [member for member, share in shares.items() if self._count(member, task_class, share, 1.0)]
        wrong = {member: 1.0 - share for member, share in shares.items()}
        for pair in combinations(sorted(wrong), 2):
            self._count_pair(pair, wrong[pair[0]], wrong[pair[1]])
        self._trim(task_class)
        self._known = None
        return changed

    def learn_from_vote(self, votes: Sequence[Vote], task_class: str = "") -> int:
        """Take a decision of the members for a label, where nobody says what is right.

        Each member is judged by what the others decide without it, all of them taken to be as good as the prior says,
        if that is sure enough. What was learned has no part in it: a member trusted too much would confirm itself.

        Returns:
            How many members were judged; 0 where `labels` is not `pseudo`, or such a label has no weight.
        """
        if self._settings.labels != "pseudo" or not self._settings.pseudo_weight:
            return 0
        judged = dict(self._judged(votes))
        for member, share in judged.items():
            self._count(member, task_class, share, self._settings.pseudo_weight)
        if judged:
            self._trim(task_class)
            self._known = None
        return len(judged)

    def snapshot(self) -> dict[str, object]:
        """Return all that is known as plain JSON values."""
        return to_builtins(self.knowledge())  # type: ignore[no-any-return]

    @classmethod
    def restored(cls, members: tuple[Member, ...], settings: TeamSettings, snapshot: object) -> Reliability:
        """Go on from a snapshot.

        Raises:
            msgspec.ValidationError: it is none.
        """
        return cls(members, settings, convert(snapshot, Knowledge))

    # Inside.

    def _right(self, votes: Sequence[Vote], label: str) -> dict[str, float]:
        """Share of right votes, by member."""
        hits: dict[str, list[float]] = {}
        for vote in votes:
            if vote.member in self._members:
                hits.setdefault(vote.member, []).append(float(vote.answer == label))
        return {member: fsum(own) / len(own) for member, own in hits.items()}

    def _judged(self, votes: Sequence[Vote]) -> Iterator[tuple[str, float]]:
        settings = self._settings
        alike = Knowledge(joint_errors=tuple(self._joint.values()))
        weights = Weights(self._members.values(), settings, alike)
        known = _candidates(vote for vote in votes if vote.member in self._members)
        for member in sorted({vote.member for vote in known}):
            others = [vote for vote in known if vote.member != member]
            theirs = weights.of(others)
            if weights.posterior(others, theirs) >= settings.pseudo_confidence:
                winner = ranked(others, theirs)[0].answer
                own = [float(vote.answer == winner) for vote in known if vote.member == member]
                yield member, fsum(own) / len(own)

    def _measure(self, votes: Sequence[Vote], label: str, task_class: str) -> None:
        """Hold the weights against a plain majority: those that decided, or today's records where all counted alike."""
        settings = replace(self._settings, task_class=task_class)
        own = [vote for vote in votes if vote.member in self._members]
        known = _candidates(iter(own))
        weights = [vote.weight for vote in own]
        if len(set(weights)) == 1:
            weights = Weights(self._members.values(), settings, self.knowledge(), guarded=False).of(known)
        weighted = ranked(known, weights)[0].answer != label
        majority = ranked(known, [1.0] * len(known))[0].answer != label
        old = self._losses.pop(task_class, Losses(task_class, 0.0, 0.0, 0.0))
        fade = self._settings.forgetting
        self._losses[task_class] = Losses(
            task_class, old.labels * fade + 1, old.weighted * fade + weighted, old.majority * fade + majority
        )

    def _count(self, member: str, task_class: str, share: float, weight: float) -> bool:
        """Count a label for the class and for all classes together; whether the member changed in this class."""
        overall = self._skills.get((member, None)) or Skill(member, None, *prior(self._settings))
        own = self._skills.pop((member, task_class), None)
        if own is None:
            mean = overall.right / (overall.right + overall.wrong)
            own = Skill(member, task_class, *prior(self._settings, mean))
        self._skills[member, None], _ = self._counted(overall, share, weight)
        self._skills[member, task_class], changed = self._counted(own, share, weight)
        return changed

    def _counted(self, skill: Skill, share: float, weight: float) -> tuple[Skill, bool]:
        settings = self._settings
        fade = settings.forgetting
        right = 1 + (skill.right - 1) * fade + weight * share
        wrong = 1 + (skill.wrong - 1) * fade + weight * (1 - share)
        if not settings.change_detection:
            return replace(skill, right=right, wrong=wrong), False
        count = skill.count + weight
        mean = skill.mean + (share - skill.mean) * weight / count
        below = max(0.0, skill.below + weight * (mean - share - settings.change_tolerance))
        above = max(0.0, skill.above + weight * (share - mean - settings.change_tolerance))
        if count >= _CHANGE_LABELS_MIN and max(below, above) > settings.change_threshold:
            keep = settings.change_keep
            right, wrong = 1 + (right - 1) * keep, 1 + (wrong - 1) * keep
            return Skill(skill.member, skill.task_class, right, wrong), True
        return Skill(skill.member, skill.task_class, right, wrong, count, mean, below, above), False

    def _count_pair(self, pair: tuple[str, str], first_wrong: float, second_wrong: float) -> None:
        old = self._joint.get(pair) or JointErrors(*pair, 0.0, 0.0, 0.0, 0.0)
        fade = self._settings.forgetting
        self._joint[pair] = JointErrors(
            *pair,
            old.labels * fade + 1,
            old.first_wrong * fade + first_wrong,
            old.second_wrong * fade + second_wrong,
            old.both_wrong * fade + first_wrong * second_wrong,
        )

    def _trim(self, task_class: str) -> None:
        """Forget the class that was learned longest ago when there are too many; `task_class` is the newest."""
        if len(self._skills) <= CLASSES_MAX:
            return  # there cannot be more classes than records
        classes = list(dict.fromkeys(name for _, name in reversed(self._skills) if name is not None))
        for name in classes[CLASSES_MAX:]:
            assert name != task_class, "it was learned just now"
            self._losses.pop(name, None)
            for member in self._members:
                self._skills.pop((member, name), None)


def _candidates(votes: Iterator[Vote]) -> list[Candidate]:
    return [Candidate(vote.ask, vote.member, vote.answer) for vote in votes]
