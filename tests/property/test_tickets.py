"""Tickets under any order of events: never more requests than they are good for, and everything counted once."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.engines.events import Usage
from open_autoglm.errors import AutoGLMError
from open_autoglm.gateway.usage_book import Lease, UsageBook, UsageRow
from open_autoglm.inference.guest import Guest
from open_autoglm.inference.ticket_desk import TicketDesk, ticket_key
from open_autoglm.inference.ticket_ledger import TicketUse
from open_autoglm.protocol.preambles import PRIORITY_OF_KEY
from open_autoglm.resilience.key_limiter import KeyLimiter
from open_autoglm.resilience.settings import KeyLimits
from open_autoglm.secret import Secret
from open_autoglm.security.keys import Principal
from open_autoglm.security.ticket import Ticket, seal_ticket

SECRET = Secret("a secret of the tests")
NODE = b"node-one"
ISSUERS = (b"server-a", b"server-b")


class Accounts:
    """Adds up what servers were told."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[bytes, int]] = Counter()
        self.tokens = self.errors = self.timed = 0

    def of(self, issuer: bytes) -> Told:
        return Told(self, issuer)


class Told:
    """One server's accounts."""

    def __init__(self, accounts: Accounts, issuer: bytes) -> None:
        self._accounts = accounts
        self._issuer = issuer

    def used(self, row: UsageRow, node: str, lease: Lease | None) -> None:
        assert node == NODE.hex()
        accounts = self._accounts
        # The key's name says whose ticket it is, whoever was told of it.
        accounts.requests[row.key.encode(), row.ticket] += row.requests
        accounts.tokens += row.completion_tokens
        accounts.errors += sum(row.errors.values())
        accounts.timed += sum(row.seconds)


class Line:
    """A server's connection: reports and acknowledgements get lost, come late and come twice."""

    def __init__(self, world: World, issuer: bytes) -> None:
        self._world = world
        self.issuer = issuer

    def report(self, number: int, body: dict[str, Any]) -> None:
        self._world.on_way.append((self, number, {**body, "tickets": [dict(row) for row in body["tickets"]]}))


