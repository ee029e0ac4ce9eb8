"""A member of the cluster on real sockets: drives `membership.Swim` by UDP, TCP and the event loop's clock.

Invariant: the machine is only ever touched on the event loop, in whole steps: what came in, then its effects. A
datagram is opened, found new and read, in this order, before the machine sees it; whatever fails on the way is counted
and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import socket
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from typing import Any, Final, Self

from open_autoglm import clock
from open_autoglm.cluster.facts import FACTS, ClusterFacts, join_state, read_facts, split_state
from open_autoglm.cluster.push_pull import PushPull
from open_autoglm.cluster.settings import ClusterSettings
from open_autoglm.errors import ServerError
from open_autoglm.membership.effects import Changed, Displaced, Effect, Forgotten, Loaded, Send, Sync
from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.member import (
    ID_BYTES_MAX,
    Member,
    Record,
    Role,
    join_address,
    split_address,
)
from open_autoglm.membership.seal import (
    DATAGRAM_BYTES_MAX,
    ReplayGuard,
    derive_key,
    open_datagram,
    seal_datagram,
)
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.swim import Swim
from open_autoglm.membership.wire import Entry, read_message, read_state, write_state
from open_autoglm.transport.ports import port_error
from open_autoglm.transport.udp import UdpSocket, open_udp

_log = logging.getLogger(__name__)

_TASKS_MAX: Final = 4
"""Exchanges of state that this member began and that run at once."""
_TAKE_OVER_S: Final = 60.0
"""Longest wait for the port of the process that this one replaces."""
_PORT_TRIES: Final = 8
"""A free UDP port may be taken as a TCP port."""
_LEAVE_INTERVALS: Final = 2
_DOUBT_INTERVALS: Final = 4
"""One whose connection comes and goes is not asked out of turn more often than once in so many intervals."""
_TICK_S: Final = 0.001
_FACTS: Final = bytes((FACTS,))
_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]+")

MemberCallback = Callable[[Member], None]


class ClusterMember:
    """See the module; made by `start`.

    Attributes:
        swim: the machine; read it, but change it only through this class.
        facts: what all members share beside who is there.
        on_change: called with each member that came, went, changed its state or what it says of itself.
        on_load: called with each member whose load changed.
        dropped: datagrams that were not authentic, not new or not understood; it only grows.
    """

    def __init__(self, settings: ClusterSettings, secret: bytes, port_option: str = "cluster.bind") -> None:
        """Use `start`."""
        self._port_option = port_option
        self.on_change: list[MemberCallback] = []
        self.on_load: list[MemberCallback] = []
        self.dropped = 0
        self.swim: Swim
        self.facts: ClusterFacts
        self._settings = settings
        self._figures = SwimSettings(interval_s=settings.interval_s, forget_s=settings.forget_s)
        self._key = derive_key(secret, "gossip")
        self._guard = ReplayGuard(2 * self._figures.members_max)
        self._sequence = 0
        self._push_pull = PushPull(secret, self._give_state, self._take_state)
        self._loop = asyncio.get_running_loop()
        self._udp: UdpSocket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._read_load: Callable[[], LoadReport] | None = None
        self._load_timer: asyncio.TimerHandle | None = None
        self._doubted_s: dict[str, float] = {}
        self._joined = False
        self._closed = False

    @classmethod
    async def start(
        cls,
        settings: ClusterSettings,
        *,
        role: Role,
        node_class: str = "",
        address: str = "",
        models: Iterable[tuple[str, str]] = (),
        rng: random.Random | None = None,
        replaces: bool = False,
        port_option: str = "cluster.bind",
    ) -> Self:
        """Open the sockets and begin to join; members come in by and by.

        Args:
            settings: with a secret.
            role: of this process.
            node_class: `cpu`, `gpu`, `tpu` or `edge` for a node.
            address: `HOST:PORT` where this process serves, framed; may follow by `set_address`.
            models: name and version of each model that it serves; may follow by `set_models`.
            rng: the only source of chance.
            replaces: another process of this member still has the port, and is about to close: take over what it
                knows at once, and the port when it is free.
            port_option: how another port is chosen; see `port_error`.

        Raises:
            ServerError: no secret, or the port cannot be had.
            ValueError: too many models, or a name that is none.
        """
        if settings.secret is None:
            raise ServerError("internal_error", "there is no cluster without a secret; set cluster.secret")
        secret = settings.secret.reveal().encode()
        member = cls(settings, secret, port_option)
        port = split_address(settings.bind)[1]
        known, facts = await _ask_predecessor(settings.bind, secret) if replaces and port else ([], b"")
        if not known:
            try:
                port = await member._open()
            except OSError as error:
                raise port_error(error, *split_address(settings.bind), port_option) from error
        record = Record(
            id=settings.name or default_name(port),
            role=role,
            node_class=node_class,
            start=int(clock.wall() * 1e6),
            gossip=join_address(settings.advertise or split_address(settings.bind)[0], port),
            address=address,
            models=tuple(models),
        )
        member.facts = ClusterFacts(record, member._send_to, member._loop)
        try:
            member.swim = Swim(record, member._figures, rng or random.Random(), clock.monotonic(), settings.join)
        except ValueError:
            member.close()
            raise
        if known:
            member.facts.take(facts, record.id)
            others = [entry for entry in known if entry.record.id != record.id]
            member._do(member.swim.merge(others, record.id, clock.monotonic()))
            member._run(member._open_later())
        else:
            member._tick()
        _log.info("member %s of the cluster, at %s", record.id, record.gossip)
        return member

    async def _open_later(self) -> None:
        """Open the sockets when the process that has them closes them; time stands still for the machine until then."""
        until_s = clock.monotonic() + _TAKE_OVER_S
        while True:
            try:
                await self._open()
            except OSError as error:
                if clock.monotonic() > until_s:
                    told = port_error(error, *split_address(self._settings.bind), self._port_option)
                    _log.error("this member cannot be heard: %s", told.message)
                    return
                await asyncio.sleep(self._settings.interval_s / 2)
            else:
                self._tick()
                return

    async def _open(self) -> int:
        host, port = split_address(self._settings.bind)
        for attempt in range(_PORT_TRIES):
            try:
                self._udp = await open_udp(host, port, self._on_datagram, DATAGRAM_BYTES_MAX)
                try:
                    await self._push_pull.listen(host, self._udp.address[1])
                except OSError:
                    self._udp.close()
                    raise
            except OSError:
                if port or attempt + 1 == _PORT_TRIES:
                    raise
            else:
                break
        assert self._udp is not None, "the last try raises"
        return self._udp.address[1]

    # Who is there.

    @property
    def me(self) -> Record:
        """What this member says of itself."""
        return self.swim.roster.me

    @property
    def load(self) -> LoadReport | None:
        """This member's newest report."""
        return self.swim.roster.load

    @property
    def members(self) -> dict[str, Member]:
        """All other members, by name."""
        return self.swim.members

    @property
    def refused(self) -> int:
        """Exchanges of state with somebody who did not know the secret, or spoke nonsense."""
        return self._push_pull.refused

    # What this member says of itself.

    def set_models(self, models: Iterable[tuple[str, str]]) -> None:
        """Say which models, with which versions, this member serves.

        Raises:
            ValueError: too many, or too long names; nothing has changed.
        """
        self._do(self.swim.set_models(tuple(models), clock.monotonic()))

    def set_address(self, address: str) -> None:
        """Say where this member serves, `HOST:PORT`."""
        self._do(self.swim.set_address(address, clock.monotonic()))

    def set_load(self, load: LoadReport) -> None:
        """Say how busy this member is; a report without a number of its own gets the next one."""
        self._do(self.swim.set_load(load, clock.monotonic()))

    def watch_load(self, read: Callable[[], LoadReport]) -> None:
        """Ask for this member's load every half interval, and say it when it changed."""
        self._read_load = read
        self._look_at_load()

    def drain(self) -> None:
        """Say that this member wants no new requests."""
        self._do(self.swim.drain(clock.monotonic()))

    async def leave(self) -> None:
        """Say that this member leaves, give that time to be heard, and close."""
        if self._closed:
            return
        for _ in range(_LEAVE_INTERVALS):
            self._do(self.swim.leave(clock.monotonic()))
            await asyncio.sleep(self._settings.interval_s / 2)
        self.close()

    def close(self) -> None:
        """Close the sockets without a word; idempotent."""
        self._closed = True
        self.facts.close()
        for timer in (self._timer, self._load_timer):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._push_pull.close()
        if self._udp is not None:
            self._udp.close()

    # What is heard elsewhere.

    def hear_load(self, member_id: str, load: LoadReport) -> None:
        """Take a member's load in that came as a frame."""
        self._do(self.swim.hear_load(member_id, load, clock.monotonic()))

    def doubt(self, member_id: str) -> None:
        """Ask a member next, because something else spoke against it; often enough only, so that others get their turn.

        Asking is all: it is suspected only if nothing comes, as when its turn had come.
        """
        now_s = clock.monotonic()
        again_s = self._doubted_s.get(member_id, 0.0) + _DOUBT_INTERVALS * self._settings.interval_s
        if member_id in self.members and now_s >= again_s:
            self._doubted_s[member_id] = now_s
            self.swim.doubt(member_id)

    # The machine.

    def _on_datagram(self, data: bytes, source: tuple[str, int]) -> None:
        try:
            sequence, body = open_datagram(self._key, data)
            if body[:1] == _FACTS:
                self._hear_facts(sequence, body)
                return
            message = read_message(body)
        except GossipError:
            self.dropped += 1
            return
        if message.sender == self.me.id and message.start == self.me.start:
            return
        if not self._guard.is_new(message.sender, message.start, sequence):
            self.dropped += 1
            return
        self._do(self.swim.handle(message, join_address(*source), clock.monotonic()))

    def _hear_facts(self, sequence: int, body: bytes) -> None:
        sender, start, datagram = read_facts(body)
        if sender == self.me.id:
            return
        if not self._guard.is_new(sender, start, sequence):
            self.dropped += 1
            return
        self.facts.hear(sender, start, datagram)

    def _tick(self) -> None:
        self._timer = None
        self._do(self.swim.handle_timeout(clock.monotonic()))

    def _do(self, effects: list[Effect]) -> None:
        """Carry effects out, and wake up again when the machine says."""
        if self._closed:
            return
        for effect in effects:
            match effect:
                case Send():
                    self._send_to(effect.to, effect.message)
                case Sync():
                    self._begin_sync(effect.to)
                case Loaded():
                    _call(self.on_load, effect.member)
                case Changed():
                    self._note(effect)
                    self.facts.note(effect.member)
                    _call(self.on_change, effect.member)
                case Forgotten():
                    self._doubted_s.pop(effect.member.id, None)
                    _call(self.on_change, effect.member)
                case Displaced():
                    message = "another process, at %s, is the member %s too, and started later: this one says no more"
                    _log.error(message + "; give each its cluster.name", effect.record.gossip, effect.record.id)
        if self._udp is None:
            return
        due_s = self.swim.next_deadline()
        timer = self._timer
        now_s = clock.monotonic()
        if timer is not None:
            if timer.when() - self._loop.time() <= due_s - now_s:
                return
            timer.cancel()
        # A loop that counts in milliseconds would fire too early, again and again.
        self._timer = self._loop.call_later(max(due_s - now_s, 0.0) + _TICK_S, self._tick)

    def _send_to(self, address: str, message: bytes) -> None:
        try:
            to = _parted(address)
        except ValueError:
            return
        self._sequence += 1
        if self._udp is not None:
            self._udp.send(seal_datagram(self._key, self._sequence, message), to)

    def _note(self, changed: Changed) -> None:
        member, former = changed
        if member.state != former:
            _log.info("member %s at %s is %s", member.id, member.record.gossip, member.state)

    def _look_at_load(self) -> None:
        if self._read_load is not None and not self._closed:
            self._load_timer = self._loop.call_later(self._settings.interval_s / 2, self._look_at_load)
            self.set_load(self._read_load())

    # Exchanges of state.

    def _begin_sync(self, address: str) -> None:
        if len(self._tasks) < _TASKS_MAX:
            self._run(self._sync(address))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sync(self, address: str) -> None:
        try:
            await self._push_pull.call(address)
        except (OSError, ValueError) as error:
            level = logging.DEBUG if self._joined else logging.WARNING
            _log.log(level, "cannot exchange states with %s: %s", address, str(error) or "no answer in time")

    def _give_state(self) -> bytes:
        return self.facts.give(write_state(self.swim.roster.entries()))

    def _take_state(self, state: bytes, asked: str) -> None:
        members, facts = split_state(state)
        entries = read_state(members, self._figures.members_max + 1)
        if not entries:
            return  # who takes this member's place only wants to know
        peer = entries[0].record.id
        self._joined = self._joined or peer != self.me.id
        self._do(self.swim.merge(entries, peer, clock.monotonic(), asked))
        self.facts.take(facts, peer)


async def _ask_predecessor(address: str, secret: bytes) -> tuple[list[Entry], bytes]:
    """Return what the process knows that has this member's port, its facts unread; nothing when there is none."""
    known: list[Entry] = []
    facts: list[bytes] = []

    def take(state: bytes, asked: str) -> None:
        members, rest = split_state(state)
        known.extend(read_state(members, SwimSettings().members_max + 1))
        facts.append(rest)

    with contextlib.suppress(OSError, GossipError):
        await PushPull(secret, lambda: join_state(write_state([]), b""), take).call(address)
    return known, facts[0] if facts else b""


def default_name(port: int) -> str:
    """Return the name of a member that was given none: host name and port."""
    host = ""
    with contextlib.suppress(OSError):
        host = socket.gethostname()
    return f"{_STRANGE.sub('-', host).strip('.-_')[: ID_BYTES_MAX - 6] or 'member'}-{port}"


@lru_cache(maxsize=2048)
def _parted(address: str) -> tuple[str, int]:
    return split_address(address)


def _call(callbacks: list[MemberCallback], member: Member) -> None:
    for callback in callbacks:
        callback(member)
