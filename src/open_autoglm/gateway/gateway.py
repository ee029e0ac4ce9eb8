"""The request path: who, how much, where; then an exchange. See `ARCHITECTURE.md`, life of a request.

Everything up to the exchange's first attempt runs in one go, without a task, a lock or a wait, on one snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_to_bytes

from open_autoglm import clock
from open_autoglm.admission.classes import NAMES
from open_autoglm.admission.networks import Networks
from open_autoglm.dialects.continuation import Delivered
from open_autoglm.dialects.face import Face
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.line import Line
from open_autoglm.exchange.plan import Leg
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.affinity import affinity_of
from open_autoglm.gateway.answers import error_headers, model_card, models_list, spread
from open_autoglm.gateway.call import Call, Running, timeout_s
from open_autoglm.gateway.door import NOT_FOUND, Door
from open_autoglm.gateway.snapshot import Route, Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.ids import IdSource
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.security.keys import Principal
from open_autoglm.transport.http_request import ServerRequest

_log = logging.getLogger(__name__)
_SWEEP_S = 0.025
"""How often deadlines are looked at: one coarse sweep instead of a timer per request."""
_PUMP_S = 0.01
"""How often lines are looked at while somebody waits in them."""
_HOLD_MIN_S = 0.001
"""The loop's timers are no finer."""
_PLACES_PER_ROOM = 2
"""In a line, for each request that its group has room for."""
_PLACES_MAX = 10_000
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Accounts(Protocol):
    """Who is told of every request that is over: metrics, log, explain records."""

    def settle(self, record: RequestRecord) -> None:
        """Take a finished record. Must cost little and never raise."""


