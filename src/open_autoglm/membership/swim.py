"""The machine of a member: asks others for signs of life, passes news on, and says who is there.

Pure: it is given messages and the time, and returns what is to be done. Sources: SWIM (Das, Gupta and Motivala, 2002)
for probes, probes through others, and news that ride on them; Lifeguard (Dadgar, Phillips and Currey, 2018) for its
health, suspicions and buddies; memberlist (HashiCorp) for the exchange of full states.

Each period, one interval long, one member is asked, in an order that is shuffled once a round:

| stage of a probe | ends with | then |
|---|---|---|
| asked | an answer | it lives; delay noted |
| asked | a share of the interval | three others are asked to ask it |
| asked through others | an answer by any way | it lives |
| asked through others | the end of the period | it is suspected |

A member that does worse than it should (no answers, helpers silent, itself suspected, late to its own deadlines) counts
that as its own ill health, and asks more slowly until things go well again. One that slept through deadlines puts all
of them off by as long: it cannot know what it missed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from msgspec import structs as struct_of

from open_autoglm.membership import wire
from open_autoglm.membership.effects import Changed, Effect, Send, Sync
from open_autoglm.membership.load import LoadReport, is_news
from open_autoglm.membership.member import Member, Record
from open_autoglm.membership.roster import URGENT_MAX, Roster
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.wire import MESSAGE_BYTES_MAX, Entry, Message, Reported, write_message

_RELAYS_MAX: Final = 256
"""Questions asked for others that wait for an answer."""
_DELAY_SHARE: Final = 0.2
"""Of a new delay in the smoothed one."""
_GONE_EVERY: Final = 4
"""One of so many full exchanges goes to who was taken for dead, so that halves find together again."""
_JOIN_MAX_S: Final = 5.0
_JOIN_GROWTH: Final = 1.6
_LEAVE_FANOUT: Final = 8
_LOAD_REPEATS: Final = 3
"""Each load is told so often, an interval apart: datagrams may be lost."""
_LOAD_REFRESH: Final = 8
"""Intervals after which a load that stays is told again."""


@dataclass(slots=True)
class _Probe:
    """The question of this period."""

    target: str
    nonce: int
    sent_s: float
    indirect_s: float
    judged_s: float
    helpers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Relay:
    """A question that is asked for another member."""

    asker: str
    nonce: int
    target: str
    nack_s: float


class Swim:
    """See the module.

    Args:
        me: what this member says of itself at first.
        settings: figures.
        rng: the only source of chance.
        now_s: monotonic seconds.
        seeds: `HOST:PORT` of members to join.

    Attributes:
        roster: who is there.
        health: 0 when this member does well, up to `health_max`.
    """

    def __init__(
        self, me: Record, settings: SwimSettings, rng: random.Random, now_s: float, seeds: Iterable[str] = ()
    ) -> None:
        self.roster = Roster(me, settings, rng)
        self.health = 0
        self._settings = settings
        self._rng = rng
        self._seeds = tuple(seed for seed in seeds if seed != me.gossip)
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}
        self._nonce = rng.getrandbits(32)
        self._round: list[str] = []
        self._period_s = now_s + rng.random() * settings.interval_s
        self._seed_names: dict[str, str] = {}
        self._gossip_s = inf
        self._greet_s = now_s
        self._sync_s = now_s
        self._syncs = 0
        self._join_wait_s = settings.interval_s
        self._load_s = inf
        self._load_sent_s = -inf
        self._load_left = 0

    @property
    def members(self) -> dict[str, Member]:
        """All other members, by id."""
        return self.roster.members

    # What the driver tells.

    def handle(self, message: Message, source: str, now_s: float) -> list[Effect]:
        """Take a message in that came from `source`, `HOST:PORT`."""
        roster = self.roster
        known = roster.members.get(message.sender)
        if known is not None and known.record.start == message.start:
            known.heard_s = now_s
        elif now_s >= self._greet_s and not roster.leaving:
            # It knows this member, and this one not it: one of both has started anew.
            self._greet_s = now_s + self._settings.interval_s
            roster.effects.append(Sync(source))
        match message.kind:
            case wire.PING if message.target == roster.me.id:
                self._send(wire.ACK, source, message.sender, message.nonce, roster.me.id)
            case wire.ACK:
                self._answered(message, now_s)
            case wire.NACK:
                probe = self._probe
                if probe is not None and probe.nonce == message.nonce:
                    probe.helpers.discard(message.sender)
            case wire.PING_REQUEST:
                self._ask_for(message, source, now_s)
        refuted = roster.refuted
        roster.hear(message.news, now_s)
        if roster.refuted > refuted:
            self._feel(1)
        return self._take(now_s)

    def merge(self, entries: Iterable[Entry], peer: str, now_s: float, asked: str = "") -> list[Effect]:
        """Take in the full state of the member `peer`; `asked` is where a `Sync` of this member's own went to."""
        if asked in self._seeds:
            self._seed_names[asked] = peer
        self.roster.merge(entries, peer, now_s)
        return self._take(now_s)

    def set_load(self, load: LoadReport, now_s: float) -> list[Effect]:
        """Say how busy this member is; servers hear of a change at once, at most twice an interval."""
        roster = self.roster
        former = roster.load
        if former is not None and not is_news(former, load):
            return []
        # Who numbers its reports itself, because some go another way as well, is not renumbered.
        number = max(load.number, 1 if former is None else former.number + 1)
        numbered = struct_of.replace(load, number=number)
        roster.load = numbered
        self._tell_load(_LOAD_REPEATS, now_s)
        return self._take(now_s)

    def hear_load(self, member_id: str, load: LoadReport, now_s: float) -> list[Effect]:
        """Take a member's load in that came on another way, as a frame."""
        member = self.members.get(member_id)
        if member is None:
            return []
        self.roster.hear_load(Reported(member_id, member.record.start, load), now_s)
        return self._take(now_s)

    def set_models(self, models: tuple[tuple[str, str], ...], now_s: float) -> list[Effect]:
        """Say which models this member serves.

        Raises:
            ValueError: too many, or too long names; nothing has changed.
        """
        return self._say(struct_of.replace(self.roster.me, models=models), now_s)

    def set_address(self, address: str, now_s: float) -> list[Effect]:
        """Say where this member serves."""
        return self._say(struct_of.replace(self.roster.me, address=address), now_s)

    def drain(self, now_s: float) -> list[Effect]:
        """Say that this member wants no new requests."""
        return self._say(struct_of.replace(self.roster.me, draining=True), now_s)

    def doubt(self, member_id: str) -> None:
        """Ask a member next, because something else spoke against it."""
        urgent = self.roster.urgent
        if member_id in self.members and member_id not in urgent and len(urgent) < URGENT_MAX:
            urgent.append(member_id)

    def leave(self, now_s: float) -> list[Effect]:
        """Say to some that this member leaves; they pass it on."""
        self.roster.leave()
        others = self.roster.present()
        for member in self._rng.sample(others, min(_LEAVE_FANOUT, len(others))):
            self._send(wire.GOSSIP, member.record.gossip, member.id, 0, "")
        return self._take(now_s)

    # Time.

    def next_deadline(self) -> float:
        """When `handle_timeout` is to be called, monotonic seconds."""
        deadline_s = min(self._period_s, self._gossip_s, self._sync_s, self._load_s, self.roster.next_deadline())
        if self._probe is not None:
            deadline_s = min(deadline_s, self._probe.indirect_s)
        for relay in self._relays.values():
            deadline_s = min(deadline_s, relay.nack_s)
        return deadline_s

    def handle_timeout(self, now_s: float) -> list[Effect]:
        """Do what is due."""
        late_s = now_s - self.next_deadline()
        if late_s > self._settings.interval_s:
            self._slept(late_s)
        probe = self._probe
        if probe is not None and probe.indirect_s <= now_s:
            self._ask_others(probe)
        if self._period_s <= now_s:
            self._next_period(now_s)
        self._nack(now_s)
        self.roster.expire(now_s)
        if self._load_s <= now_s:
            self._report(now_s)
        if self._gossip_s <= now_s:
            self._gossip(now_s)
        if self._sync_s <= now_s:
            self._sync(now_s)
        return self._take(now_s)

    def _slept(self, late_s: float) -> None:
        self._feel(1)
        self.roster.put_off(late_s)
        if self._probe is not None:
            # Its answer may lie in the socket, unread.
            self._probe.indirect_s += late_s
            self._probe.judged_s += late_s
            self._period_s += late_s

    # Probes.

    def _next_period(self, now_s: float) -> None:
        probe = self._probe
        if probe is not None:
            self._probe = None
            self._judge(probe, now_s)
        scale = 1 + self.health
        self._period_s = now_s + self._settings.interval_s * scale
        if self.roster.leaving:
            return
        member = self._next_target()
        if member is None:
            return
        nonce = self._next_nonce()
        indirect_s = now_s + self._settings.interval_s * self._settings.probe_share * scale
        self._probe = _Probe(member.id, nonce, now_s, indirect_s, self._period_s)
        self._send(wire.PING, member.record.gossip, member.id, nonce, member.id)

    def _next_target(self) -> Member | None:
        members = self.members
        urgent = self.roster.urgent
        while urgent:
            member = members.get(urgent.pop(0))
            if member is not None and member.present:
                return member
        for _ in range(2):
            while self._round:
                member = members.get(self._round.pop())
                if member is not None and member.present:
                    return member
            self._round = [member.id for member in self.roster.present()]
            self._rng.shuffle(self._round)
        return None

    def _ask_others(self, probe: _Probe) -> None:
        probe.indirect_s = inf
        able = [m for m in self.members.values() if m.state in ("alive", "draining") and m.id != probe.target]
        for helper in self._rng.sample(able, min(self._settings.helpers, len(able))):
            probe.helpers.add(helper.id)
            self._send(wire.PING_REQUEST, helper.record.gossip, helper.id, probe.nonce, probe.target)

    def _answered(self, message: Message, now_s: float) -> None:
        probe = self._probe
        if probe is not None and message.nonce == probe.nonce and message.target == probe.target:
            self._probe = None
            self._feel(-1)
            member = self.members.get(probe.target)
            if member is None:
                return
            member.heard_s = now_s
            if message.sender == probe.target:
                delay_s = now_s - probe.sent_s
                known_s = member.delay_s
                member.delay_s = delay_s if known_s is None else known_s + (delay_s - known_s) * _DELAY_SHARE
            return
        relay = self._relays.pop(message.nonce, None)
        if relay is not None and message.sender == relay.target:
            self._send(wire.ACK, relay.asker, "", relay.nonce, relay.target)

    def _ask_for(self, message: Message, source: str, now_s: float) -> None:
        target = self.members.get(message.target)
        if target is None or len(self._relays) >= _RELAYS_MAX:
            self._send(wire.NACK, source, message.sender, message.nonce, message.target)
            return
        nonce = self._next_nonce()
        nack_s = now_s + self._settings.interval_s * self._settings.probe_share
        self._relays[nonce] = _Relay(source, message.nonce, message.target, nack_s)
        self._send(wire.PING, target.record.gossip, target.id, nonce, target.id)

    def _nack(self, now_s: float) -> None:
        for nonce in [nonce for nonce, relay in self._relays.items() if relay.nack_s <= now_s]:
            relay = self._relays.pop(nonce)
            self._send(wire.NACK, relay.asker, "", relay.nonce, relay.target)

    def _judge(self, probe: _Probe, now_s: float) -> None:
        """Nothing came: suspect the member, and take note of helpers that were silent as well."""
        asked = min(self._settings.helpers, self.roster.count - 2)
        self._feel(len(probe.helpers) if asked > 0 else 1)
        member = self.members.get(probe.target)
        if member is not None and member.present:
            self.roster.suspect(member, now_s)

    def _feel(self, worse: int) -> None:
        self.health = min(max(self.health + worse, 0), self._settings.health_max)

    # News and states.

    def _gossip(self, now_s: float) -> None:
        others = self.roster.present()
        for member in self._rng.sample(others, min(self._settings.fanout, len(others))):
            if not self.roster.rumours:
                break
            self._send(wire.GOSSIP, member.record.gossip, member.id, 0, "", own_load=False)
        self._gossip_s = inf

    def _report(self, now_s: float) -> None:
        self._load_left -= 1
        self._load_sent_s = now_s
        self._load_s = now_s + self._settings.interval_s * (1 if self._load_left > 0 else _LOAD_REFRESH)
        watchers = [member for member in self.roster.present() if member.record.role == "server"]
        if len(watchers) > self._settings.watchers_max:
            watchers = self._rng.sample(watchers, self._settings.watchers_max)
        for member in watchers:
            self._send(wire.GOSSIP, member.record.gossip, member.id, 0, "")

    def _sync(self, now_s: float) -> None:
        self._syncs += 1
        self.roster.forget(now_s)
        others = [member.record.gossip for member in self.roster.present()]
        lost = [seed for seed in self._seeds if not self._is_present(seed)]
        if lost or not others:
            # Look for who should be there: soon, and ever more slowly while nobody answers.
            self._join_wait_s = min(self._join_wait_s * _JOIN_GROWTH, _JOIN_MAX_S)
            self._sync_s = now_s + self._join_wait_s * (0.5 + self._rng.random())
        else:
            self._join_wait_s = self._settings.interval_s
            self._sync_s = now_s + self._settings.sync_s * (0.5 + self._rng.random())
        if not lost and (not others or self._syncs % _GONE_EVERY == 0):
            lost = [member.record.gossip for member in self.members.values() if member.state == "dead"]
        if lost or others:
            self.roster.effects.append(Sync(self._rng.choice(lost or others)))

    def _is_present(self, seed: str) -> bool:
        """Whether who answered at a seed's address is there."""
        name = self._seed_names.get(seed)
        member = self.members.get(name) if name is not None else None
        return name == self.roster.me.id or (member is not None and member.present)

    def _say(self, record: Record, now_s: float) -> list[Effect]:
        if record != self.roster.me:
            self.roster.say(record)
        return self._take(now_s)

    def _send(self, kind: int, to: str, receiver: str, nonce: int, target: str, *, own_load: bool = True) -> None:
        roster = self.roster
        if roster.displaced:
            return
        news = roster.told_of(receiver) if receiver else []
        if own_load:
            news += roster.my_load()
        room = MESSAGE_BYTES_MAX - 2 * 65 - 13 - sum(map(len, news))
        news += roster.rumours.take(room, roster.count)
        sender = (roster.me.id, roster.me.start)
        roster.effects.append(Send(to, write_message(kind, sender, nonce, target, news)))

    def _next_nonce(self) -> int:
        self._nonce = (self._nonce + 1) & 0xFFFFFFFF
        return self._nonce

    def _take(self, now_s: float) -> list[Effect]:
        """Hand out what is to be done; while there are news, they are told every half interval."""
        roster = self.roster
        if self._gossip_s == inf and roster.rumours and roster.members and not roster.leaving:
            self._gossip_s = now_s + self._settings.interval_s / 2
        effects, roster.effects = roster.effects, []
        for effect in effects:
            if isinstance(effect, Changed) and effect.former is None and effect.member.record.role == "server":
                self._tell_load(1, now_s)
        return effects

    def _tell_load(self, times: int, now_s: float) -> None:
        if self.roster.load is not None:
            self._load_left = max(self._load_left, times)
            self._load_s = min(self._load_s, max(now_s, self._load_sent_s + self._settings.interval_s / 2))