class World:
    """A node, two servers, and what is on its way between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_s = 1000.0
        self.desk = TicketDesk([SECRET], NODE, lambda: self.now_s, tickets_max=40)
        self.accounts = Accounts()
        self.books = {name: UsageBook(name.hex(), self.accounts.of(name)) for name in ISSUERS}
        self.on_way: list[tuple[Line, int, dict[str, Any]]] = []
        self.acks: list[tuple[int, str]] = []
        self.lines: list[Line] = []
        self.guests: list[Guest] = []
        self.calls: list[tuple[TicketUse, tuple[bytes, int]]] = []
        self.tickets: dict[tuple[bytes, int], Ticket] = {}
        self.begun: Counter[tuple[bytes, int]] = Counter()
        self.running: Counter[tuple[bytes, int]] = Counter()
        self.ended: Counter[tuple[bytes, int]] = Counter()
        self.tokens = self.errors = 0
        self.refusals: set[str] = set()

    def step(self) -> None:
        self.rng.choice(
            (
                self.write, self.show, self.begin, self.begin, self.begin, self.end, self.end, self.leave,
                self.connect, self.lose, self.carry, self.carry, self.acknowledge, self.tick,
            )
        )()  # fmt: skip
        self.now_s += self.rng.choice((0.0, 0.01, 0.6, 3.0))

    def write(self) -> None:
        issuer = self.rng.choice(ISSUERS)
        number = len(self.tickets) + 1
        expires_ms = int((self.now_s - 1000.0) * 1000) + self.rng.choice((500, 20_000, 60_000))
        ticket = Ticket(
            issuer, number, issuer.decode(), "echo", self.rng.randint(1, 6), expires_ms, 2, self.rng.randint(0, 3)
        )
        self.tickets[issuer, number] = ticket

    def show(self) -> None:
        if not self.tickets:
            return
        if not self.guests or self.rng.random() < 0.4:
            self.guests.append(Guest(self.desk))
        ticket = self.rng.choice(list(self.tickets.values()))
        guest = self.rng.choice(self.guests)
        try:
            guest.show(seal_ticket(ticket, ticket_key(SECRET, NODE)))
        except AutoGLMError as error:
            self.refusals.add(error.code)

    def begin(self) -> None:
        if not self.guests:
            return
        guest = self.rng.choice(self.guests)
        seat = guest._seats.get("echo")
        use = seat.use if seat is not None else None
        try:
            call = guest.begin("echo", PRIORITY_OF_KEY, self.now_s)
        except AutoGLMError as error:
            self.refusals.add(error.code)
            return
        assert use is not None
        name = (use.ticket.issuer, use.ticket.number)
        self.begun[name] += 1
        self.running[name] += 1
        assert self.begun[name] <= use.ticket.requests
        assert self.running[name] <= (use.ticket.concurrency or use.ticket.requests)
        assert (self.now_s - 1000.0) * 1000 < use.ticket.expires_ms
        self.calls.append((call, name))

    def end(self) -> None:
        if not self.calls:
            return
        call, name = self.calls.pop(self.rng.randrange(len(self.calls)))
        self.running[name] -= 1
        self.ended[name] += 1
        match self.rng.randrange(3):
            case 0:
                call.failed(0.01, "internal_error")
                self.errors += 1
            case 1:
                call.failed(0.01, "client_closed")
                self.errors += 1
            case _:
                call.answered(Usage(1, 3, "1"), 0.01)
                self.tokens += 3

    def leave(self) -> None:
        if self.guests:
            self.guests.pop(self.rng.randrange(len(self.guests)))

    def connect(self) -> None:
        line = Line(self, self.rng.choice(ISSUERS))
        assert self.desk.introduce(line, line.issuer.hex())["node"] == NODE.hex()
        self.lines.append(line)

    def lose(self) -> None:
        if self.lines:
            self.desk.gone(self.lines.pop(self.rng.randrange(len(self.lines))))

    def carry(self) -> None:
        """One report arrives, or is lost, or arrives and stays on its way all the same."""
        if not self.on_way:
            return
        at = self.rng.randrange(len(self.on_way))
        line, number, body = self.on_way[at] if self.rng.random() < 0.3 else self.on_way.pop(at)
        if self.rng.random() < 0.7:
            self.books[line.issuer].take(number, body, self.now_s)
            self.acks.append((number, body["issuer"]))

    def acknowledge(self) -> None:
        if self.acks:
            number, issuer = self.acks.pop(self.rng.randrange(len(self.acks)))
            if self.rng.random() < 0.7:
                self.desk.acknowledged(number, issuer)

    def tick(self) -> None:
        self.desk.tick()

    def settle(self) -> None:
        """Everything ends, and the network is well."""
        while self.calls:
            self.end()
        for _ in range(200):
            self.now_s += 1.0
            if not {line.issuer for line in self.lines} >= set(ISSUERS):
                self.connect()
            self.tick()
            while self.on_way:
                line, number, body = self.on_way.pop(0)
                self.books[line.issuer].take(number, body, self.now_s)
                self.desk.acknowledged(number, body["issuer"])


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_requests_are_bounded_and_counted_once(seed: int, steps: int) -> None:
    world = World(seed)
    for issuer in ISSUERS:  # each server has a connection at all times, so none is given the other's reports
        line = Line(world, issuer)
        world.desk.introduce(line, issuer.hex())
    for _ in range(steps):
        world.step()
    world.settle()
    told = world.accounts
    assert +told.requests == +world.ended == +world.begun
    assert (told.tokens, told.errors) == (world.tokens, world.errors)
    assert told.timed == sum(world.ended.values())
    assert world.refusals <= {"forbidden", "overloaded", "rate_limit_exceeded", "token_expired"}
    assert world.desk.idle
    assert len(world.desk.ledger) == 0


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.builds(
        KeyLimits,
        requests_per_second=st.sampled_from([0.0, 5.0, 100.0]),
        requests_per_minute=st.sampled_from([0, 300]),
        burst=st.sampled_from([0, 50]),
        concurrency=st.sampled_from([0, 1, 7]),
    ),
)
def test_leases_keep_a_key_within_its_limits(seed: int, limits: KeyLimits) -> None:
    rng = random.Random(seed)
    now_s = 50.0
    limiter = KeyLimiter(limits, now_s)
    leases: list[tuple[int, int]] = []
    granted = singles = 0
    burst = limits.burst or max(1, int(limits.requests_per_second))
    for _ in range(120):
        now_s += rng.choice((0.0, 0.1, 1.0))
        match rng.randrange(4):
            case 0:
                requests, places = limiter.lease(1, 1000, now_s)
                if requests:
                    leases.append((requests, places))
                    granted += requests
                else:
                    assert limiter.refused_by
            case 1 if leases:
                requests, places = leases.pop()
                used = rng.randint(0, requests)
                granted -= requests - used
                limiter.end_lease(requests - used, places, now_s)
            case 2 if singles:
                limiter.release()
                singles -= 1
            case _:
                if not limiter.admit(now_s):
                    granted += 1
                    singles += 1
        places = sum(places for _, places in leases)
        assert limiter.in_flight == places + singles
        if limits.concurrency:
            assert limiter.in_flight <= limits.concurrency
        if limits.requests_per_second:
            assert granted <= burst + limits.requests_per_second * (now_s - 50.0) + 1e-6


def lease_of(book: UsageBook, limiter: KeyLimiter, number: int, now_s: float) -> Lease:
    requests, places = limiter.lease(1, 1000, now_s)
    principal = Principal("k", None, limiter)
    lease = Lease(principal, ("m", "e"), lambda answered: None, requests=requests, places=places, ends_s=now_s + 60.0)
    book.open(number, lease)
    return lease


def report(*, requests: int, closed: bool, issuer: bytes = ISSUERS[0]) -> dict[str, Any]:
    row = {
        "ticket": 1, "key": "k", "model": "m", "requests": requests, "prompt_tokens": 0, "completion_tokens": 0,
        "errors": {}, "seconds": [], "seconds_sum": 0.0, "closed": closed,
    }  # fmt: skip
    return {"node": NODE.hex(), "issuer": issuer.hex(), "tickets": [row]}


def test_what_a_closed_ticket_has_not_used_is_given_back_once() -> None:
    limiter = KeyLimiter(KeyLimits(requests_per_second=0.001, burst=100, concurrency=8), 0.0)
    book = UsageBook(ISSUERS[0].hex(), Accounts().of(ISSUERS[0]))
    lease = lease_of(book, limiter, 1, 0.0)
    assert (lease.requests, lease.places, limiter.remaining(0.0), limiter.in_flight) == (50, 4, 50, 4)
    assert book.take(1, report(requests=10, closed=False), 0.0)
    assert not book.take(1, report(requests=10, closed=False), 0.0)
    assert limiter.remaining(0.0) == 50
    assert book.take(2, report(requests=5, closed=True), 0.0)
    assert not book.take(2, report(requests=5, closed=True), 0.0)
    assert (limiter.remaining(0.0), limiter.in_flight, lease.principal.requests, len(book)) == (85, 0, 15, 0)


def test_places_of_a_ticket_that_nobody_closes_come_back_in_the_end() -> None:
    limiter = KeyLimiter(KeyLimits(requests_per_second=0.001, burst=100, concurrency=8), 0.0)
    book = UsageBook(ISSUERS[0].hex(), Accounts().of(ISSUERS[0]))
    lease_of(book, limiter, 1, 0.0)
    book.sweep(119.9)
    assert limiter.in_flight == 4
    book.sweep(120.0)
    assert (limiter.in_flight, limiter.remaining(0.0), len(book)) == (0, 50, 0)


@pytest.mark.parametrize("change", [{"node": 5}, {"tickets": [{}]}, {"tickets": None}])
def test_a_report_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    book = UsageBook(ISSUERS[0].hex(), Accounts().of(ISSUERS[0]))
    with pytest.raises(AutoGLMError) as caught:
        book.take(1, report(requests=1, closed=True) | change, 0.0)
    assert caught.value.code == "invalid_request"