class Gateway:
    """The application behind the data listener; see `transport.application.Application`.

    Args:
        snapshot: the first configuration.
        accounts: told of every finished request.
        loop: where it runs.
        plain_face: the form of errors on routes that speak no dialect.
        ready: reason why requests cannot be served, or empty.
        rng: for backoff.
        sources: who behaves unusually.

    Attributes:
        door: who is let in.
        lines: where requests wait for room.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        accounts: Accounts,
        loop: asyncio.AbstractEventLoop,
        plain_face: Face,
        *,
        ready: Callable[[], str],
        rng: random.Random,
        sources: SourceWatch,
    ) -> None:
        self.snapshot = snapshot
        self.plain_face = plain_face
        self.draining = False
        self.account = accounts.settle
        self._loop = loop
        self._ready = ready
        self._rng = rng
        self._ids = IdSource()
        self._proxies: Networks | None = None
        self._pump_soon = False
        self.door = Door(sources)
        self.lines: dict[Line, Leg] = {}
        self.active: set[Running] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._held_handle: asyncio.TimerHandle | None = None
        self.adopt(snapshot)

    # The transport calls these.

    def on_head(self, request: ServerRequest) -> None:
        snapshot = self.snapshot
        headers = request.headers
        connection = request.connection
        route = snapshot.routes.get(request.target) or self._find_route(snapshot, request)
        client = connection.peer or connection.address()
        if self._proxies is not None:
            client = self._proxies.client(client, headers.get("x-forwarded-for"))
        given_id = headers.get("x-request-id")
        own_id = given_id is None or not _REQUEST_ID.fullmatch(given_id)
        request_id = self._ids.request_id() if given_id is None or own_id else given_id.decode("ascii")
        record = RequestRecord(route.pattern, request.received_s, snapshot.revision, request_id, clock.wall(), client)
        record.own_id = own_id
        request.call = call = Call(self, request, route, snapshot, record)
        try:
            if route.scope != "public":
                # A kept-alive connection that shows the same key again need not be looked up.
                memo = connection.memo
                if memo is not None and memo[0] is snapshot and memo[1] == headers.get("authorization"):
                    call.principal = memo[2]
                elif snapshot.keys is not None:
                    call.principal = self.door.authenticate(snapshot.keys, snapshot, request, record)
                self.door.admit(call)
        except AutoGLMError as error:
            call.refuse(error)

    def on_body(self, request: ServerRequest) -> None:
        call = request.call
        assert isinstance(call, Call)
        if call.held:
            return
        try:
            if call.route.face is None:
                self._answer_plain(call)
            else:
                self.prepare(call, call.route.face).start(call.record.read_s)
        except AutoGLMError as error:
            call.refuse(error)
        except Exception as error:  # the outermost loop of the role: one request's defect must not end the others
            _log.exception("request %s failed", call.record.request_id)
            call.crashed(error)

    def on_gone(self, request: ServerRequest) -> None:
        if isinstance(request.call, Call):
            request.call.gone()

    def on_pause(self, request: ServerRequest) -> None:
        if isinstance(request.call, Call):
            request.call.pause()

    def on_resume(self, request: ServerRequest) -> None:
        if isinstance(request.call, Call):
            request.call.resume()

    def error_answer(self, request: ServerRequest | None, error: AutoGLMError) -> tuple[str, bytes]:
        self.spread(error)
        call = request.call if request is not None else None
        if isinstance(call, Call):
            # Settled here, so that its end is counted once and not again when the connection goes.
            record, face = call.record, call.route.face or self.plain_face
            call.settle(error.http_status, error.code, error.message)
        else:
            record, face = RequestRecord("wire", clock.monotonic(), self.snapshot.revision), self.plain_face
            record.request_id = self._ids.request_id()
            record.status, record.code, record.message = error.http_status, error.code, error.message
            record.ended_s = record.received_s
            record.received_wall_s = clock.wall()
            self.account(record)
        return self.error_headers(error, record), face.error_body(error, record.request_id)

    # Calls come back through these.

    def error_headers(self, error: AutoGLMError, record: RequestRecord, allow: str = "") -> str:
        """Header lines that go with an error; see `answers.error_headers`."""
        return error_headers(error, record, allow, overloaded=self.door.floor > 0)

    def spread(self, error: AutoGLMError) -> None:
        """Draw when the client may come back; see `answers.spread`."""
        spread(error, self._rng)

    def watch(self, call: Running) -> None:
        """A call has an attempt: look after its deadlines."""
        self.active.add(call)

    def unwatch(self, call: Running) -> None:
        """A call is over."""
        self.active.discard(call)

    # The composition root calls these.

    @property
    def in_flight(self) -> int:
        """Requests with an exchange."""
        return len(self.active)

    def queue_depths(self) -> dict[str, float]:
        """How many requests wait, by class."""
        counts = self.door.depths()
        for line in self.lines:
            counts.update(dict(zip(NAMES, line.queue.depths(), strict=True)))
        return {name: counts[name] for name in NAMES}

    def doubt(self, endpoint: Endpoint) -> None:
        """An endpoint is away: whoever still waits for its first word may ask another one at the next sweep."""
        for call in self.active:
            call.exchange.doubt(endpoint)

    def adopt(self, snapshot: Snapshot) -> None:
        """Serve requests whose head comes from now on by another configuration."""
        self.door.forget()
        self.snapshot = snapshot
        self._proxies = snapshot.proxies or None
        # A line that the new configuration does not have is kept until nobody waits in it.
        kept = {line: leg for line, leg in self.lines.items() if line.queue.waiting}
        self.lines = kept | {leg.line: leg for plan in snapshot.plans.values() for leg in plan.legs}
        for line, leg in self.lines.items():
            line.wake = self._wake
            line.queue.capacity = _places(leg)

    def start(self) -> None:
        """Begin to look after deadlines."""
        self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Give up every running exchange."""
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None
        if self._held_handle is not None:
            self._held_handle.cancel()
            self._held_handle = None
        for call in list(self.active):
            call.abort()

    # Inside.

    def prepare(self, call: Call, face: Face) -> Exchange:
        """Where: from the body's few fields to the exchange, which is yet to start."""
        request, record, snapshot = call.request, call.record, call.snapshot
        headers = request.headers
        record.bytes_in = request.body_size
        call.face = face
        call.body = body = request.body
        request.body = b""
        call.view = view = face.read(body)
        has_terms = face.name == "mcp"
        if has_terms and b"text/event-stream" in headers.get("accept", b""):
            view.stream = True
        model = view.model or snapshot.default_model
        plan = snapshot.plan(model, call.principal) if model else None
        record.model = call.model = model
        stream = view.stream is True
        if plan is None:
            raise self._unknown_model(snapshot, call.principal, model)
        if stream:
            record.stream = True
            call.delivered = Delivered.of(view) if plan.stream_failure == "continue" else None
        record.read_s = clock.monotonic()
        call.created_s = int(record.received_wall_s)
        call.request_id = record.request_id
        record.trace_id = call.trace_id = (
            self._trace_id(headers["traceparent"]) if "traceparent" in headers else self._ids.trace_id()
        )
        total_s = plan.total_s
        if "x-request-timeout-ms" in headers:
            total_s = min(total_s, timeout_s(headers["x-request-timeout-ms"]))
        if has_terms and view.timeout_s is not None:
            total_s = min(total_s, view.timeout_s)
        call.deadline_s = deadline_s = record.received_s + total_s
        call.exchange = exchange = Exchange(plan, call, record, deadline_s, self._rng, stream)
        exchange.priority = call.priority
        exchange.tenant = record.client if snapshot.keys is None else record.key
        if snapshot.affinity != "none":
            exchange.affinity = affinity_of(snapshot.affinity, call, headers)
        elif snapshot.steered and plan.model in snapshot.steered:
            exchange.affinity = affinity_of("session", call, headers)
        if has_terms:
            exchange.may_retry = not view.no_retry
        return exchange

    def _trace_id(self, parent: bytes) -> str:
        """The caller's trace, or one of our own."""
        match = _TRACEPARENT.fullmatch(parent)
        return match[1].decode("ascii") if match is not None else self._ids.trace_id()

    def _unknown_model(self, snapshot: Snapshot, principal: Principal, model: str) -> AutoGLMError:
        names = sorted(listing.name for listing in snapshot.visible(principal))
        if not snapshot.plans:
            return ServerError("no_healthy_endpoint", snapshot.absence)
        known = ", ".join(names[:50]) or "none"
        return RequestError(
            "model_not_found", f"no model {model[:200]!r} here; this key may use: {known}", param="model"
        )

    def _find_route(self, snapshot: Snapshot, request: ServerRequest) -> Route:
        """The slow way to a route: query strings, path parameters, unknown paths."""
        path = request.target.partition(b"?")[0]
        route = snapshot.routes.get(path)
        if route is None and path.startswith(snapshot.context_path.encode() + b"/v1/models/"):
            route = snapshot.routes.get(snapshot.context_path.encode() + b"/v1/models/{id}")
        return route or NOT_FOUND

    def _answer_plain(self, call: Call) -> None:
        match call.route.pattern:
            case "/healthz":
                call.reply(b'{"status":"ok"}')
            case "/readyz":
                if self.draining:
                    raise ServerError("server_draining", "not ready: the server is stopping", retry_after_s=1.0)
                reason = self._ready()
                if reason:
                    raise ServerError("no_healthy_endpoint", f"not ready: {reason}", retry_after_s=1.0)
                call.reply(b'{"status":"ready"}')
            case "/v1/models":
                anthropic = "anthropic-version" in call.request.headers
                call.reply(models_list(call.snapshot.visible(call.principal), anthropic))
            case "/v1/models/{id}":
                self._answer_model(call)
            case pattern:
                raise RequestError("not_found", f"{pattern} is not served")

    def _answer_model(self, call: Call) -> None:
        path = call.request.target.partition(b"?")[0]
        name = unquote_to_bytes(path.rpartition(b"/v1/models/")[2]).decode("utf-8", "replace")
        for listing in call.snapshot.visible(call.principal):
            if listing.name == name:
                call.reply(model_card(listing, "anthropic-version" in call.request.headers))
                return
        raise self._unknown_model(call.snapshot, call.principal, name)

    # Time.

    def _wake(self) -> None:
        """Room may have been made: look at the lines in this turn of the loop, once."""
        if not self._pump_soon:
            self._pump_soon = True
            self._loop.call_soon(self._pump)

    def _pump_held(self) -> None:
        """It is the time of one that was held back."""
        self._held_handle = None
        self._pump()

    def _pump(self) -> None:
        """Let in who waits, as far as there is room."""
        self._pump_soon = False
        now_s = clock.monotonic()
        for line, leg in self.lines.items():
            if line.queue.waiting:
                line.queue.capacity = _places(leg)
                hold_s = line.pump(now_s)
                if hold_s and self._held_handle is None:
                    self._held_handle = self._loop.call_later(max(hold_s, _HOLD_MIN_S), self._pump_held)
        for call in self.door.pump(now_s):
            if call.request.dispatched:
                self.on_body(call.request)

    def _sweep(self) -> None:
        now_s = clock.monotonic()
        due = [call for call in self.active if call.exchange.due_s <= now_s]
        for call in due:
            try:
                call.exchange.handle_timeout(now_s)
            except Exception as error:  # as above: one request's defect must not end the others
                _log.exception("request %s failed", call.record.request_id)
                call.crashed(error)
        waiting = self.door.waiting or any(line.queue.waiting for line in self.lines)
        # Before anything that could fail: without the next sweep no request would ever be late.
        self._sweep_handle = self._loop.call_later(_PUMP_S if waiting else _SWEEP_S, self._sweep)
        if waiting:
            self._pump()


def _places(leg: Leg) -> int:
    """How many requests may wait for a group's room."""
    return min(_PLACES_PER_ROOM * sum(endpoint.limit for endpoint in leg.group.endpoints), _PLACES_MAX)
