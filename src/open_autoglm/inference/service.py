"""The framed service of a node: requests in, answers of its engines out, load reports and commands beside them.

No task and no future is made for a usual request: the connection's callback hands it to an engine, and what the engine
delivers is written in the turn of the loop that it wakes. Invariant: each request that an engine has taken is in its
connection's `_answers` until its ending was written, or it was cancelled. Long requests become tokens in a thread.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from open_autoglm import clock
from open_autoglm.errors import AutoGLMError, RequestError, ServerError
from open_autoglm.ids import IdSource
from open_autoglm.inference.answer import Answer, Outbox
from open_autoglm.inference.guest import Guest
from open_autoglm.inference.request_body import BodyReader
from open_autoglm.inference.served_model import ServedModel
from open_autoglm.inference.tensor_answers import TensorAnswer, TensorDesk
from open_autoglm.inference.ticket_desk import NODE_BYTES, REPORT_S, TicketDesk
from open_autoglm.inference.turned_away import TurnedAway
from open_autoglm.protocol import opcodes
from open_autoglm.protocol.connection import Connection
from open_autoglm.protocol.errors import ProtocolError
from open_autoglm.protocol.handshake import Credentials, Hello
from open_autoglm.protocol.opcodes import NODE_COMMAND, NODE_RESULT, STREAM, TENSORS, TICKET, TICKET_REQUEST, USAGE_ACK
from open_autoglm.protocol.preambles import read_request
from open_autoglm.protocol.proof import CHALLENGE_BYTES
from open_autoglm.protocol.server_connection import ServerConnection
from open_autoglm.protocol.settings import ConnectionSettings
from open_autoglm.secret import Secret
from open_autoglm.security.signature import SigningKey

if TYPE_CHECKING:
    import asyncio

    from open_autoglm.engines.events import GenerateRequest
    from open_autoglm.engines.model_engine import ModelEngine
    from open_autoglm.inference.ticket_ledger import TicketUse
    from open_autoglm.inference.update_desk import UpdateDesk
    from open_autoglm.transport.framed_shell import FramedShell

_log = logging.getLogger(__name__)
LONG_BYTES: Final = 8192
"""Of a request that is turned into tokens off the event loop: some milliseconds' work for the fastest tokenizers."""
READING_MAX: Final = 64
_UPDATES: Final = frozenset(
    (
        opcodes.UPDATE_BEGIN,
        opcodes.UPDATE_CHUNK,
        opcodes.UPDATE_STATE,
        opcodes.UPDATE_COMMIT,
        opcodes.UPDATE_ABORT,
    )
)

CommandReply = Callable[[dict[str, Any] | AutoGLMError], None]
Command = Callable[[dict[str, Any], CommandReply], None]
"""Takes a command's fields, and answers once, on the loop, at once or later."""


