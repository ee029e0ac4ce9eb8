"""Routes of HTTP services as tools.

Invariants: the host is the configuration's; every address that its name has is looked at, and the connection goes to
one that was, so a name that changes its mind between the two leads nowhere; no redirect is followed; no proxy is asked;
an answer beyond its limit is cut off, not kept. Guards against server-side request forgery and DNS rebinding.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final

import msgspec

from open_autoglm import clock
from open_autoglm.tools.host_address import allowed_addresses
from open_autoglm.tools.settings import HttpToolEntry
from open_autoglm.tools.tool import Arguments, ToolError, ToolKind
from open_autoglm.tools.url_template import UrlTemplate, read_template
from open_autoglm.transport.http_answer import Headers, Loss
from open_autoglm.transport.http_client import HttpPool
from open_autoglm.transport.settings import PoolLimits, TlsClientFiles
from open_autoglm.transport.tls import upstream_context

_BODILESS: Final = ("GET", "DELETE")
_WORTH_ANOTHER_TRY: Final = (408, 429, 502, 503, 504)
_LIMITS: Final = PoolLimits(connections=1, idle=0)
_SHOWN_BYTES: Final = 300
"""Of the body of a failure, in its message."""
_KEY: Final = re.compile(r"[!-~]{1,255}")


class HttpTool:
    """One route; implements `tools.tool.Tool`.

    Args:
        entry: what is called.
        tls: context for https; the system's authorities when left out.

    Raises:
        ValueError: `entry.url` is no template.
    """

    def __init__(self, entry: HttpToolEntry, tls: ssl.SSLContext | None = None) -> None:
        self._entry = entry
        self._url = read_template(entry.url)
        self._tls = tls
        self.name = entry.name
        self.description = entry.description or f"{entry.method} {entry.url}"
        self.schema = _schema(entry, self._url)
        self.kind: ToolKind = entry.kind or ("read" if entry.method == "GET" else "write")
        self.timeout_s = entry.timeout_s
        self.cost = entry.cost

    async def call(self, arguments: Arguments, *, deadline_s: float, idempotency_key: str) -> Any:
        """Call the route; returns `{"status", "body"}`, the body as JSON where it is JSON, else as text."""
        places = {*self._url.in_path, *self._url.in_query}
        others = {name: value for name, value in arguments.items() if name not in places}
        bodiless = self._entry.method in _BODILESS
        target = self._url.target(arguments, others if bodiless else {})
        body = b"" if bodiless else msgspec.json.encode(others)
        head = self._head(target, body, idempotency_key)
        addresses = await allowed_addresses(self._url.host, self._url.port, allow_private=self._entry.allow_private)
        while True:
            patience_s = (deadline_s - clock.monotonic()) / len(addresses)
            try:
                status, headers, data = await self._sent(head, body, addresses.pop(0), patience_s)
                break
            except _LostError as error:
                unsent = error.loss == "connect"
                if not (unsent and addresses):
                    raise ToolError(
                        "tool_unavailable", f"{self._url.authority}: {error}", retryable=unsent or self.kind == "read"
                    ) from None
        return self._told(status, headers, data, bool(idempotency_key))

    async def _sent(self, head: bytes, body: bytes, address: str, patience_s: float) -> tuple[int, Headers, bytes]:
        """The answer of what is at one address, where somebody takes the connection in this time."""
        loop = asyncio.get_running_loop()
        answer = _Answer(loop.create_future(), self._entry.answer_bytes)
        pool = HttpPool(
            address,
            self._url.port,
            limits=_LIMITS,
            connect_timeout_s=max(0.001, patience_s),
            loop=loop,
            tls=self._context(),
            tls_name=self._url.host,
        )
        transfer = pool.send(head, body, answer)
        try:
            return await answer.done
        finally:
            transfer.cancel()
            pool.close()

    def _told(self, status: int, headers: Headers, data: bytes, keyed: bool) -> Any:
        if 300 <= status < 400:
            raise ToolError("tool_failed", f"{self._url.authority} answered {status}; redirects are not followed")
        if status >= 400:
            shown = data[:_SHOWN_BYTES].decode("utf-8", "replace")
            again = status in _WORTH_ANOTHER_TRY and (self.kind == "read" or keyed)
            raise ToolError("tool_failed", f"{self._url.authority} answered {status}: {shown}", retryable=again)
        kind = headers.get(b"content-type", b"Content-Type").partition(";")[0].strip().lower()
        try:
            if kind == "application/json" or kind.endswith("+json"):
                return {"status": status, "body": msgspec.json.decode(data) if data else None}
            return {"status": status, "body": data.decode("utf-8")}
        except (ValueError, RecursionError) as error:
            raise ToolError("invalid_result", f"the answer ({kind or 'no type'}) is neither JSON nor text") from error

    def _head(self, target: str, body: bytes, idempotency_key: str) -> bytes:
        entry = self._entry
        lines = [f"{entry.method} {target} HTTP/1.1", f"host: {self._url.authority}", "connection: close"]
        lines += ["accept: application/json, text/*;q=0.9", "accept-encoding: identity", "user-agent: open-autoglm"]
        lines += [f"{name}: {value.reveal()}" for name, value in entry.headers.items()]
        if entry.method not in _BODILESS:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        if entry.method != "GET" and _KEY.fullmatch(idempotency_key):
            lines.append(f"idempotency-key: {idempotency_key}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _context(self) -> ssl.SSLContext | None:
        if self._url.scheme != "https":
            return None
        return self._tls or upstream_context(TlsClientFiles())


class _LostError(Exception):
    """No answer."""

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(detail)
        self.loss = loss


class _Answer:
    """Gathers an answer; implements `transport.http_answer.AnswerSink`."""

    def __init__(self, done: asyncio.Future[tuple[int, Headers, bytes]], bytes_max: int) -> None:
        self.done = done
        self._bytes_max = bytes_max
        self._status = 0
        self._headers = Headers()
        self._data = bytearray()

    def on_sent(self, reused: bool) -> None:
        pass

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._headers = headers

    def on_data(self, data: bytes) -> None:
        if len(self._data) + len(data) > self._bytes_max:
            self._fail(ToolError("result_too_large", f"the answer is longer than {self._bytes_max} bytes"))
        elif not self.done.done():
            self._data += data

    def on_end(self) -> None:
        if not self.done.done():
            self.done.set_result((self._status, self._headers, bytes(self._data)))

    def on_whole(self, status: int, headers: Headers, body: bytes, now_s: float) -> None:
        self.on_head(status, headers)
        self.on_data(body)
        self.on_end()

    def on_lost(self, loss: Loss, detail: str) -> None:
        self._fail(_LostError(loss, detail))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def _schema(entry: HttpToolEntry, url: UrlTemplate) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "string"} for name in (*url.in_path, *url.in_query)}
    required = list(url.in_path)
    for name, argument in entry.arguments.items():
        properties[name] = {"type": argument.type}
        if argument.description:
            properties[name]["description"] = argument.description
        if argument.enum:
            properties[name]["enum"] = argument.enum
    required += [
        n for n in properties if n not in required and (n not in entry.arguments or entry.arguments[n].required)
    ]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
