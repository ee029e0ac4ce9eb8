"""The short cut for what is most common: a request in frames for a node, whose answer simply comes.

Its payload goes on untouched under another stream number, and so does the answer. Whatever else happens (an error, a
lost link, a slow node, a client that leaves) turns it into an ordinary call with a running attempt, and the exchange
goes on from there, so no rule of the request path is left out.

| a relayed request is | until | then |
|---|---|---|
| open | first chunk, response | streaming, over |
| streaming | response | over |
| either of these | anything else | an ordinary call |

Invariant: an endpoint's permit and a key's place are given back once, here or by the ordinary call.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from open_autoglm import clock
from open_autoglm.backends.node import NodeBackend
from open_autoglm.errors import AutoGLMError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.plan import Leg, Plan
from open_autoglm.gateway.framed_tally import Tally
from open_autoglm.gateway.snapshot import Snapshot
from open_autoglm.protocol.opcodes import STREAM
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.security.keys import Principal

if TYPE_CHECKING:
    from open_autoglm.gateway.framed_peer import FramedPeer
    from open_autoglm.transport.framed_session import FramedSession, StreamHandler

_tokens: Final = Struct(">II").unpack_from
_FINISH_AT: Final = 8
"""Where a response's preamble says why it ends; 0 for no reason."""
_RESPONSE_BYTES_MIN: Final = 12
_REPLY_MARGIN_S: Final = 0.050
_ALTERNATIVE_SHARE: Final = 0.6
_AMPLE_MS: Final = 10_000
_IN_TIME_FACTOR: Final = 4.0
"""A request with less time than so many usual answers is one to think about, which the exchange does."""


class Lane:
    """Where requests of one key for one model go, as far as that is known beforehand.

    Attributes:
        model: the name asked for.
        principal, snapshot, plan, leg: whose it is, and of which configuration; `leg` is the first one.
        nodes: the endpoints that can be reached by frames as they stand.
        tallies: by endpoint.
        limit_s: seconds until the first content for a whole answer, and for a stream.
        due_s: the same, or sooner where a second attempt may be worth it.
        ample_ms: with more time left, nobody need ask whether the answer comes in time.
    """

    __slots__ = (
        "ample_ms",
        "due_s",
        "gap_s",
        "group",
        "leg",
        "limit_s",
        "model",
        "nodes",
        "plan",
        "principal",
        "queue",
        "snapshot",
        "tallies",
        "total_ms",
        "total_s",
    )

    def __init__(self, model: str, plan: Plan, snapshot: Snapshot, principal: Principal) -> None:
        self.model = model
        self.principal = principal
        self.plan = plan
        self.snapshot = snapshot
        self.leg = leg = plan.legs[0]
        self.group = leg.group
        self.queue = leg.queue
        self.gap_s = leg.gap_s
        self.total_s = plan.total_s
        self.total_ms = int(plan.total_s * 1000)
        self.nodes = {
            endpoint: endpoint.extra
            for endpoint in leg.group.endpoints
            if isinstance(endpoint.extra, NodeBackend) and endpoint.upstream_model in ("", model)
        }
        self.tallies = {endpoint: Tally(model, leg.group.name, endpoint.name) for endpoint in self.nodes}
        self.ample_ms = _AMPLE_MS
        self.limit_s = (_limit_s(leg, plan.total_s, False), _limit_s(leg, plan.total_s, True))
        self.due_s = self.limit_s
        self.look()

    @property
    def has_figures(self) -> bool:
        """Whether something was counted that nobody was told."""
        return any(len(tally) for tally in self.tallies.values())

    def look(self) -> None:
        """Look again at what changes: how fast the endpoints are, and when a second attempt pays. Each second."""
        latency_s = max((endpoint.latency_s for endpoint in self.nodes), default=0.0)
        self.ample_ms = min(_AMPLE_MS, int(latency_s * _IN_TIME_FACTOR * 1000) + 50)
        hedges_s = [self.leg.hedge_s, self.leg.hedge_s]
        if self.leg.hedging is not None:
            hedges_s = [min(hedge_s, self.leg.hedging.delay_s(bool(at))) for at, hedge_s in enumerate(hedges_s)]
        self.due_s = (min(hedges_s[0], self.limit_s[0]), min(hedges_s[1], self.limit_s[1]))


def _limit_s(leg: Leg, remaining_s: float, stream: bool) -> float:
    """As the exchange does: seconds that an attempt has for its first content."""
    most_s = remaining_s - _REPLY_MARGIN_S
    if leg.has_alternative:
        most_s = min(most_s, remaining_s * _ALTERNATIVE_SHARE)
    return min(most_s, leg.timeouts.first_token_s) if stream else most_s


