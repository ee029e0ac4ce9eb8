"""Asks one model on a client's behalf: a request of the server's own, on the same path as those of clients.

It has an exchange over the current plan of the model, so queues, retries, breakers, fallbacks and hedges are those of
that model; a record of its own, with the trace id of the request that it is asked for; and no limiter: who may ask a
virtual model may have its members asked.

Invariant: each call settles once, and its future is resolved by then; a coroutine that is cancelled has its attempts
cancelled before it returns.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from open_autoglm import clock
from open_autoglm.backends.backend import Backend, Handle
from open_autoglm.backends.caller import Origin, Reply
from open_autoglm.dialects.canonical import Message, estimate_tokens
from open_autoglm.dialects.openai import message_fields
from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError
from open_autoglm.exchange.attempt import Attempt
from open_autoglm.exchange.exchange import Exchange
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.call import Running
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.gateway.member_answer import HeardAnswer, MemberAnswer, read_answer
from open_autoglm.ids import IdSource
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.scheduling.budget import Ledger

ROUTE: Final = "member"
"""In metrics and logs, where a client's request has the pattern of its route."""
TEAM_DIALECT: Final = "cooperation"
"""Of backends whose answers say themselves what they cost."""

_log = logging.getLogger(__name__)
_TOKEN_BYTES: Final = 4
_ANSWER_TOKENS: Final = 1024


class Wishes(NamedTuple):
    """What else one question is asked with; see `ModelCaller.ask`."""

    temperature: float | None
    seed: int | None
    max_tokens: int | None
    tenant: str
    priority: int


class MemberDesk:
    """Makes callers over one gateway; see `backends.caller.CallerSource`.

    Args:
        gateway: whose snapshot, face, accounts and sweep are used.
        rng: for backoff.
    """

    __slots__ = ("_gateway", "_ids", "_rng")

    def __init__(self, gateway: Gateway, rng: random.Random) -> None:
        self._gateway = gateway
        self._rng = rng
        self._ids = IdSource()

    def caller(self, origin: Origin) -> MemberCaller:
        """See `CallerSource.caller`."""
        if not origin.trace_id:
            origin = msgspec.structs.replace(origin, trace_id=self._ids.trace_id())
        return MemberCaller(self._gateway, self._ids, self._rng, origin)


class MemberCaller:
    """Asks on one client's behalf; see `backends.caller.ModelCaller`. Made by a `MemberDesk`."""

    __slots__ = ("_gateway", "_ids", "_origin", "_rng")

    def __init__(self, gateway: Gateway, ids: IdSource, rng: random.Random, origin: Origin) -> None:
        self._gateway = gateway
        self._ids = ids
        self._rng = rng
        self._origin = origin

    async def ask(
        self,
        member: str,
        messages: list[Message],
        *,
        deadline_s: float,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        tenant: str = "",
        priority: int = 2,
    ) -> Reply:
        """See `ModelCaller.ask`."""
        wishes = Wishes(temperature, seed, max_tokens, tenant, priority)
        return await self._ask(member, messages, deadline_s, wishes)

    async def ask_streamed(
        self,
        member: str,
        messages: list[Message],
        hear: Callable[[str], None],
        *,
        deadline_s: float,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        tenant: str = "",
        priority: int = 2,
    ) -> Reply:
        """As `ask`; `hear` is given each piece of the text as it comes, and must not raise. There is no confidence."""
        wishes = Wishes(temperature, seed, max_tokens, tenant, priority)
        return await self._ask(member, messages, deadline_s, wishes, hear)

    async def _ask(
        self,
        member: str,
        messages: list[Message],
        deadline_s: float,
        wishes: Wishes,
        hear: Callable[[str], None] | None = None,
    ) -> Reply:
        gateway, origin = self._gateway, self._origin
        plans = gateway.snapshot.plans
        plan = plans.get(member) or plans.get("*")
        if plan is None:
            raise RequestError("model_not_found", f"no model {member[:200]!r} is served here")
        now_s = clock.monotonic()
        record = RequestRecord(
            ROUTE, now_s, gateway.snapshot.revision, self._ids.request_id(), clock.wall(), origin.client
        )
        body = self._body(member, messages, wishes, streamed=hear is not None)
        until_s = min(deadline_s, now_s + plan.total_s)
        if hear is None:
            call = MemberCall(gateway, record, member, body, until_s)
        else:
            call = HeardCall(gateway, record, member, body, until_s)
            call.hear = hear
        record.own_id = True
        record.trace_id = call.trace_id = origin.trace_id
        record.key = origin.key
        call.servers = origin.hops
        call.purse = origin.ledger
        call.exchange = exchange = Exchange(plan, call, record, call.deadline_s, self._rng, hear is not None)
        exchange.tenant = wishes.tenant
        exchange.priority = wishes.priority
        exchange.start(now_s)
        try:
            return await call.reply
        except asyncio.CancelledError:
            call.abort()
            raise

    def _body(self, member: str, messages: list[Message], wishes: Wishes, *, streamed: bool) -> bytes:
        """A chat completion as a client would ask for it."""
        fields: dict[str, Any] = {
            "model": member,
            "messages": [message_fields(message) for message in messages],
            **self._origin.parameters,
        }
        given = {"temperature": wishes.temperature, "seed": wishes.seed, "max_tokens": wishes.max_tokens}
        fields.update((name, value) for name, value in given.items() if value is not None)
        if streamed:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        elif self._origin.logprobs:
            fields["logprobs"] = True
        return msgspec.json.encode(fields)