class NodeService:
    """See the module; a `transport.framed_server.FramedApplication`.

    Args:
        models: by the name that clients use.
        loop: where it runs.
        keys: of which a peer must know one; none let everybody in.
        settings: of connections.

    Attributes:
        commands: what NODE_COMMAND does, by name.
        outbox: where engines with a thread leave their events.
        tickets: of clients that ask here themselves; None where no key seals any.
        updates: takes UPDATE frames; None where nothing is updated.
        turned_away: how often the log is told of peers that show a wrong key.
        load: payload of the newest LOAD, which each new connection gets.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        loop: asyncio.AbstractEventLoop,
        keys: tuple[Secret, ...] = (),
        settings: ConnectionSettings | None = None,
    ) -> None:
        self.models = dict(models)
        if len(models) == 1:
            self.models[""] = next(iter(models.values()))  # who names none means the only one
        self.outbox = Outbox(loop)
        self.commands: dict[str, Command] = {}
        self.updates: UpdateDesk | None = None
        self.load = b""
        self.keys = keys
        self.signers = {signer.id: signer for signer in (SigningKey(key.reveal()) for key in keys)}
        self.ids = IdSource()
        self.tickets = TicketDesk(keys, secrets.token_bytes(NODE_BYTES), clock.monotonic) if keys else None
        self._reporting: asyncio.TimerHandle | None = None
        self.draining = False
        self._loop = loop
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="long-requests")
        self._reading = 0
        self._settings = settings or ConnectionSettings()
        self._lines: set[NodeLine] = set()
        self.turned_away = TurnedAway()
        for served in models.values():
            served.engine.flush = self.outbox.flush

    @property
    def served(self) -> list[ServedModel]:
        """Every model once."""
        return [model for name, model in self.models.items() if name]

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return sum(model.in_flight for model in self.served)

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._lines)

    def open(self, shell: FramedShell, address: str, now_s: float) -> tuple[Connection, NodeLine]:
        """See `FramedApplication`."""
        return self.connect(shell.wake, address, now_s)

    def connect(self, wake: Callable[[], None], address: str, now_s: float) -> tuple[ServerConnection, NodeLine]:
        """Begin a connection; `wake` is told when it has something to write."""
        line = NodeLine(self, address)
        line.connection = ServerConnection(line, wake, self._settings, now_s)
        self._lines.add(line)
        return line.connection, line

    def submit_long(self, engine: ModelEngine, request: GenerateRequest, answer: Answer) -> None:
        """Hand a long request to an engine in a thread: to turn it into tokens would hold the loop up.

        Raises:
            ServerError: `overloaded`, when too many long ones are being read.
        """
        if self._reading >= READING_MAX:
            raise ServerError("overloaded", f"{self._reading} long requests are being read already", retry_after_s=1.0)
        self._reading += 1
        work = self._loop.run_in_executor(self._readers, engine.submit, request, answer.post)
        work.add_done_callback(partial(self._submitted, answer))

    def close(self) -> None:
        """Read no more long requests; report what was not reported yet."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        if self.tickets is not None:
            self.tickets.tick()

    def watch_tickets(self) -> None:
        """A ticket was shown: report on it by and by."""
        if self._reporting is None:
            self._reporting = self._loop.call_later(REPORT_S, self._report)

    def _report(self) -> None:
        self._reporting = None
        if self.tickets is not None:
            self.tickets.tick()
            if not self.tickets.idle:
                self.watch_tickets()

    def _submitted(self, answer: Answer, done: asyncio.Future[int]) -> None:
        self._reading -= 1
        error = None if done.cancelled() else done.exception()
        if error is None and not done.cancelled():
            answer.submitted(done.result())
        elif isinstance(error, AutoGLMError):
            answer.refuse(error)
        else:
            _log.error("a request could not be handed to its engine", exc_info=error)
            answer.refuse(ServerError("internal_error", f"the node failed ({type(error).__name__})"))

    def forget(self, line: NodeLine) -> None:
        """A connection has ended."""
        self._lines.discard(line)

    def tell_load(self, payload: bytes) -> None:
        """Send a load report to every server."""
        self.load = payload
        for line in self._lines:
            if line.guest is None:
                line.connection.send(opcodes.LOAD, 0, payload)

    def drain(self, grace_s: float) -> None:
        """Take no more requests; those that run have so long."""
        self.draining = True
        now_s = clock.monotonic()
        for line in list(self._lines):
            line.connection.drain(round(grace_s * 1000), (), now_s)


