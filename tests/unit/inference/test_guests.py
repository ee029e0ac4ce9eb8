"""Clients with tickets at a node: what they may do there, and what they may not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.inference.wired import Heard, Wired

from open_autoglm import clock
from open_autoglm.engines.echo import EchoEngine
from open_autoglm.inference.ticket_desk import TicketDesk, ticket_key
from open_autoglm.protocol.client_connection import ClientConnection
from open_autoglm.protocol.handshake import VERSIONS, Credentials, Hello
from open_autoglm.protocol.opcodes import NODE_COMMAND, TICKET, TICKET_REQUEST, UPDATE_BEGIN, USAGE_ACK, USAGE_REPORT
from open_autoglm.protocol.preambles import write_request
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.secret import Secret
from open_autoglm.security.ticket import Ticket, seal_ticket

SECRET = Secret("a secret of the tests")
ISSUER = b"issuer-1"


class Joined(Wired):
    """One more connection to a node."""

    def __init__(self, first: Wired, hello: Hello) -> None:
        self.models, self.service = first.models, first.service
        self.server, self.line = self._connect()
        self.heard = Heard()
        now_s = clock.monotonic()
        self.client = ClientConnection(hello, self.heard, lambda: None, ConnectionSettings(), now_s)
        self.heard.connection = self.client
        self.turn()


@dataclass
class Stand:
    """A node that guests come to."""

    models: tuple[str, ...] = ("echo", "other")
    wired: Wired = field(init=False)

    def __post_init__(self) -> None:
        hello = Hello(versions=list(VERSIONS), codecs=["json"], auth=Credentials(key=SECRET.reveal()))
        self.wired = Wired({name: EchoEngine(name) for name in self.models}, (SECRET,), hello)
        told = self.request(TICKET_REQUEST, {"issuer": ISSUER.hex()})
        self.node = bytes.fromhex(told["node"])

    def ticket(self, number: int, **fields: Any) -> str:
        """A ticket of ours."""
        said: dict[str, Any] = {
            "key": "k",
            "model": "echo",
            "requests": 2,
            "expires_ms": 60_000,
            "priority": 1,
        } | fields
        return seal_ticket(Ticket(ISSUER, number, **said), ticket_key(SECRET, self.node))

    def guest(self, text: str) -> Wired:
        """A client that shows a ticket."""
        return Joined(self.wired, Hello(versions=list(VERSIONS), codecs=["json"], auth=Credentials(ticket=text)))

    def request(self, opcode: int, fields: dict[str, Any], wired: Wired | None = None) -> dict[str, Any]:
        """Open a stream and return what ends it."""
        wired = wired or self.wired
        stream = wired.client.open(opcode, wired.client.codec.encode(fields))
        wired.turn()
        if stream in wired.heard.errors:
            return {"error": wired.heard.errors[stream].code}
        (payload,) = [payload for told, number, payload in wired.heard.others if (told, number) == (TICKET, stream)]
        return wired.client.codec.decode(payload)


def outcome(guest: Wired, model: str = "echo", priority: int = 255) -> str:
    """Ask once; return the answer or the error's code."""
    stream = guest.client.request(write_request(model, "", priority) + guest.client.codec.encode({"prompt": "hi"}))
    guest.turn()
    if stream in guest.heard.errors:
        return guest.heard.errors[stream].code
    return str(guest.heard.answers[stream][1]["text"])


@pytest.fixture
async def stand() -> Stand:
    return Stand()


async def test_a_guest_asks_as_often_as_its_ticket_says(stand: Stand) -> None:
    guest = stand.guest(stand.ticket(1))
    assert [outcome(guest) for _ in range(3)] == ["hi", "hi", "token_expired"]
    assert outcome(guest, "other") == "forbidden"


async def test_a_ticket_is_renewed_where_no_further_model_is_taken(stand: Stand) -> None:
    guest = stand.guest(stand.ticket(1))
    for number in range(2, 65):
        assert "error" not in stand.request(TICKET_REQUEST, {"ticket": stand.ticket(number, model=f"m{number}")}, guest)
    told = stand.request(TICKET_REQUEST, {"ticket": stand.ticket(65, model="another")}, guest)
    assert told == {"error": "invalid_request"}
    assert [outcome(guest), outcome(guest), outcome(guest)] == ["hi", "hi", "token_expired"]
    assert stand.request(TICKET_REQUEST, {"ticket": stand.ticket(66)}, guest) == {"model": "echo", "requests": 2}
    assert outcome(guest) == "hi"


