"""Who is there: the members as this one knows them, and how news change that.

Invariant: a member's age `(start, incarnation)` never falls, and at one age its state goes only from alive or draining
to suspect, from there to dead, and from anything to left. So news may come in any order, twice, or late, and members
who have heard the same news know the same. What changes something is passed on; what does not is not.

Nobody but a member itself makes it alive again: it contradicts a suspicion by a record of a higher incarnation (SWIM,
section 4.2).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from msgspec import structs as struct_of

from open_autoglm.membership.effects import Changed, Displaced, Effect, Forgotten, Loaded
from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.member import Member, Record, State
from open_autoglm.membership.rumours import Rumours
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.suspicion import Suspicion
from open_autoglm.membership.wire import (
    Entry,
    News,
    Reported,
    Verdict,
    write_record,
    write_reported,
    write_verdict,
)

URGENT_MAX: Final = 16
"""Suspects that are asked out of turn, at most."""


class Roster:
    """See the module.

    Args:
        me: this member's first record.
        settings: figures.
        rng: the only source of chance.

    Attributes:
        me: this member's newest record.
        load: this member's newest report; None while there was none.
        leaving: this member said that it leaves; or another took its name, and it is `displaced`.
        members: all others, by id.
        count: members that are taken to be there, this one included.
        rumours: what is passed on.
        effects: for the driver, in order; whoever calls takes them.
        urgent: members to ask out of turn.
        refuted: how often this member had to contradict; it only grows.
        turned_away: members that were not taken in, because there are too many; it only grows.
    """

    __slots__ = (
        "_rng",
        "_settings",
        "_suspicions",
        "count",
        "displaced",
        "effects",
        "leaving",
        "load",
        "me",
        "members",
        "refuted",
        "rumours",
        "turned_away",
        "urgent",
    )

    def __init__(self, me: Record, settings: SwimSettings, rng: random.Random) -> None:
        self.me = me
        self.load: LoadReport | None = None
        self.leaving = self.displaced = False
        self.members: dict[str, Member] = {}
        self.rumours = Rumours(settings.retransmit_factor)
        self.effects: list[Effect] = []
        self.urgent: list[str] = []
        self.count = 1
        self.refuted = self.turned_away = 0
        self._settings = settings
        self._rng = rng
        self._suspicions: dict[str, Suspicion] = {}
        self.rumours.spread_record(me.id, write_record(me))

    # What is known.

    def present(self) -> list[Member]:
        """Other members that are taken to be there."""
        return [member for member in self.members.values() if member.present]

    def entries(self) -> list[Entry]:
        """Everything that is known, this member first."""
        mine: State = "left" if self.leaving else "draining" if self.me.draining else "alive"
        others = (Entry(member.state, member.record, member.load) for member in self.members.values())
        return [Entry(mine, self.me, self.load), *others]

    def told_of(self, sender: str) -> list[bytes]:
        """What a member must hear first when it is spoken to: that it is suspected, or taken for dead.

        Lifeguard's buddy system: it hears of it in the question itself, and can contradict at once.
        """
        member = self.members.get(sender)
        if member is None or member.state not in ("suspect", "dead"):
            return []
        verdict = Verdict(member.state, member.id, *member.age, self.me.id)
        return [write_verdict(verdict)]

    def my_load(self) -> list[bytes]:
        """This member's load as news, if there is any."""
        if self.load is None:
            return []
        return [write_reported(Reported(self.me.id, self.me.start, self.load))]

    # What this member says of itself.

    def say(self, record: Record) -> None:
        """Change what this member says of itself, under a new incarnation.

        Raises:
            ValueError: it is too long; nothing has changed.
        """
        newer = struct_of.replace(record, incarnation=self.me.incarnation + 1)
        self.rumours.spread_record(newer.id, write_record(newer))
        self.me = newer

    def leave(self) -> None:
        """Say that this member leaves."""
        self.leaving = True
        verdict = Verdict("left", self.me.id, *self.me.age, self.me.id)
        self.rumours.spread_record(self.me.id, write_verdict(verdict))

    # News.

    def hear(self, news: Iterable[News], now_s: float) -> None:
        """Take news in."""
        for item in news:
            match item:
                case Record():
                    self._hear_record(item, now_s)
                case Verdict():
                    self._hear_verdict(item, now_s)
                case Reported():
                    self.hear_load(item, now_s)

    def merge(self, entries: Iterable[Entry], peer: str, now_s: float) -> None:
        """Take another member's full state in; whom it takes for dead is a suspect here, who may contradict."""
        for state, record, load in entries:
            known = record.id in self.members or record.id == self.me.id
            if not known and state in ("dead", "left"):
                continue
            self._hear_record(record, now_s)
            if state in ("suspect", "dead", "left"):
                said = "left" if state == "left" else "suspect"
                self._hear_verdict(Verdict(said, record.id, *record.age, peer), now_s)  # type: ignore[arg-type]
            if load is not None:
                self.hear_load(Reported(record.id, record.start, load), now_s)

    def hear_load(self, reported: Reported, now_s: float) -> None:
        """Take a member's load in, if it is newer than what is known."""
        member = self.members.get(reported.id)
        if member is None or member.record.start != reported.start:
            return
        known = member.load
        if known is not None and reported.load.number <= known.number:
            return
        member.load = reported.load
        member.heard_s = now_s
        self.effects.append(Loaded(member))

    def suspect(self, member: Member, now_s: float) -> None:
        """Suspect a member that gave no sign of life."""
        self._hear_verdict(Verdict("suspect", member.id, *member.age, self.me.id), now_s)

    def _hear_record(self, record: Record, now_s: float) -> None:
        if record.id == self.me.id:
            self._hear_of_me(record)
            return
        member = self.members.get(record.id)
        state: State = "draining" if record.draining else "alive"
        if member is None:
            if len(self.members) >= self._settings.members_max:
                self.turned_away += 1
                return
            member = Member(record, state, now_s, now_s)
            self.members[record.id] = member
            self.count += 1
            former = None
        elif record.age > member.record.age:
            if record.start != member.record.start:
                # A new process counts its reports anew.
                member.load = member.delay_s = None
                member.judged = -1
            former = member.state
            member.record = record
            if record.incarnation > member.judged:
                member.heard_s = now_s
                self._revive(member, state, now_s)
        else:
            return
        self.rumours.spread_record(record.id, write_record(record))
        self.effects.append(Changed(member, former))

    def _hear_of_me(self, record: Record) -> None:
        mine = self.me
        if record.age <= mine.age or self.leaving:
            return
        if record.start > mine.start and record.gossip != mine.gossip:
            self.leaving = self.displaced = True
            self.rumours.spread_record(record.id, write_record(record))
            self.effects.append(Displaced(record))
            return
        # An echo of a former life: the clock went back since.
        self.me = struct_of.replace(mine, start=max(mine.start, record.start + 1))
        self.say(self.me)

    def _hear_verdict(self, verdict: Verdict, now_s: float) -> None:
        if verdict.id == self.me.id:
            if not self.leaving and (verdict.start, verdict.incarnation) >= self.me.age:
                self._contradict(verdict)
            return
        member = self.members.get(verdict.id)
        if member is None or (verdict.start, verdict.incarnation) < member.age:
            return
        if verdict.start > member.record.start:
            return  # Its record is on the way; before it there is nobody to judge.
        if verdict.incarnation > member.age[1]:
            # It has contradicted what was said before; the record that did is on the way.
            self._revive(member, "alive", now_s)
        member.judged = verdict.incarnation
        if verdict.state == "suspect":
            self._hear_suspicion(member, verdict, now_s)
        elif member.state != "left" and verdict.state != member.state:
            self._end(member, verdict.state, verdict.by, now_s)

    def _revive(self, member: Member, state: State, now_s: float) -> None:
        self._suspicions.pop(member.id, None)
        self.count += not member.present
        if member.state != state:
            member.state = state
            member.since_s = now_s

    def _contradict(self, verdict: Verdict) -> None:
        self.refuted += 1
        start = max(self.me.start, verdict.start)
        incarnation = max(self.me.incarnation, verdict.incarnation)
        self.say(struct_of.replace(self.me, start=start, incarnation=incarnation))

    def _hear_suspicion(self, member: Member, verdict: Verdict, now_s: float) -> None:
        if not member.present:
            return
        suspicion = self._suspicions.get(member.id)
        if suspicion is not None:
            if suspicion.confirm(verdict.by):
                self.rumours.spread_verdict(member.id, write_verdict(verdict))
            return
        count = self.count
        self._suspicions[member.id] = Suspicion(verdict.by, now_s, count, self._settings)
        former = member.state
        member.state = "suspect"
        member.since_s = now_s
        self.rumours.spread_verdict(member.id, write_verdict(verdict))
        # A few look for themselves at once, so that confirmations come soon; if all did, that would be a storm.
        chance = 2.0 * self._settings.confirmations / count
        if verdict.by != self.me.id and self._rng.random() < chance and len(self.urgent) < URGENT_MAX:
            self.urgent.append(member.id)
        self.effects.append(Changed(member, former))

    def _end(self, member: Member, state: State, by: str, now_s: float) -> None:
        former = member.state
        self._suspicions.pop(member.id, None)
        self.count -= member.present
        member.state = state
        member.since_s = now_s
        verdict = Verdict("left" if state == "left" else "dead", member.id, *member.age, by)
        self.rumours.spread_verdict(member.id, write_verdict(verdict))
        self.effects.append(Changed(member, former))

    # Time.

    def next_deadline(self) -> float:
        """When the next suspicion ends; infinity when there is none."""
        return min((each.deadline_s for each in self._suspicions.values()), default=float("inf"))

    def put_off(self, by_s: float) -> None:
        """Give every suspect more time, because this process slept."""
        for suspicion in self._suspicions.values():
            suspicion.put_off(by_s)

    def expire(self, now_s: float) -> None:
        """Take for dead whose suspicion was not contradicted in time."""
        for name in [name for name, each in self._suspicions.items() if each.deadline_s <= now_s]:
            self._end(self.members[name], "dead", self.me.id, now_s)

    def forget(self, now_s: float) -> None:
        """Drop members that died or left long ago."""
        since_s = now_s - self._settings.forget_s
        for member in [each for each in self.members.values() if not each.present and each.since_s <= since_s]:
            del self.members[member.id]
            self.effects.append(Forgotten(member))