class RelayedRequest:
    """See the module; a `transport.framed_session.StreamHandler`.

    Attributes:
        stream: of the client's connection; `upstream` of the node's.
        due_s: monotonic seconds; nothing was heard by then: make it an ordinary call.
        started_s: when it came; `first_s` when its first content came, 0.0 until then.
        flags, remaining_ms, payload: as they came.
    """

    __slots__ = (
        "_held",
        "_lane",
        "_peer",
        "_permit",
        "_session",
        "_target",
        "due_s",
        "first_s",
        "flags",
        "payload",
        "remaining_ms",
        "started_s",
        "stream",
        "upstream",
    )

    def __init__(
        self,
        peer: FramedPeer,
        lane: Lane,
        session: FramedSession,
        target: Endpoint,
        permit: int,
    ) -> None:
        self._peer = peer
        self._lane = lane
        self._session = session
        self._target = target
        self._permit = permit
        self.first_s = 0.0
        self._held = 0

    @property
    def lane(self) -> Lane:
        """Where it goes."""
        return self._lane

    @property
    def target(self) -> Endpoint:
        """Who was asked."""
        return self._target

    @property
    def address(self) -> str:
        """Of the client."""
        return self._peer.address

    def send(self, stream: int, flags: int, remaining_ms: int, payload: bytes, now_s: float) -> bool:
        """Send it on; False when the link has no room, and nothing has happened."""
        lane = self._lane
        session = self._session
        # As `FramedSession.request`; each call that is saved here is a twentieth of all that a request costs.
        self.upstream = upstream = session.connection.request(payload, flags & STREAM, remaining_ms or lane.total_ms)
        if not upstream:
            return False
        session.handlers[upstream] = self
        self.stream = stream
        self.flags = flags
        self.remaining_ms = remaining_ms
        self.payload = payload
        self.started_s = now_s
        due_s = lane.due_s[flags & STREAM]
        if remaining_ms and remaining_ms < lane.total_ms:
            due_s = min(due_s, _limit_s(lane.leg, remaining_ms / 1000, bool(flags & STREAM)))
        self.due_s = now_s + due_s
        self._target.begin()
        return True

    # The node's connection calls these.

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        now_s = clock.monotonic()
        if len(payload) < _RESPONSE_BYTES_MIN or not payload[_FINISH_AT]:
            self.ordinary(now_s).on_response(flags, chunks, payload)
            return
        peer, lane, target = self._peer, self._lane, self._target
        hub, stream, principal = peer.hub, self.stream, lane.principal
        # As `FramedPeer.relayed`.
        peer.calls.pop(stream, None)
        hub.calls.discard(self)
        principal.requests += 1
        if principal.limiter is not None:
            principal.limiter.release()
        peer.connection.respond(stream, payload, flags)
        seconds = now_s - self.started_s
        tally = lane.tallies[target]
        if self.first_s:
            first_s = self.first_s - self.started_s
            target.succeed(self._permit, now_s, first_s, True, len(self.payload))
            tally.first_s.append(first_s)
            tally.stream_s.append(seconds)
        else:
            first_s = seconds
            target.succeed(self._permit, now_s, seconds, False, len(self.payload))
            tally.whole_s.append(seconds)
        leg = lane.leg
        leg.budget.success()
        if leg.hedging is not None:
            leg.hedging.observe(bool(self.flags & STREAM), first_s)
        if lane.queue.waiting:
            leg.line.wake()
        prompt_tokens, completion_tokens = _tokens(payload)
        tally.prompt_tokens += prompt_tokens
        tally.completion_tokens += completion_tokens
        hub.unkept += 1
        if hub.unkept >= hub.keep_every:
            hub.keep(self, payload, now_s)

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        now_s = clock.monotonic()
        if not self.first_s:
            self.first_s = now_s
            seconds = now_s - self.started_s
            self._permit = self._target.first_token(self._permit, now_s, seconds, len(self.payload))
        peer = self._peer
        self.due_s = now_s + self._lane.gap_s
        gone = peer.connection.chunk(self.stream, payload, flags, choice)
        if peer.shell.paused:
            self._held += gone
        elif gone:
            self._session.consume(self.upstream, gone)

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        self.ordinary(clock.monotonic()).on_error(status, flags, retry_after_ms, payload)

    def on_lost(self, detail: str) -> None:
        self.ordinary(clock.monotonic()).on_lost(detail)

    # The client's connection and the sweep call these.

    def credit(self, released: int) -> None:
        """Chunks that had to wait have gone out: the node may send as much again."""
        self.due_s = clock.monotonic() + self._lane.gap_s
        if self._peer.shell.paused:
            self._held += released
        else:
            self._session.consume(self.upstream, released)

    def pause(self) -> None:
        """The client does not read; the node stops when its credit is used up."""

    def resume(self) -> None:
        """The client reads again."""
        held, self._held = self._held, 0
        self.due_s = clock.monotonic() + self._lane.gap_s if self.first_s else self.due_s
        if held:
            self._session.consume(self.upstream, held)

    def gone(self) -> None:
        """Nobody wants the answer any more. In less than the exchange needs: a client that leaves may leave many."""
        now_s = clock.monotonic()
        lane, peer = self._lane, self._peer
        self._session.cancel(self.upstream)
        self._target.release(self._permit, now_s)
        if lane.queue.waiting:
            lane.leg.line.wake()
        peer.relayed(self)
        peer.hub.left(self, now_s)

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return bool(self.flags & STREAM)

    def drain_cut(self, error: AutoGLMError) -> None:
        """The server stops and cannot wait any longer."""
        self.ordinary(clock.monotonic())
        self._peer.cut(self.stream, error)

    def overdue(self, now_s: float) -> None:
        """Nothing was heard for long: let the exchange see to it, unless it is the client who is slow."""
        if self.first_s and (self._peer.shell.paused or self._held):
            self.due_s = now_s + self._lane.gap_s
            return
        self.ordinary(now_s)

    def ordinary(self, now_s: float) -> StreamHandler:
        """Become an ordinary call with a running attempt; return who hears of that one from now on."""
        lane, target = self._lane, self._target
        stream = bool(self.flags & STREAM)
        attempt = Attempt(target, lane.leg, self._permit, 0, self.started_s)
        attempt.sent_s = self.started_s
        attempt.reused = True
        attempt.first_s = attempt.head_s = self.first_s
        attempt.stage = 2 if self.first_s else 0
        total_s = lane.total_s if not self.remaining_ms else min(lane.total_s, self.remaining_ms / 1000)
        attempt.limit_s = self.started_s + _limit_s(lane.leg, total_s, stream)
        return self._peer.take_over(self, attempt, self._session, now_s)
