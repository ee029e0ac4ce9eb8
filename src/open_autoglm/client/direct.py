"""The direct path: requests for a model go to the node that has it, by tickets that the server writes.

| a model's path is | until | then |
|---|---|---|
| asking | a ticket has come and a connection to its node is open | open |
| asking | the server or the node will not have it, or cannot be reached | waiting, longer each time |
| open | 80 % of the ticket's requests or of its time are used | open, and asks for the next one |
| open | the last connection is lost, the node drains | waiting |
| waiting | its time is over | asking |
| any | nobody has asked for the model for a minute | forgotten |

While a path is not open, and for requests that belong to a session or say a priority, the server is asked as ever.
Invariant: a request counts against one ticket, and goes to the server only when it is known that the node has not
taken it, or when its connection was lost before anything of the answer had come and it may run twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct, structs

from open_autoglm import clock
from open_autoglm.client.address import read_address
from open_autoglm.client.direct_path import RENEW_AT, DirectPath, PathTable
from open_autoglm.client.pool import Pool, open_links
from open_autoglm.client.unary import PendingAnswer
from open_autoglm.errors import AutoGLMError, RequestError, UpstreamError
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.opcodes import NO_RETRY, TICKET_REQUEST
from open_autoglm.transport.framed_session import FramedSession

_log = logging.getLogger(__name__)
MODELS_MAX: Final = 64
_SPARE_LEAST: Final = 0.05
_SPARE_STEP: Final = 0.05
_SPARE_MOST: Final = 0.6
IDLE_S: Final = 60.0
_ASK_S: Final = 5.0
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_MAX_S: Final = 30.0
_SETTLE_S: Final = 0.02
"""The server hears of a node's death when we do, and asks others by then."""
_NOT_TAKEN: Final = frozenset(
    (
        "forbidden",
        "invalid_api_key",
        "invalid_signature",
        "model_not_found",
        "no_healthy_endpoint",
        "not_implemented",
        "overloaded",
        "rate_limit_exceeded",
        "server_draining",
        "token_expired",
    )
)
"""The node has not begun with such a request."""
_MAY_RUN_TWICE: Final = frozenset(("internal_error", "stream_interrupted", "upstream_error"))
_BROKEN: Final = frozenset(("no_healthy_endpoint", "server_draining", "stream_interrupted"))
_USED_UP: Final = frozenset(("forbidden", "invalid_api_key", "invalid_signature", "token_expired"))


class TicketTold(Struct, frozen=True):
    """What the server says with a ticket; see `docs/protocol.md`, "Tickets"."""

    ticket: str
    node: str
    address: str
    requests: int
    expires_ms: int
    name: str = ""


