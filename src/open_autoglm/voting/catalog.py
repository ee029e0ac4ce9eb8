"""The strategies by name, each built of members, settings, knowledge and a seed: so a run can be replayed."""

from __future__ import annotations

from typing import Final, Protocol

from open_autoglm.voting.ahead_by_k import AheadByK
from open_autoglm.voting.best_of_n import BestOfN
from open_autoglm.voting.calibration import curves_of
from open_autoglm.voting.cascade import Cascade
from open_autoglm.voting.debate import Debate
from open_autoglm.voting.dynamic_voting import DynamicVoting
from open_autoglm.voting.hedged import Hedged
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.mixture import Mixture
from open_autoglm.voting.self_consistency import SelfConsistency
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.strategy import Strategy
from open_autoglm.voting.universal import UniversalSelfConsistency

__all__ = ["STRATEGIES", "Knowledge", "Member", "make_strategy"]


class _Maker(Protocol):
    def __call__(
        self, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int, /
    ) -> Strategy: ...


STRATEGIES: Final[dict[str, _Maker]] = {
    "ahead_by_k": AheadByK,
    "best_of_n": BestOfN,
    "cascade": Cascade,
    "debate": Debate,
    "dynamic_voting": DynamicVoting,
    "hedged": Hedged,
    "mixture": Mixture,
    "self_consistency": SelfConsistency,
    "universal_self_consistency": UniversalSelfConsistency,
}
"""Name in the configuration -> what makes it: a class whose constructor takes members, settings, knowledge, seed."""


def make_strategy(
    name: str, members: tuple[Member, ...], settings: TeamSettings, knowledge: Knowledge, seed: int
) -> Strategy:
    """Build a strategy that has not begun.

    Args:
        name: one of `STRATEGIES`.
        members: one at least, each with a name of its own.
        settings: those that the strategy does not need are ignored.
        knowledge: of the moment; members of which it says nothing have the prior of the settings.
        seed: of whatever is drawn; the same one gives the same run.

    Raises:
        ValueError: no such strategy, no members, one twice, too few for the settings, or a curve that is none.
    """
    if not members:
        raise ValueError(f"strategy {name!r} has no members")
    if len({member.name for member in members}) < len(members):
        raise ValueError(f"strategy {name!r} names a member twice: {[member.name for member in members]}")
    if (maker := STRATEGIES.get(name)) is None:
        raise ValueError(f"strategy {name!r} is none of {sorted(STRATEGIES)}")
    curves_of(settings, (member.name for member in members))
    return maker(members, settings, knowledge, seed)
