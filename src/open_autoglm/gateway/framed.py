"""What all clients of the framed protocol share: who they are, where their requests may go, time and figures.

Invariant: lanes belong to the snapshot that serves; whoever takes one from another snapshot looks again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from open_autoglm import clock
from open_autoglm.backends.node_tensors import SERVER_BYTES_MAX, TensorRoom
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.exchange.attempt_record import AttemptRecord
from open_autoglm.exchange.plan import Plan
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.framed_face import FramedFace
from open_autoglm.gateway.framed_peer import FramedPeer
from open_autoglm.gateway.framed_relay import Lane, RelayedRequest
from open_autoglm.gateway.framed_tally import ROUTE, PlainAccounts, Tally
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.snapshot import Route, Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.ids import IdSource
from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.handshake import Credentials
from open_autoglm.protocol.opcodes import NAMES as OPCODE_NAMES
from open_autoglm.protocol.opcodes import UPDATE_BEGIN
from open_autoglm.protocol.preambles import REQUEST_BYTES, TRACE_AT, read_response
from open_autoglm.protocol.resume import ResumeStore
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.security.keys import KeyRing, Principal
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.framed_shell import FramedShell

_SWEEP_S: Final = 0.025
"""How often deadlines are looked at, as in `gateway`."""
_LOOK_SWEEPS: Final = 40
_LANES_MAX: Final = 1024
"""Names of models are the client's; a cache of them must end somewhere."""
_TOKEN_BYTES: Final = 18
_HALF_TRACE_BYTES: Final = 8

OtherHandler = Callable[[FramedPeer, int, int, int, bytes], None]


class _Nobody:
    """Hears what nobody wants to know any more."""

    def on_response(self, flags: int, chunks: int, payload: bytes) -> None:
        pass

    def on_chunk(self, flags: int, choice: int, seq: int, payload: bytes) -> None:
        pass

    def on_error(self, status: int, flags: int, retry_after_ms: int, payload: bytes) -> None:
        pass

    def on_lost(self, detail: str) -> None:
        pass