async def test_a_guest_is_told_of_no_other_models(stand: Stand) -> None:
    told = []
    for wired in (stand.guest(stand.ticket(1)), stand.wired):
        stream = wired.client.request(write_request("none", "", 255) + wired.client.codec.encode({"prompt": "hi"}))
        wired.turn()
        error = wired.heard.errors[stream]
        assert error.code == "model_not_found"
        told.append("other" in error.message)
    assert told == [False, True]


async def test_the_next_ticket_holds_on_all_connections_that_showed_the_one_before(stand: Stand) -> None:
    first, second = stand.guest(stand.ticket(1)), stand.guest(stand.ticket(1))
    assert [outcome(first), outcome(second), outcome(second)] == ["hi", "hi", "token_expired"]
    assert stand.request(TICKET_REQUEST, {"ticket": stand.ticket(2)}, first) == {"model": "echo", "requests": 2}
    assert [outcome(second), outcome(first), outcome(first)] == ["hi", "hi", "token_expired"]
    assert stand.request(TICKET_REQUEST, {"ticket": stand.ticket(1)}, first) == {"error": "token_expired"}
    assert stand.guest(stand.ticket(1)).heard.closed is not None


async def test_a_priority_above_the_tickets_is_refused(stand: Stand) -> None:
    guest = stand.guest(stand.ticket(1))
    assert [outcome(guest, priority=2), outcome(guest, priority=1)] == ["forbidden", "hi"]


@pytest.mark.parametrize(
    ("fields", "code"), [({"expires_ms": 0}, "token_expired"), ({"requests": 1}, ""), ({"model": "none"}, "")]
)
async def test_who_is_let_in(stand: Stand, fields: dict[str, Any], code: str) -> None:
    guest = stand.guest(stand.ticket(1, **fields))
    assert (guest.heard.closed or ("",))[0] == code


async def test_what_is_no_ticket_is_turned_away(stand: Stand) -> None:
    for text in ("", "nonsense", seal_ticket(Ticket(ISSUER, 1, "k", "echo", 2, 60_000), ticket_key(SECRET, b"x" * 8))):
        assert (stand.guest(text).heard.closed or ("",))[0] == "invalid_signature"


@pytest.mark.parametrize("opcode", [NODE_COMMAND, UPDATE_BEGIN])
async def test_a_guest_commands_nothing(stand: Stand, opcode: int) -> None:
    guest = stand.guest(stand.ticket(1))
    assert stand.request(opcode, {"command": "drain"}, guest) == {"error": "forbidden"}
    assert stand.request(TICKET_REQUEST, {"issuer": ISSUER.hex()}, guest) == {"error": "invalid_signature"}
    assert not stand.wired.service.draining


async def test_loads_go_to_servers_only(stand: Stand) -> None:
    guest = stand.guest(stand.ticket(1))
    stand.wired.service.tell_load(b"x" * 32)
    guest.turn()
    stand.wired.turn()
    assert guest.heard.others == []
    assert len(stand.wired.heard.others) == 2  # the introduction, and the load


async def test_use_is_reported_until_it_is_acknowledged(stand: Stand) -> None:
    guest = stand.guest(stand.ticket(1))
    assert [outcome(guest), outcome(guest, "other"), outcome(guest)] == ["hi", "forbidden", "hi"]
    desk = stand.wired.service.tickets
    assert desk is not None
    desk.tick()
    stand.wired.turn()
    opcode, _, payload = stand.wired.heard.others[-1]
    body = stand.wired.client.codec.decode(payload)
    (row,) = body["tickets"]
    assert (opcode, body["node"], body["issuer"]) == (USAGE_REPORT, stand.node.hex(), ISSUER.hex())
    assert (row["ticket"], row["key"], row["requests"], row["closed"]) == (1, "k", 2, True)
    assert (row["prompt_tokens"], row["errors"], sum(row["seconds"])) == (2, {}, 2)
    assert not desk.idle
    stand.wired.client.send(USAGE_ACK, 0, stand.wired.client.codec.encode({"issuer": ISSUER.hex()}), arg=1)
    stand.wired.turn()
    desk.tick()
    assert not desk.ledger.issuers()


async def test_a_ledger_that_is_full_refuses() -> None:
    desk = TicketDesk([SECRET], b"n" * 8, clock.monotonic, tickets_max=1)
    key = ticket_key(SECRET, b"n" * 8)
    desk.show(seal_ticket(Ticket(ISSUER, 1, "k", "echo", 2, 60_000), key))
    with pytest.raises(Exception, match="too many tickets"):
        desk.show(seal_ticket(Ticket(ISSUER, 2, "k", "echo", 2, 60_000), key))
