"""What every admin request passes before a route sees it: path, Host, Origin, size; and who may do what.

Invariant: nothing is decided from a decoded path; a request whose `Host` is not one of ours, or that a foreign web
page sent, goes nowhere; a route is open only to those whom its scope names, and without a scope there is no route.
Sources: CVE-2026-48710 (decoded paths in authorization), DNS rebinding, CSRF by simple requests.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
from collections.abc import Collection
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open_autoglm import clock
from open_autoglm.errors import CODES, AutoGLMError, ConfigError, RequestError
from open_autoglm.ids import IdSource
from open_autoglm.secret import Secret
from open_autoglm.telemetry.redact import clean, redact

_log = logging.getLogger(__name__)

Access = Literal["public", "loopback", "key"]
"""Who may: anybody; whoever is on this machine, and others with the key; only who has the key."""

BODY_BYTES_MAX = 2 * 2**20
"""Largest request body: a configuration of some ten thousand models."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REFUSED_LOG_S = 10.0
"""Wrong keys are told in the log at most this often: whoever guesses must not fill the disk."""


def json_response(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in JSON. A `Secret` in it prints as `***`, and what looks like a key is redacted."""
    text = msgspec.json.encode(body, enc_hook=_unknown).decode()
    return Response(redact(text).encode(), status, headers, media_type="application/json")


def _unknown(value: object) -> object:
    if isinstance(value, Secret):
        return "***"
    raise NotImplementedError(f"{type(value).__name__} cannot be answered in JSON")


def error_response(error: AutoGLMError, request_id: str) -> Response:
    """Return an error in the body shape of the whole server; a configuration's problems are listed one by one."""
    told: dict[str, Any] = {
        "message": clean(error.message, keep_lines=True),
        "type": CODES[error.code].openai_type,
        "code": error.code,
        "param": error.param,
        "request_id": request_id,
    }
    status = error.http_status
    if isinstance(error, ConfigError):
        status = 422
        told["problems"] = [
            {"path": clean(p.path), "line": p.line, "message": clean(p.message, keep_lines=True)}
            for p in error.problems
        ]
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    if status == 413:
        headers["connection"] = "close"
    return json_response({"error": told}, status, headers)


class Guard:
    """ASGI middleware: see the module.

    Args:
        app: what is guarded.
        allowed_hosts: names that `Host` may say, without port; `LOOPBACK_HOSTS` always may.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = LOOPBACK_HOSTS | {_bracketed(host.lower()) for host in allowed_hosts}
        self._ids = IdSource()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            return
        headers = _Headers(scope)
        asked_id = headers.only("x-request-id")
        request_id = asked_id if _REQUEST_ID.fullmatch(asked_id) else self._ids.request_id()
        scope["request_id"] = request_id
        scope["path"] = raw_path(scope)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            self._check(headers)
        except AutoGLMError as error:
            await error_response(error, request_id)(scope, receive, send_marked)
            return
        await self._app(scope, receive, send_marked)

    def _check(self, headers: _Headers) -> None:
        host = headers.only("host").lower()
        match = _HOST.fullmatch(host)
        if match is None:
            raise RequestError("invalid_request", "one Host header is needed, as `127.0.0.1:8081`")
        if match.group(1).removesuffix(".") not in self._hosts:
            raise RequestError("forbidden", f"this listener does not answer for host {host!r}; see server.admin_host")
        origins = headers.all("origin")
        if any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins):
            raise RequestError("forbidden", "pages of other origins may not use this listener")
        if any(site.lower() not in ("same-origin", "none") for site in headers.all("sec-fetch-site")):
            raise RequestError("forbidden", "pages of other sites may not use this listener")
        length = headers.only("content-length")
        if length.isascii() and length.isdigit() and int(length[:20]) > BODY_BYTES_MAX:
            raise too_large()


class Gate:
    """Knows the key, and who may pass without it."""

    def __init__(self, key: Secret) -> None:
        self._key = key.reveal().encode()
        self._refused = 0
        self._told_s = -_REFUSED_LOG_S

    def check(self, scope: Scope, access: Access) -> None:
        """Let the request pass, or not.

        Raises:
            RequestError: `invalid_api_key`.
        """
        if access == "public" or (access == "loopback" and on_loopback(scope)):
            return
        scheme, _, given = _Headers(scope).only("authorization").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._key)
        if scheme.lower() == "bearer" and right:
            return
        if given:
            self._tell(scope)
        raise RequestError(
            "invalid_api_key",
            "the admin key is needed, as `Authorization: Bearer KEY`; "
            "it is server.admin_key, or in the file admin.key of server.data_dir",
        )

    def _tell(self, scope: Scope) -> None:
        self._refused += 1
        now_s = clock.monotonic()
        if now_s - self._told_s >= _REFUSED_LOG_S:
            _log.warning("%d admin requests with a wrong key, the last from %s", self._refused, peer(scope))
            self._refused = 0
            self._told_s = now_s


def too_large() -> RequestError:
    """Return the error for a body above the limit."""
    return RequestError("request_too_large", f"the body is longer than {BODY_BYTES_MAX} bytes")


def peer(scope: Scope) -> str:
    """Return the client's address, `local` for a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else "local"


def on_loopback(scope: Scope) -> bool:
    """Whether the client is on this machine."""
    name = peer(scope)
    if name == "local":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def raw_path(scope: Scope) -> str:
    """Return the path as it was sent, percent signs and all."""
    raw = scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(scope["path"])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class _Headers:
    """The headers of a request; names are lower case, values latin-1."""

    __slots__ = ("_pairs",)

    def __init__(self, scope: Scope) -> None:
        self._pairs: list[tuple[bytes, bytes]] = scope["headers"]

    def all(self, name: str) -> list[str]:
        wanted = name.encode()
        return [value.decode("latin-1").strip() for key, value in self._pairs if key == wanted]

    def only(self, name: str) -> str:
        """Return the value when there is exactly one, else nothing: of two, each side might believe another."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ""
