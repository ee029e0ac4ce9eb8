"""The gateway's own clockwork, on a loop that runs nothing by itself."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest
from tests.unit.exchange.harness import Rig

from open_autoglm.admission.settings import SourceSettings
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.line import Line
from open_autoglm.exchange.plan import Plan
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.snapshot import Route, Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.security.keys import Principal
from open_autoglm.server.dialects import PLAIN_FACE
from open_autoglm.transport.http_request import ServerRequest


class Loop:
    """Keeps what is to run later."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.timers.append(callback)


class Accounts:
    """Wants to know nothing."""

    def settle(self, record: RequestRecord) -> None:
        pass


class Broken:
    """A waiter with a defect."""

    def granted(self, now_s: float) -> bool:
        raise ZeroDivisionError

    def shed(self, now_s: float) -> None:
        raise ZeroDivisionError


class Connection:
    """Remembers what a client was answered."""

    def __init__(self) -> None:
        self.answers: list[int] = []

    def respond(self, request: object, status: int, headers: str, body: bytes) -> None:
        self.answers.append(status)


class Request:
    """A client's, as far as a call looks at it."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.headers: dict[str, bytes] = {}
        self.body = b""
        self.answered = False
        self.call: object = None


def gateway_of(plan: Plan, loop: Loop) -> Gateway:
    snapshot = Snapshot(
        1, "", {}, {"model-0": plan}, "model-0", keys=None, anonymous=Principal("anonymous", None, None)
    )
    return Gateway(
        snapshot,
        Accounts(),
        cast(asyncio.AbstractEventLoop, loop),
        PLAIN_FACE,
        ready=str,
        rng=random.Random(1),
        sources=SourceWatch(SourceSettings(), cast(Any, None)),
    )


def test_a_defect_of_a_backend_is_told_to_the_client_that_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig("a,b", start=False)
    gateway = gateway_of(rig.plan, Loop())
    request, record = Request(), RequestRecord("/test", 1000.0, 1)
    call = Call(gateway, cast(ServerRequest, request), Route("/test", b"POST", "infer"), gateway.snapshot, record)
    call.exchange = Exchange(
        rig.plan, call, record, 1600.0, stream=False, affinity=0, may_retry=True, rng=random.Random(1)
    )
    call.exchange.start(1000.0)  # no endpoint has a backend
    assert request.connection.answers == [500]
    assert (record.status, record.code, gateway.in_flight) == (500, "internal_error", 0)
    assert [endpoint.in_flight for endpoint in rig.endpoints.values()] == [0, 0]
    assert "failed" in caplog.text


def test_a_defect_in_a_line_stops_no_clock() -> None:
    line, loop = Line(), Loop()
    gateway = gateway_of(Rig("a", lines=(line,), start=False).plan, loop)
    gateway.start()
    line.queue.offer(Broken(), "", 2, 0.0, 1e12)
    with pytest.raises(ZeroDivisionError):
        loop.timers.pop()()
    assert len(loop.timers) == 1, "the next sweep comes all the same"
    loop.timers.pop()()
    assert len(loop.timers) == 1


@pytest.mark.parametrize(("status", "refused"), [(200, 0), (400, 1), (404, 1), (429, 0), (499, 0), (503, 0)])
def test_what_a_key_asks_for_is_judged_and_not_how_often(status: int, refused: int) -> None:
    gateway = gateway_of(Rig("a", start=False).plan, Loop())
    route, record = Route("/test", b"POST", "infer"), RequestRecord("/test", 1000.0, 1)
    call = Call(gateway, cast(ServerRequest, Request()), route, gateway.snapshot, record)
    call.principal = key = Principal("noisy", None, None)
    call.settle(status, "", "")
    assert (key.requests, key.refused) == (1, refused)