class FramedGateway:
    """See the module; implements `transport.framed_server.FramedApplication`.

    Args:
        gateway: the request path.
        accounts: told of what was relayed.
        sources: told of addresses that show wrong keys.
        loop: where it runs.
        settings: of connections.
        keep_share: share of the relayed requests that are written down for people.
        resumable: whether streams can outlive their connection.

    Attributes:
        store: of streams that outlive their connection; None where none does.
        calls: relayed now.
        tensors: room for those of all clients.
        nobody: a handler for what nobody wants to hear.
        others: who takes messages of other opcodes: peer, flags, stream, arg and payload.
        unkept, keep_every: relayed since the last that was written down, and how many that may be.
    """

    def __init__(
        self,
        gateway: Gateway,
        accounts: PlainAccounts,
        sources: SourceWatch,
        loop: asyncio.AbstractEventLoop,
        *,
        settings: ConnectionSettings,
        keep_share: float,
        resumable: bool = True,
    ) -> None:
        self.gateway = gateway
        self.store = ResumeStore() if resumable else None
        self.calls: set[RelayedRequest] = set()
        self.tensors = TensorRoom(SERVER_BYTES_MAX)
        self.nobody = _Nobody()
        self.others: dict[int, OtherHandler] = {}
        self.no_lanes: dict[bytes, Lane | None] = {}
        self.unkept = 0
        self.keep_every = 0.0
        self.renew(keep_share, settings)
        self._accounts = accounts
        self._sources = sources
        self._loop = loop
        self._snapshot: Snapshot | None = None
        self._lanes: dict[Principal, dict[bytes, Lane | None]] = {}
        self._retired: list[Lane] = []
        self._ids = IdSource()
        self._trace_prefix = secrets.token_bytes(_HALF_TRACE_BYTES)
        self._traces = 0
        self._connections = 0
        self._prefix = secrets.token_hex(4)
        self._routes = {name: Route(ROUTE, b"POST", "infer", FramedFace(codec)) for name, codec in CODECS.items()}
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._sweeps = 0

    # Connections.

    def open(self, shell: FramedShell, address: str, now_s: float) -> tuple[ServerConnection, FramedPeer]:
        """See `FramedApplication.open`."""
        peer = FramedPeer(self, shell, address, now_s)
        return peer.connection, peer

    def new_connection(self) -> tuple[str, str]:
        """Id and resume token of a connection; nobody can guess the token."""
        self._connections += 1
        return f"{self._prefix}-{self._connections:x}", secrets.token_urlsafe(_TOKEN_BYTES)

    def identify(self, auth: Credentials, names: Sequence[str], address: str) -> Principal:
        """Find who a client is.

        Args:
            auth: what it shows.
            names: of its certificate, which was checked; see `transport.tls.names_of`.
            address: of the client.

        Raises:
            RequestError: it shows no valid key, or has to wait before it may show another.
        """
        if self.gateway.snapshot.keys is None:
            return self.gateway.snapshot.anonymous
        self._wait(address)
        try:
            return self.identify_again(auth, names)
        except RequestError:
            self.distrust(address)
            raise

    def identify_again(self, auth: Credentials, names: Sequence[str]) -> Principal:
        """Find who it is under the configuration that serves now; what a signature says has been proved.

        Raises:
            RequestError: nothing was shown, or what was is not known.
        """
        snapshot = self.gateway.snapshot
        keys = snapshot.keys
        if keys is None:
            return snapshot.anonymous
        if auth.signature is not None:
            return self._signer(keys, auth.signature.key)[1]
        if auth.key is not None:
            principal = keys.find(auth.key.strip())
            if principal is None:
                raise RequestError("invalid_api_key", "this API key is not known here")
            return principal
        principal = keys.find_named(names)
        if principal is not None:
            return principal
        if names:
            raise RequestError("invalid_api_key", f"no key is for a certificate of {', '.join(names):.200}")
        raise RequestError("invalid_api_key", "no API key; send it in HELLO as auth.key")

    def signer(self, key_id: str, address: str) -> SigningKey:
        """Find the key that a client says it will sign with.

        Raises:
            RequestError: it is not known, keys are not asked for here, or the client has to wait.
        """
        keys = self.gateway.snapshot.keys
        if keys is None:
            raise RequestError("invalid_signature", "no keys are asked for here, so none can be proved; send no auth")
        self._wait(address)
        try:
            return self._signer(keys, key_id)[0]
        except RequestError:
            self.distrust(address)
            raise

    def distrust(self, address: str) -> None:
        """A client has shown what nobody has."""
        self._sources.failed(address, clock.monotonic())

    def _wait(self, address: str) -> None:
        wait_s = self._sources.wait_s(address, clock.monotonic())
        if wait_s:
            raise RequestError(
                "rate_limit_exceeded", "too many failed authentications from this address", retry_after_s=wait_s
            )

    @staticmethod
    def _signer(keys: KeyRing, key_id: str) -> tuple[SigningKey, Principal]:
        found = keys.find_signer(key_id)
        if found is None:
            raise RequestError("invalid_api_key", "the key that is to be proved is not known here")
        return found

    def other(self, peer: FramedPeer, opcode: int, flags: int, stream: int, arg: int, payload: bytes) -> None:
        """A message that has no callback of its own; see `others`."""
        handler = self.others.get(opcode)
        if handler is not None:
            handler(peer, flags, stream, arg, payload)
            return
        name = OPCODE_NAMES.get(opcode, str(opcode))
        if not stream:
            raise ProtocolError("not_implemented", f"{name} is not served here")
        error: AutoGLMError = ServerError("not_implemented", f"{name} is not served here")
        if opcode >= UPDATE_BEGIN:
            error = RequestError("forbidden", f"{name} is between servers and nodes")
        peer.connection.fail(stream, error)

    @staticmethod
    def break_off(connection: ServerConnection, stream: int) -> None:
        """End a stream that has no answer."""
        connection.fail(stream, ServerError("server_draining", "the server is being stopped; send the request again"))

    # Where to.

    def route(self, codec: str) -> Route:
        """The route of requests in a codec."""
        return self._routes[codec]

    def stream_target(self) -> bytes:
        """The path that is asked for a WebSocket."""
        return f"{self.gateway.snapshot.context_path}/mcp/v1/stream".encode()

    @staticmethod
    def messages_target(snapshot: Snapshot) -> bytes:
        """The path of messages in JSON."""
        return f"{snapshot.context_path}/mcp/v1/messages".encode()

    def lanes_of(self, principal: Principal) -> dict[bytes, Lane | None]:
        """The lanes of one key by the model's name; None for what takes no short cut."""
        self._follow()
        return self._lanes.setdefault(principal, {})

    def lane(self, principal: Principal, name: bytes) -> Lane | None:
        """Find a lane that was not asked for before; a name that nothing serves is not remembered."""
        lanes = self.lanes_of(principal)
        snapshot = self.gateway.snapshot
        try:
            model = name.decode() or snapshot.default_model
        except UnicodeDecodeError:
            return None
        plan = snapshot.plan(model, principal) if model else None
        if plan is None:
            return None
        if len(lanes) >= _LANES_MAX:
            self._clear(lanes)
        lane = lanes[name] = self._new_lane(principal, model, plan) if name else None
        return lane

    def _new_lane(self, principal: Principal, model: str, plan: Plan) -> Lane | None:
        snapshot = self.gateway.snapshot
        if snapshot.affinity != "none" or plan.stream_failure == "continue" or plan.model in snapshot.steered:
            return None
        lane = Lane(model, plan, snapshot, principal)
        return lane if lane.nodes else None

    def _clear(self, lanes: dict[bytes, Lane | None]) -> None:
        """Make room: what was counted is told on, and lanes of running calls are kept aside until these have ended."""
        self.collect()
        running = {call.lane for call in self.calls}
        self._retired += [lane for lane in lanes.values() if lane in running]
        lanes.clear()

    def _follow(self) -> None:
        """Another configuration serves: its lanes are others."""
        if self._snapshot is not self.gateway.snapshot:
            self._snapshot = self.gateway.snapshot
            self._retired = [lane for lane in self._known() if self._is_used(lane)]
            self._lanes = {}

    def _is_used(self, lane: Lane) -> bool:
        return lane.has_figures or any(call.lane is lane for call in self.calls)

    def _known(self) -> list[Lane]:
        found = [lane for lanes in self._lanes.values() for lane in lanes.values() if lane is not None]
        return found + self._retired

    # Figures.

    def renew(self, keep_share: float, settings: ConnectionSettings) -> None:
        """Write another share of the relayed requests down from now on, and give new connections other limits."""
        self.settings = settings
        self.keep_every = 1.0 / keep_share if keep_share > 0 else float("inf")

    def request_id(self) -> str:
        """A new one."""
        return self._ids.request_id()

    def trace_id(self) -> bytes:
        """A new one."""
        self._traces += 1
        return self._trace_prefix + self._traces.to_bytes(_HALF_TRACE_BYTES)

    def count(self, tally: Tally) -> None:
        """Tell a tally on."""
        self._accounts.count(tally)
        tally.clear()

    def collect(self) -> None:
        """Tell all tallies on: somebody reads the figures."""
        for lane in self._known():
            for tally in lane.tallies.values():
                if len(tally):
                    self.count(tally)
        self._retired = [lane for lane in self._retired if self._is_used(lane)]

    def keep(self, call: RelayedRequest, payload: bytes, now_s: float) -> None:
        """Write a relayed request down."""
        self.unkept = 0
        try:
            preamble = read_response(payload)
        except ProtocolError:
            return
        record = self._record(call, "ok", now_s)
        record.status = 200
        record.first_s = record.attempts[0].first_s = call.first_s or now_s
        record.finish_reason, record.version = preamble.finish, preamble.version
        record.prompt_tokens, record.completion_tokens = preamble.prompt_tokens, preamble.completion_tokens
        record.bytes_out = len(payload)
        self._accounts.keep(record)

    def left(self, call: RelayedRequest, now_s: float) -> None:
        """Account for a relayed request whose client has left."""
        record = self._record(call, "cancelled", now_s)
        record.status, record.code = 499, "client_closed"
        record.first_s = call.first_s
        self.gateway.account(record)

    def _record(self, call: RelayedRequest, outcome: str, now_s: float) -> RequestRecord:
        lane, started_s = call.lane, call.started_s
        attempt = AttemptRecord(call.target.name, lane.group.name, 0, lane.leg.reason, started_s)
        attempt.sent_s, attempt.head_s, attempt.first_s = started_s, call.first_s, call.first_s
        attempt.ended_s, attempt.outcome, attempt.reused = now_s, outcome, True
        attempt.status = 200 if call.first_s or outcome == "ok" else 0
        wall_s = clock.wall() - (now_s - started_s)
        record = RequestRecord(ROUTE, started_s, lane.snapshot.revision, self._ids.request_id(), wall_s, call.address)
        record.trace_id = call.payload[TRACE_AT:REQUEST_BYTES].hex()
        record.model, record.served_by, record.key = lane.model, lane.group.name, lane.principal.name
        record.stream = call.streamed
        record.admitted_s = record.read_s = started_s
        record.ended_s = now_s
        record.bytes_in = len(call.payload)
        record.attempts.append(attempt)
        return record

    def in_flight(self) -> Counter[str]:
        """Relayed now, by model."""
        return Counter(call.lane.model for call in self.calls)

    # Time.

    def start(self) -> None:
        """Begin to look after deadlines."""
        self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Look after nothing any more; what runs is ended by whoever closes the connections."""
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None
        for call in list(self.calls):
            call.gone()

    def doubt(self, endpoint: Endpoint) -> None:
        """An endpoint is away: what waits for its first word is one for the exchange."""
        for call in self.calls:
            if not call.first_s and call.target is endpoint:
                call.due_s = 0.0

    def _sweep(self) -> None:
        self._sweep_handle = self._loop.call_later(_SWEEP_S, self._sweep)
        now_s = clock.monotonic()
        for call in [call for call in self.calls if call.due_s <= now_s]:
            call.overdue(now_s)
        self._sweeps += 1
        if self._sweeps & 1:
            self.collect()
        if self._sweeps % _LOOK_SWEEPS == 0:
            for lane in self._known():
                lane.look()
            if self.store is not None:
                self.store.expire(now_s)