class MemberCall(Running):
    """One question to one model; the sink of its exchange.

    Args:
        gateway: keeps time for it.
        record: what happens is noted there.
        model: who is asked.
        body: a chat completion as a client would send it.
        deadline_s: monotonic seconds.

    Attributes:
        reply: the answer, or why there is none.
        servers: see `Origin.hops`.
        purse: see `Origin.ledger`.
    """

    __slots__ = ("_gateway", "_settled", "_targets", "purse", "ready_since_s", "reply", "servers")

    def __init__(self, gateway: Gateway, record: RequestRecord, model: str, body: bytes, deadline_s: float) -> None:
        self._gateway = gateway
        self.record = record
        self.face = gateway.plain_face
        self.view = self.face.read(body)
        self.body = body
        self.model = record.model = model
        self.request_id = record.request_id
        self.trace_id = ""
        self.deadline_s = deadline_s
        self.created_s = int(record.received_wall_s)
        self.delivered = None
        self.servers = 0
        self.purse: Ledger | None = None
        record.bytes_in = len(body)
        record.admitted_s = record.read_s = record.received_s
        self._targets: list[Endpoint] = []
        self._settled = False
        self.ready_since_s = 0.0
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    @property
    def hops(self) -> int:
        """See `ModelCall.hops`: those of the request that it is asked for."""
        return self.servers

    @property
    def ledger(self) -> Ledger | None:
        """See `ModelCall.ledger`."""
        return self.purse

    # The sink that the exchange drives.

    def open(self, attempt: Attempt) -> None:
        """See `Sink.open`."""
        target = attempt.target
        assert target is not None
        if not self._targets:
            self._gateway.watch(self)
        self._targets.append(target)
        backend: Backend = target.extra  # type: ignore[assignment]
        try:
            backend.open(attempt, self)
        except Exception as error:  # another answer's end may have brought us here
            _log.exception("request %s failed", self.request_id)
            self.crashed(error)

    def cancel(self, attempt: Attempt) -> None:
        """See `Sink.cancel`."""
        handle: Handle | None = attempt.handle  # type: ignore[assignment]
        attempt.handle = None
        if handle is not None:
            handle.cancel()

    def finish(self, attempt: Attempt) -> bytes:
        """See `Sink.finish`; there is no stream to close."""
        self.cancel(attempt)
        return b""

    def continuation(self, attempt: Attempt) -> bool:
        """See `Sink.continuation`; there is no stream to go on with."""
        return False

    def estimate(self) -> tuple[int, int]:
        """See `Sink.estimate`."""
        return self.view.prompt_bytes // _TOKEN_BYTES, self.view.max_tokens_asked or _ANSWER_TOKENS

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        """See `Sink.begin`; nothing is streamed."""

    def write(self, payload: bytes) -> None:
        """See `begin`."""

    def end(self, attempt: Attempt, payload: bytes) -> None:
        """See `begin`."""

    def whole(self, attempt: Attempt, body: bytes) -> None:
        """See `Sink.whole`."""
        record = self.record
        record.served_by = attempt.group
        record.bytes_out = len(body)
        record.first_s = attempt.first_s
        answer = read_answer(body)
        if answer is None:
            self.fail(UpstreamError("upstream_error", f"the answer of {self.model!r} is no chat completion"))
            return
        self._answer(attempt, answer)

    def fail(self, error: AutoGLMError) -> None:
        """See `Sink.fail`."""
        self._settle(error.http_status, error.code, error.message)
        if not self.reply.done():
            self.reply.set_exception(error)

    def cut(self, error: AutoGLMError) -> None:
        """See `Sink.cut`."""
        self.fail(error)

    # The gateway calls these.

    def crashed(self, error: BaseException) -> None:
        """See `Running.crashed`."""
        self.fail(ServerError("internal_error", f"the server failed on this request: {type(error).__name__}"))

    def abort(self) -> None:
        """Nobody wants the answer any more."""
        if not self._settled:
            self.exchange.client_gone(clock.monotonic())
            self._settle(499, "client_closed", "")
        if not self.reply.done():
            self.reply.cancel()

    # Inside.

    def _answer(self, attempt: Attempt, answer: MemberAnswer) -> None:
        reply = self._reply(attempt, answer)
        self._settle(200, "", "", attempt.ended_s)
        if not self.reply.done():
            self.reply.set_result(reply)

    def _reply(self, attempt: Attempt, answer: MemberAnswer) -> Reply:
        record, target = self.record, self._targets[attempt.number]
        prompt_tokens, completion_tokens = record.prompt_tokens, record.completion_tokens
        if prompt_tokens < 0:
            prompt_tokens = answer.prompt_tokens
        if completion_tokens < 0:
            completion_tokens = answer.completion_tokens
        if prompt_tokens < 0:
            prompt_tokens = estimate_tokens(self.view.prompt_bytes)
        if completion_tokens < 0:
            completion_tokens = estimate_tokens(len(answer.text.encode("utf-8", "replace")))
        cost = (prompt_tokens * target.price_in + completion_tokens * target.price_out) / 1e6
        by_team = getattr(target.extra, "dialect_name", "") == TEAM_DIALECT
        if by_team:
            cost = answer.cost
        return Reply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost=cost,
            version=record.version,
            endpoint=attempt.endpoint,
            confidence=answer.confidence,
            reasoning=answer.reasoning,
            drawn=by_team and self.purse is not None,
        )

    def _settle(self, status: int, code: str, message: str, now_s: float = 0.0) -> None:
        """Close the books, once."""
        if self._settled:
            return
        self._settled = True
        record = self.record
        record.ended_s = now_s or clock.monotonic()
        record.status = status
        record.code = code
        record.message = message
        self._gateway.unwatch(self)
        exchange = self.exchange
        if exchange.state != "over":
            exchange.client_gone(record.ended_s)
        exchange.release()
        self._gateway.account(record)


class HeardCall(MemberCall):
    """The same, of a model that is heard while it writes.

    Attributes:
        hear: told each piece of the text.
    """

    __slots__ = ("_heard", "hear")

    hear: Callable[[str], None]

    def begin(self, attempt: Attempt, payload: bytes) -> None:
        """See `Sink.begin`."""
        self._heard = HeardAnswer()
        self.record.first_s = attempt.first_s
        self.write(payload)

    def write(self, payload: bytes) -> None:
        """See `Sink.write`."""
        self.record.bytes_out += len(payload)
        text = self._heard.feed(payload)
        if text and not self._settled:
            self.hear(text)

    def end(self, attempt: Attempt, payload: bytes) -> None:
        """See `Sink.end`."""
        self.write(payload)
        self.record.served_by = attempt.group
        if self._heard.broken:
            self.fail(UpstreamError("upstream_error", f"the answer of {self.model!r} is no chat completion"))
        else:
            self._answer(attempt, self._heard.end())

    def finish(self, attempt: Attempt) -> bytes:
        """See `Sink.finish`."""
        handle: Handle = attempt.handle  # type: ignore[assignment]
        return handle.finish()
