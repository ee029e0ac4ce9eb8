"""Carries a `Drain` out on a running server: closes what the phases say, and ends what does not end by itself.

Invariant: no request is ended without a word. One that has no answer yet hears 503, a stream that is half told ends
with the error event of its dialect and without its end mark, so nobody takes it for whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from open_autoglm import clock
from open_autoglm.errors import ServerError
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.framed_peer import FramedPeer
from open_autoglm.server.drain import Drain, InFlight, Phase
from open_autoglm.transport.http_connection import HttpConnection

if TYPE_CHECKING:
    from open_autoglm.server.server import Server

_log = logging.getLogger(__name__)
_LOOK_S = 0.02
"""How often it is looked at what is left. Only while stopping: requests do not pay for it."""
_FLUSH_LOOKS = 50
"""Longest wait for last words to reach their clients."""


async def run_drain(server: Server, drain: Drain) -> None:
    """Go through the phases; returns when nothing is left to wait for.

    Args:
        server: taking requests.
        drain: just made.
    """
    _tell(server, drain.phase)
    server.data.ask_to_close()
    server.framed_data.drain(drain.grace_ms(clock.monotonic()), _alternatives(server, drain))
    if drain.replaced:  # a client that gRPC sends away comes again, to the new process
        server.grpc.leave(drain.grace_ms(clock.monotonic()) / 1000)
    while drain.due_s is not None:
        # A look lies between two phases: what the loop has accepted or read meanwhile is served, not forgotten.
        await asyncio.sleep(_LOOK_S)
        server.framed_data.close_drained()
        phase = drain.step(clock.monotonic(), left(server))
        if phase is not None:
            _tell(server, phase)
            await _enter(server, drain, phase)
    for _ in range(_FLUSH_LOOKS):
        if not left(server).unary:
            break
        await asyncio.sleep(_LOOK_S)


def left(server: Server) -> InFlight:
    """Count what is not finished."""
    calls = [call_of(connection) for connection in _busy(server)]
    streams = sum(call is not None and call.record.stream for call in calls)
    framed = [peer.running() for peer in _peers(server)]
    unary = len(calls) - streams + sum(count for count, _ in framed)
    now_s = clock.monotonic()
    unary += sum(shell.unsent or shell.settles(now_s) for shell in server.framed_data.shells)
    grpc_unary, grpc_streams = server.grpc.running()
    streams += grpc_streams + sum(count for _, count in framed)
    return InFlight(unary + grpc_unary, streams, server.data.connections)


def _alternatives(server: Server, drain: Drain) -> list[str]:
    """Where clients may go: to the cluster's other servers, unless another process takes this one's place."""
    return server.discovery.other_servers() if server.discovery is not None and not drain.replaced else []


def call_of(connection: HttpConnection) -> Call | None:
    """The call that a connection waits for; None while its request is being read or its answer sent."""
    call = connection.current.call if connection.current is not None else None
    return call if isinstance(call, Call) else None


def _busy(server: Server) -> Iterator[HttpConnection]:
    return (connection for connection in server.data.open_connections if connection.busy)


def _peers(server: Server) -> list[FramedPeer]:
    return [shell.owner for shell in server.framed_data.shells if isinstance(shell.owner, FramedPeer)]


async def _enter(server: Server, drain: Drain, phase: Phase) -> None:
    match phase:
        case "closing":
            server.data.close_listeners()
            server.grpc.leave(drain.grace_ms(clock.monotonic()) / 1000)
            await asyncio.sleep(_LOOK_S)
            server.data.close_idle()
            # Those that came since: what they have begun has as long as anybody's.
            server.framed_data.drain(drain.grace_ms(clock.monotonic()), _alternatives(server, drain))
        case "streams":
            _end_rest(server, streams=False)
        case "over":
            _end_rest(server, streams=True)


def _end_rest(server: Server, *, streams: bool) -> None:
    """End what has no answer yet, and streams when they are meant too; an answer that is being sent may go on."""
    error = ServerError("server_draining", "the server is stopping; send the request again", retry_after_s=1.0)
    for peer in _peers(server):
        peer.end_rest(error, streams=streams)
    server.grpc.end_rest(error, streams=streams)
    for connection in list(_busy(server)):
        request, call = connection.current, call_of(connection)
        if call is not None and call.record.stream and not streams:
            continue
        if request is None or not request.answered:
            connection.refuse(request, error)
        elif call is not None and streams:
            call.exchange.drain_cut(clock.monotonic())


def _tell(server: Server, phase: Phase) -> None:
    rest = left(server)
    _log.info(
        "draining, %s: %d unary requests, %d streams, %d connections",
        phase,
        rest.unary,
        rest.streams,
        rest.connections,
    )
