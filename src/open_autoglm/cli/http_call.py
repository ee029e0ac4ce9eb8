"""HTTP calls of the command line: one at a time, on the standard library, with limits and deadlines.

Invariant: no call waits longer than its time, no answer is read beyond its limit, a key is sent to the address that
it was given for and nowhere else (redirects and proxies are not followed).
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from open_autoglm import clock
from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed
from open_autoglm.secret import Secret

ANSWER_BYTES_MAX = 64 * 2**20
"""Of one answer; a server's own limit for what it passes on is the same."""

_READ_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        tls: whether it is https.
        host: name or IP address, without brackets.
        port: 1 to 65535.
        base_path: before every route, without a slash at its end; often empty.
    """

    tls: bool
    host: str
    port: int
    base_path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base_path}"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to call.

    Attributes:
        address: where it is.
        key: sent as a bearer token; None for none.
        ca: PEM file of the authorities to trust for https; the system's when None.
    """

    address: Address
    key: Secret | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def parse_address(text: str) -> Address:
    """Read `http://HOST:PORT`, `https://…`, `HOST:PORT`; a path before the routes is kept, a final `/v1` dropped.

    Raises:
        CommandFailed: it is no such address.
    """
    wrong = CommandFailed(f"{text!r} is no address of a server; write http://HOST:PORT", WRONG_USAGE)
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise wrong
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Address(tls, parts.hostname, port or (443 if tls else 80), path)


def call(
    target: Target,
    method: str,
    path: str,
    body: object = None,
    *,
    timeout_s: float = 10.0,
    headers: Mapping[str, str] | None = None,
    on_open: Callable[[http.client.HTTPConnection], None] | None = None,
) -> Answer:
    """Make one call and read its answer.

    Args:
        target: the server.
        method: GET, POST, …
        path: from the address's base path on, with its query.
        body: sent as JSON; bytes are sent as they are; None for none.
        timeout_s: for everything together.
        headers: further ones, or others than the usual.
        on_open: told the connection before anything is sent, so that another thread may cut it.

    Raises:
        CommandFailed: no answer, or one that is too long.
    """
    deadline_s = clock.monotonic() + timeout_s
    with open_call(target, method, path, body, timeout_s=timeout_s, headers=headers, on_open=on_open) as response:
        data = b""
        while chunk := response.read1(_READ_BYTES):
            data += chunk
            if len(data) > ANSWER_BYTES_MAX:
                raise CommandFailed(f"the answer of {target.address} is longer than {ANSWER_BYTES_MAX} bytes")
            if clock.monotonic() > deadline_s:
                raise CommandFailed(f"{target.address} did not finish its answer within {timeout_s:g} s")
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)


@contextmanager
def open_call(
    target: Target,
    method: str,
    path: str,
    body: object = None,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    on_open: Callable[[http.client.HTTPConnection], None] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Make one call and hand out its answer unread; leaving the context closes the connection, read or not.

    Args:
        target, method, path, body, headers, on_open: as for `call`.
        timeout_s: longest wait for the connection, and for each piece of the answer.

    Raises:
        CommandFailed: no connection, no answer, or the connection broke while the answer was read.
    """
    address = target.address
    sent = {"accept": "application/json", **(headers or {}), "connection": "close"}
    if target.key is not None:
        sent["authorization"] = f"Bearer {target.key.reveal()}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body, ensure_ascii=False).encode()
    if data is not None:
        sent["content-type"] = "application/json"
    connection = _connection(target, timeout_s)
    try:
        if on_open is not None:
            connection.connect()
            on_open(connection)
        connection.request(method, address.base_path + path, data, sent)
        yield connection.getresponse()
    except TimeoutError:
        raise CommandFailed(f"{address} did not answer within {timeout_s:g} s; is it overloaded?") from None
    except ssl.SSLError as error:
        advice = (
            "name its authority with --ca FILE" if isinstance(error, ssl.SSLCertVerificationError) else "is it https?"
        )
        raise CommandFailed(
            f"no TLS with {address}: {getattr(error, 'verify_message', '') or error.reason}; {advice}"
        ) from error
    except ConnectionRefusedError:
        raise CommandFailed(
            f"nothing listens on {address}; start it with `autoglm serve`, or name it with --server"
        ) from None
    except (ConnectionResetError, http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
        raise CommandFailed(f"{address} closed the connection before the answer was whole") from error
    except OSError as error:
        raise CommandFailed(f"cannot reach {address}: {error.strerror or error}") from error
    except http.client.HTTPException as error:
        raise CommandFailed(
            f"{address} does not answer as HTTP should ({type(error).__name__}); is it the right port?"
        ) from error
    finally:
        connection.close()


def _connection(target: Target, timeout_s: float) -> http.client.HTTPConnection:
    address = target.address
    if not address.tls:
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=target.ca)
    except OSError as error:
        raise CommandFailed(f"--ca {target.ca!r}: {error.strerror or error}; name a PEM file") from error
    return http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)


def error_message(answer_body: object) -> str:
    """Return the message of an error body of ours or of OpenAI's form; empty when there is none."""
    if isinstance(answer_body, dict):
        error = answer_body.get("error")
        if isinstance(error, dict):
            return str(error.get("message") or error.get("code") or "")
        if isinstance(error, str):
            return error
    return ""