class DirectPaths:
    """See the module. Made within a running loop.

    Args:
        server: connections to the server.
        hello: what is said to nodes, but for the ticket.
        connections: to each node.
        connect_timeout_s: to open one.
        tls: context for addresses with TLS.
        secured: whether the server is asked within TLS; then nodes on other machines are too, or not at all.

    Attributes:
        take: says where a request goes; see `PathTable.take`.
        tickets: that were taken into use so far.
    """

    def __init__(
        self,
        server: Pool,
        hello: Hello,
        *,
        connections: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None,
        secured: bool = False,
    ) -> None:
        self._server = server
        self._hello = hello
        self._connections = connections
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._secured = secured
        self._rng = random.Random()
        self._loop = asyncio.get_running_loop()
        table = PathTable(server, self._begin)
        self.take = table.take
        self._paths = table.paths
        self.tickets = 0

    def look(self, model: str) -> None:
        """A node may have no connection open any more: go to the server then."""
        path = self._paths.get(model)
        if path is not None and path.pool is not None and not path.pool.connections:
            path.stop()

    async def failed(self, model: str, error: AutoGLMError, flags: int) -> bool:
        """A node has not answered a request; returns whether the server is to be asked instead, once it is."""
        path = self._paths.get(model)
        code = error.code
        if path is not None and code in _BROKEN:
            path.stop()
        elif path is not None and code in _USED_UP:
            path.expire()
        if code in _MAY_RUN_TWICE and not flags & NO_RETRY:
            await asyncio.sleep(_SETTLE_S)
            return True
        return code in _NOT_TAKEN

    def open(self, model: str) -> bool:
        """Whether requests for a model go to a node now."""
        path = self._paths.get(model)
        return path is not None and path.left > 0

    def close(self, message: str) -> None:
        """End every path; what runs on them ends with an error that says so."""
        for path in self._paths.values():
            if path.task is not None:
                path.task.cancel()
            if path.expiry is not None:
                path.expiry.cancel()
            if path.pool is not None:
                path.pool.close(message)
        self._paths.clear()

    def _begin(self, model: str) -> None:
        if model and len(self._paths) < MODELS_MAX:
            path = self._paths[model] = DirectPath(model)
            path.task = self._loop.create_task(self._keep(path))

    async def _keep(self, path: DirectPath) -> None:
        """Keep a path open for as long as somebody uses it."""
        backoff_s = _BACKOFF_FIRST_S
        used_s = clock.monotonic()
        left = 0
        try:
            while True:
                now_s = clock.monotonic()
                if path.used or path.left != left:
                    path.used, used_s = False, now_s
                elif now_s - used_s > IDLE_S:
                    return
                path.changed.clear()
                try:
                    pause_s = await self._renew(path) * RENEW_AT
                except AutoGLMError as error:
                    _log.info("requests for %s go through the server for now: %s", path.model, error.message)
                    await asyncio.sleep(self._rng.uniform(0.5, 1.0) * backoff_s)
                    backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                    continue
                left = path.left
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await path.changed.wait()
                if path.pool is None:
                    await asyncio.sleep(self._rng.uniform(0.5, 1.0) * backoff_s)
                    backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                else:
                    backoff_s = _BACKOFF_FIRST_S
        finally:
            if self._paths.get(path.model) is path:
                del self._paths[path.model]
            path.stop()

    async def _renew(self, path: DirectPath) -> float:
        """Get the next ticket, and go by it; returns how many seconds it has."""
        asked_s = clock.monotonic()
        told = await self._ask(path.model)
        if path.pool is not None and (told.node != path.node or not path.pool.connections):
            path.stop()
        hello = structs.replace(self._hello, auth=Credentials(ticket=told.ticket))
        if path.pool is None:
            path.pool = await self._open(told, hello)
        else:
            path.pool.renew(hello)
            shown = self._server.codec.encode({"ticket": told.ticket})
            await self._told(path.pool, shown)  # it holds on all connections that showed the one before
        life_s = told.expires_ms / 1000 - (clock.monotonic() - asked_s)
        if life_s <= 0:
            raise UpstreamError("deadline_exceeded", "the ticket was over before the node was reached")
        if path.expiry is not None:
            path.expiry.cancel()
        path.expiry = self._loop.call_later(life_s, path.expire)
        # Where requests come so fast that a ticket was used up before the next one was there, that is asked for sooner.
        if path.left < told.requests * _SPARE_LEAST:
            path.renew_from = min(path.renew_from + _SPARE_STEP, _SPARE_MOST)
        elif path.left > told.requests * (1 - RENEW_AT):
            path.renew_from = max(path.renew_from - _SPARE_STEP, 1 - RENEW_AT)
        path.node = told.node
        path.left = told.requests
        path.renew_at = int(told.requests * path.renew_from)
        self.tickets += 1
        return life_s

    async def _ask(self, model: str) -> TicketTold:
        payload = await self._told(self._server, self._server.codec.encode({"model": model}))
        try:
            return msgspec.convert(self._server.codec.decode(payload), TicketTold)
        except msgspec.ValidationError as error:
            raise UpstreamError("upstream_error", f"the server's ticket cannot be read: {error}") from error

    async def _open(self, told: TicketTold, hello: Hello) -> Pool:
        """Connect to the node of a ticket."""
        address = read_address(told.address)
        if self._secured and not address.private:
            raise RequestError("forbidden", f"the node at {address} speaks no TLS, and the server does")
        timeout_s = self._connect_timeout_s
        links = open_links(
            address, hello, self._connections, connect_timeout_s=timeout_s, tls=self._tls, tls_name=told.name
        )
        pool = Pool(address, self._server.codec, links, waiting_max=1, connect_timeout_s=timeout_s)
        try:
            await pool.place(lambda session: 1, clock.monotonic() + timeout_s)
        except BaseException:
            pool.close("the node was not reached")
            raise
        return pool

    async def _told(self, pool: Pool, payload: bytes) -> bytes:
        """Send TICKET_REQUEST, and return what TICKET says."""
        until_s = clock.monotonic() + _ASK_S
        pending = PendingAnswer(self._loop.create_future(), pool.codec, until_s, _ASK_S)
        session, stream = await pool.place(_sender(pending, payload), until_s)
        try:
            async with asyncio.timeout(_ASK_S):
                return await pending.future
        except TimeoutError as error:
            session.cancel(stream)
            raise UpstreamError("deadline_exceeded", "no ticket came in time") from error
        except asyncio.CancelledError:
            session.cancel(stream)
            raise


def _sender(pending: PendingAnswer, payload: bytes) -> Callable[[FramedSession], int]:
    def send(session: FramedSession) -> int:
        stream = session.connection.open(TICKET_REQUEST, payload)
        if stream:
            session.handlers[stream] = pending
        return stream

    return send
