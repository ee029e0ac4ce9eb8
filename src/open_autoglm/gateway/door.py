"""Who is let in: decided from a request's head, before its body is read.

| in this order | refused with |
|---|---|
| an address that has guessed keys shows a new one | 429 |
| the key | 401 |
| the method and the coding of the body | 404, 405, 400 |
| the class, while the server has too much to do | 503 |
| the key's limits | 429, or it waits in the key's line |

A connection that shows the same key again passes the first two by a comparison. Invariant: a request that waits in a
key's line is let in, refused or gone, once, and in the order of its coming.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from open_autoglm.admission.classes import NAMES, NUMBERS
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.gateway.call import Call
from open_autoglm.gateway.snapshot import Route, Snapshot
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.security.keys import KeyRing, Limiter, Line, Principal
from open_autoglm.transport.http_request import ServerRequest

NOT_FOUND: Final = Route("other", b"", "models")
_HELD_TIME_S: Final = 600.0
"""What a request that says nothing is taken to have; its model is not known yet."""


class Door:
    """See the module.

    Args:
        sources: told of addresses that show wrong keys.

    Attributes:
        floor: number of the lowest class that is let in; above 0 while the whole server has too much to do.
    """

    def __init__(self, sources: SourceWatch) -> None:
        self._sources = sources
        self._memos: dict[str, tuple[Snapshot, bytes, Principal]] = {}
        self._lines: dict[Line, Limiter] = {}
        self.floor = 0

    def forget(self) -> None:
        """Another configuration: every key is looked up again."""
        self._memos.clear()

    def authenticate(
        self, keys: KeyRing, snapshot: Snapshot, request: ServerRequest, record: RequestRecord
    ) -> Principal:
        """Find whose key it is.

        Raises:
            RequestError: it shows none, or a wrong one, or has to wait before it may show another.
        """
        wait_s = self._sources.wait_s(record.client, record.received_s)
        if wait_s:
            raise RequestError(
                "rate_limit_exceeded", "too many failed authentications from this address", retry_after_s=wait_s
            )
        try:
            principal, shown = _find(keys, request.headers)
        except RequestError:
            self._sources.failed(record.client, record.received_s)
            raise
        if shown is not None:
            # One memo for all connections that show this key.
            memo = self._memos.get(principal.name)
            if memo is None or memo[0] is not snapshot or memo[1] != shown:
                memo = self._memos[principal.name] = (snapshot, shown, principal)
            request.connection.memo = memo
        return principal

    def admit(self, call: Call) -> None:
        """Let a request in, or have it wait.

        Raises:
            RequestError, ServerError: it is refused; see the module.
        """
        request, route, principal, record = call.request, call.route, call.principal, call.record
        headers = request.headers
        record.key = principal.name
        if request.method != route.method and (request.method, route.method) != (b"HEAD", b"GET"):
            if route is NOT_FOUND:
                raise RequestError("not_found", f"no such route: {request.target[:200].decode('latin-1')!r}")
            raise RequestError("method_not_allowed", f"{route.pattern} takes {route.method.decode()} only")
        if "content-encoding" in headers and headers["content-encoding"] != b"identity":
            raise RequestError("invalid_request", "compressed bodies are not taken; send the body as it is")
        priority = principal.priority
        if "x-mcp-priority" in headers:
            priority = min(priority, _priority(headers["x-mcp-priority"]))
        call.priority = priority
        if priority < self.floor:
            record.rejected = "overload_stage"
            raise ServerError(
                "overloaded",
                f"the server has too much to do; requests of class {NAMES[priority]} are not taken for now",
                retry_after_s=1.0,
            )
        limiter = principal.limiter
        if limiter is not None:
            line = principal.line
            if line is not None and line.waiting:
                self._hold(call, line, limiter)
                return
            wait_s = limiter.admit(record.received_s)
            if wait_s:
                if line is None:
                    raise _too_many(principal, limiter, wait_s)
                self._hold(call, line, limiter)
                return
        record.admitted_s = record.received_s

    # Lines of keys.

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a key's limits."""
        return bool(self._lines)

    def depths(self) -> Counter[str]:
        """How many wait for their key's limits, by class."""
        return Counter(NAMES[call.priority] for line in self._lines for call in line)

    def pump(self, now_s: float) -> list[Call]:
        """Return those whose turn it is, and refuse those who have waited too long."""
        let_in: list[Call] = []
        for line, limiter in list(self._lines.items()):
            admitted, expired = line.pump(now_s, limiter.admit)
            if not line.waiting:
                del self._lines[line]
            for call in admitted:
                call.held = False
                call.record.admitted_s = now_s
                call.record.queued_s += now_s - call.record.received_s
            let_in += admitted
            for call in expired:
                call.record.rejected = "expired_in_key_line"
                call.refuse(_too_many(call.principal, limiter, 1.0))
        return let_in

    def _hold(self, call: Call, line: Line, limiter: Limiter) -> None:
        record = call.record
        deadline_s = record.received_s + call.patience_s(_HELD_TIME_S)
        position = line.join(call, record.received_s, deadline_s)
        if not position:
            record.rejected = "key_line_full"
            raise _too_many(call.principal, limiter, 1.0)
        record.queue_position = position
        call.held = True
        self._lines[line] = limiter


def _too_many(principal: Principal, limiter: Limiter, wait_s: float) -> RequestError:
    return RequestError(
        "rate_limit_exceeded",
        f"the key {principal.name!r} has reached its limit ({limiter.refused_by}); try again later",
        retry_after_s=wait_s,
    )


def _find(keys: KeyRing, headers: dict[str, bytes]) -> tuple[Principal, bytes | None]:
    """Whose key is shown, and the header `authorization` if it is there."""
    shown = headers.get("authorization")
    if shown is not None:
        scheme, _, key = shown.decode("latin-1").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise RequestError(
                "invalid_api_key", "this authorization scheme is not taken; send the key as a bearer token"
            )
    elif "x-api-key" in headers:
        key = headers["x-api-key"].decode("latin-1")
    else:
        raise RequestError(
            "invalid_api_key", "no API key; send it in the header authorization (as a bearer token) or in x-api-key"
        )
    principal = keys.find(key.strip())
    if principal is None:
        raise RequestError("invalid_api_key", "this API key is not known here")
    return principal, shown


def _priority(value: bytes) -> int:
    number = NUMBERS.get(value.decode("latin-1").strip().lower())
    if number is None:
        raise RequestError(
            "invalid_request", f"x-mcp-priority: {value[:40].decode('latin-1')!r} is none of {', '.join(NAMES)}"
        )
    return number