class NodeLine:
    """One connection of a node; what the protocol calls, and what the socket's shell does.

    Attributes:
        connection: the protocol's side.
        service: whose it is.
        encode: of bodies, in the connection's codec.
        guest: a client with tickets; None for a server.
        fail, respond: of the connection.
    """

    def __init__(self, service: NodeService, address: str) -> None:
        self.service = service
        self.connection: ServerConnection
        self.encode: Callable[[dict[str, Any]], bytes]
        self.guest: Guest | None = None
        self._address = address
        self._models = service.models
        self._answers: dict[int, Answer | TensorAnswer] = {}
        self._tensors: TensorDesk | None = None
        self._reader: BodyReader

    # The protocol calls these; see `protocol.sinks.ServerSink`.

    def on_hello(self, hello: Hello) -> None:
        signature = hello.auth.signature
        try:
            if signature is not None:
                signer = self._signer(signature.key)
                self.connection.challenge(signer, secrets.token_bytes(CHALLENGE_BYTES), self._on_proof)
                return
            self._identify(hello.auth)
        except AutoGLMError as error:
            self._turn_away(error)
            return
        self._let_in()

    def _signer(self, key_id: str) -> SigningKey:
        signers = self.service.signers
        if not signers:
            raise RequestError("invalid_signature", "this node has no secret, so none can be proved; send no auth")
        if key_id not in signers:
            raise RequestError("invalid_api_key", "the key that is to be proved is not the cluster's")
        return signers[key_id]

    def _on_proof(self, right: bool) -> None:
        """The peer has answered our challenge."""
        if right:
            self._let_in()
        else:
            self._turn_away(RequestError("invalid_signature", "the proof is not that of the key that HELLO names"))

    def _turn_away(self, error: AutoGLMError) -> None:
        line = self.service.turned_away.line(self._address, error.message, clock.monotonic())
        if line:
            _log.warning("%s", line)
        self.connection.refuse(error)

    def _let_in(self) -> None:
        service, connection = self.service, self.connection
        connection.accept(service.ids.request_id())
        if not connection.opened:
            return
        if service.draining:
            connection.drain(0, (), clock.monotonic())
        self.encode = connection.codec.encode
        self._reader = BodyReader(connection.codec.name)
        if service.load and self.guest is None:
            connection.send(opcodes.LOAD, 0, service.load)

    def on_request(self, stream: int, flags: int, remaining_ms: int, payload: bytes) -> None:
        answer: Answer | None = None
        use: TicketUse | None = None
        try:
            preamble = read_request(payload)
            found = self._models.get(preamble.model)
            if found is None or flags & TENSORS:
                self._ask_in_tensors(stream, found, preamble.model, remaining_ms)
                return
            if self._tensors is not None and self._tensors.drop(stream):
                raise RequestError("invalid_request", "tensors came before the request, which does not say so")
            now_s = clock.monotonic()
            if self.guest is not None:
                use = self.guest.begin(found.name, preamble.priority, now_s)
            streamed = flags & STREAM
            deadline_s = now_s + remaining_ms / 1000 if remaining_ms else None
            request = self._reader.read(payload[preamble.body_at :], deadline_s, streamed != 0, preamble.session)
            found.in_flight += 1
            answer = Answer(self, found, stream, streamed, use, now_s)
            engine = found.engine
            if not engine.threaded:
                engine.submit(request, answer.take)
            elif len(payload) <= LONG_BYTES:
                answer.handle = engine.submit(request, answer.post)
                self._answers[stream] = answer
            else:
                self.service.submit_long(engine, request, answer)
                self._answers[stream] = answer
        except AutoGLMError as error:
            self._refused(stream, answer, use, error)
        except Exception as error:  # what an engine makes of a strange request must not end the connection
            _log.exception("a request could not be handed to its engine")
            failure = ServerError("internal_error", f"the node failed ({type(error).__name__})")
            self._refused(stream, answer, use, failure)

    def on_message(self, stream: int, payload: bytes) -> None:
        self.connection.fail(stream, ServerError("not_implemented", "a node takes requests in frames only"))

    def on_cancel(self, stream: int) -> None:
        answer = self._answers.pop(stream, None)
        if self._tensors is not None:
            self._tensors.drop(stream)
        if answer is not None:
            answer.cancel()
        elif self.service.updates is not None:
            self.service.updates.gone(self.connection, stream)

    def on_credit(self, stream: int, released: int) -> None:
        """The connection holds what the peer does not take, up to its bound."""

    def on_other(self, opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> None:
        connection = self.connection
        desk = self.service.updates
        if opcode == TICKET_REQUEST:
            self._ticket(stream, payload)
        elif self.guest is not None:
            if stream:
                connection.fail(stream, RequestError("forbidden", "a ticket is for requests only"))
        elif opcode == USAGE_ACK:
            self._acknowledged(arg, payload)
        elif opcode == NODE_COMMAND:
            self._command(stream, payload)
        elif opcode in _UPDATES and desk is not None:
            desk.on_message(connection, opcode, flags, aux, stream, payload)
        elif opcode == opcodes.TENSOR:
            self._keep_tensor(stream, payload)
        elif stream:
            name = opcodes.NAMES.get(opcode, str(opcode))
            connection.fail(stream, ServerError("not_implemented", f"this node takes no {name}"))

    def on_closed(self, code: str, message: str) -> None:
        self.service.forget(self)
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.cancel()
        if self.service.tickets is not None:
            self.service.tickets.gone(self)
        if self.service.updates is not None:
            self.service.updates.gone(self.connection)

    # The shell calls these.

    def on_pause(self) -> None:
        """What cannot be written waits in the connection, which gives up a stream whose reader is too slow."""

    def on_resume(self) -> None:
        """See `on_pause`."""

    def on_gone(self) -> None:
        """`on_closed` has said it."""

    # Answers call these.

    def respond(self, stream: int, payload: bytes, flags: int = 0) -> None:
        """Write an answer's end."""
        self._answers.pop(stream, None)
        self.connection.respond(stream, payload, flags)

    def fail(self, stream: int, error: AutoGLMError) -> None:
        """Write that there will be no (more) answer."""
        self._answers.pop(stream, None)
        self.connection.fail(stream, error)

    def _keep_tensor(self, stream: int, payload: bytes) -> None:
        """Take a tensor for the request that follows on its stream."""
        if self._tensors is None:
            self._tensors = TensorDesk(self)
        try:
            self._tensors.take(stream, payload)
        except AutoGLMError as error:
            self._tensors.drop(stream)
            self.connection.fail(stream, error)

    def _ask_in_tensors(self, stream: int, found: ServedModel | None, model: str, remaining_ms: int) -> None:
        """Answer a request that comes in tensors; also one for a model that is not here."""
        if found is None:
            if self._tensors is not None:
                self._tensors.drop(stream)
            known = ", ".join(sorted(name for name in self._models if name))
            told = f"; it has: {known}" if self.guest is None else ""  # which may know of its own only
            raise RequestError("model_not_found", f"this node has no model {model!r}{told}", param="model")
        if self._tensors is None:
            raise RequestError("invalid_request", "the request says that tensors came before it, and none did")
        deadline_s = clock.monotonic() + remaining_ms / 1000 if remaining_ms else None
        self._answers[stream] = self._tensors.ask(stream, found, deadline_s)

    def _refused(self, stream: int, answer: Answer | None, use: TicketUse | None, error: AutoGLMError) -> None:
        if answer is not None:
            answer.refuse(error)
        elif use is not None:
            use.failed(0.0, error.code)
        self.fail(stream, error)  # also where the answer was over, but could not be written

    # Tickets.

    def report(self, number: int, body: dict[str, Any]) -> None:
        """Tell a server what was used; see `TicketDesk`."""
        self.connection.send(opcodes.USAGE_REPORT, 0, self.encode(body), arg=number)

    def _identify(self, auth: Credentials) -> None:
        """Find out whether this is a server or a client with a ticket.

        Raises:
            RequestError, ServerError: it is neither.
        """
        service = self.service
        if auth.ticket is not None:
            if service.tickets is None:
                raise ServerError("not_implemented", "this node has no secret, and takes no tickets")
            guest = Guest(service.tickets)
            guest.show(auth.ticket)
            self.guest = guest
            service.watch_tickets()
        elif service.keys and not (auth.key and Secret(auth.key) in service.keys):
            raise RequestError("invalid_api_key", "this is not the cluster's key")

    def _ticket(self, stream: int, payload: bytes) -> None:
        """A client shows its next ticket, or a server asks what it needs to write some."""
        connection, service = self.connection, self.service
        try:
            fields = connection.codec.decode(payload)
            if self.guest is not None:
                told = self.guest.show(str(fields.get("ticket")))
                service.watch_tickets()
            elif service.tickets is None:
                raise ServerError("not_implemented", "this node has no secret, and takes no tickets")
            else:
                told = service.tickets.introduce(self, str(fields.get("issuer")))
            connection.end(TICKET, stream, connection.codec.encode(told))
        except AutoGLMError as error:
            connection.fail(stream, error)

    def _acknowledged(self, number: int, payload: bytes) -> None:
        if self.service.tickets is None:
            return
        issuer = str(self.connection.codec.decode(payload).get("issuer"))
        try:
            self.service.tickets.acknowledged(number, issuer)
        except RequestError as error:
            raise ProtocolError("invalid_request", error.message) from error

    def _command(self, stream: int, payload: bytes) -> None:
        connection = self.connection

        def reply(result: dict[str, Any] | AutoGLMError) -> None:
            if isinstance(result, AutoGLMError):
                connection.fail(stream, result)
            else:
                connection.end(NODE_RESULT, stream, connection.codec.encode(result))

        try:
            fields = connection.codec.decode(payload)
            command = self.service.commands.get(str(fields.get("command")))
            if command is None:
                known = ", ".join(sorted(self.service.commands))
                raise RequestError("not_found", f"no command {fields.get('command')!r:.80}; there are: {known}")
            command(fields, reply)
        except AutoGLMError as error:
            reply(error)
