"""Can each model's endpoint be reached, and does it take our credential? Nothing is generated, so nothing is paid.

A connection is opened; where the endpoint speaks openai, its list of models is read too, and a node is shaken hands
with. All
endpoints are looked at side by side, each for `PROBE_S` at most, on threads that the process does not wait for.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from open_autoglm import clock
from open_autoglm.cli.doctor.finding import Finding, fail, ok, warn
from open_autoglm.cli.doctor.nodes import shake_hands
from open_autoglm.config.schema import ModelEntry

PROBE_S = 2.0
"""For one endpoint; what takes longer to answer an empty question is not well."""

ANSWER_BYTES_MAX = 4 * 2**20
"""Of a list of models."""

_LISTED_MAX = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """What one endpoint showed.

    Attributes:
        finding: for the report.
        skew_s: how far its clock is ahead of ours, when it told the time.
    """

    finding: Finding
    skew_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an endpoint is."""

    tls: bool
    host: str
    port: int
    path: str
    socket_path: str | None


def probe_all(entries: Sequence[ModelEntry], probe_s: float = PROBE_S) -> list[Probe]:
    """Look at every endpoint, all at once.

    Args:
        entries: of the configuration.
        probe_s: for each; those that are not done by then have failed.
    """
    answers: queue.SimpleQueue[tuple[int, Probe]] = queue.SimpleQueue()
    for index, entry in enumerate(entries):
        threading.Thread(target=lambda i=index, e=entry: answers.put((i, _guarded(e, probe_s))), daemon=True).start()
    probes: dict[int, Probe] = {}
    deadline_s = clock.monotonic() + probe_s + 0.5
    while len(probes) < len(entries):
        try:
            index, probe = answers.get(timeout=max(deadline_s - clock.monotonic(), 0.001))
        except queue.Empty:
            break
        probes[index] = probe
    return [probes.get(i) or _late(entry, probe_s) for i, entry in enumerate(entries)]


def _guarded(entry: ModelEntry, probe_s: float) -> Probe:
    """Look at one endpoint; whatever goes wrong there is a finding."""
    topic = _topic(entry)
    try:
        return _probe(entry, topic, probe_s)
    except TimeoutError:
        return _late(entry, probe_s)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or "no TLS"
        return Probe(
            fail(topic, f"{reason}", "name its authority in the model's `ca`, or write http:// if it has no TLS")
        )
    except socket.gaierror as error:
        return Probe(fail(topic, f"its name is not known: {error.strerror}", "check the host in the model's endpoint"))
    except ConnectionRefusedError:
        return Probe(fail(topic, "nothing listens there", "start that server, or check the model's endpoint"))
    except OSError as error:
        return Probe(
            fail(topic, f"cannot be reached: {error.strerror or error}", "check the model's endpoint, and the network")
        )
    except http.client.HTTPException as error:
        return Probe(
            fail(topic, f"does not speak HTTP ({type(error).__name__})", "check the port in the model's endpoint")
        )


def _late(entry: ModelEntry, probe_s: float) -> Probe:
    return Probe(
        fail(
            _topic(entry),
            f"no answer within {probe_s:g} s",
            "check that it runs, and that no firewall drops the packets",
        )
    )


def _probe(entry: ModelEntry, topic: str, probe_s: float) -> Probe:
    if entry.dialect == "embedded":
        return Probe(_embedded(entry, topic))
    place = _place(entry)
    if entry.dialect == "mcp":
        return Probe(shake_hands(entry, topic, probe_s))
    if entry.dialect != "openai":
        _connected(place, entry, probe_s).close()
        return Probe(
            ok(topic, f"takes connections ({entry.dialect}; not asked, since it could only be asked for an answer)")
        )
    connection = _connected(place, entry, probe_s)
    try:
        headers = {"accept": "application/json", "connection": "close"}
        if entry.token is not None:
            headers["authorization"] = f"Bearer {entry.token.reveal()}"
        connection.request("GET", f"{place.path}/models", headers=headers)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX)
        return Probe(_listing(entry, topic, response.status, body), _skew_s(response.getheader("date")))
    finally:
        connection.close()


def _embedded(entry: ModelEntry, topic: str) -> Finding:
    from open_autoglm.engines.embedded import catalog  # brings numpy along
    from open_autoglm.errors import AutoGLMError

    name = entry.endpoint.removeprefix("embedded:")
    try:
        catalog.open_model(name)
    except AutoGLMError as error:
        return fail(topic, error.message, "name one of them in the model's endpoint")
    return ok(topic, f"is whole (version {catalog.read_manifest(name).version})")


def _listing(entry: ModelEntry, topic: str, status: int, body: bytes) -> Finding:
    """Judge the answer to GET /models."""
    if status in (401, 403):
        what = "refuses the token" if entry.token is not None else "asks for a token"
        return fail(topic, f"{what} ({status})", f"set `token` of the model {entry.name!r}")
    if status == 404:
        return warn(
            topic,
            "takes requests, but has no list of models (404)",
            "check that the endpoint's path ends where /models begins",
        )
    if status != 200:
        return warn(topic, f"takes requests, but answers {status} when asked for its models", "look into its log")
    names = _names(body)
    wanted = entry.upstream_model
    if wanted is None or not names or wanted in names:
        return ok(topic, "answers" + (f", and has {wanted!r}" if wanted and names else ""))
    shown = ", ".join(names[:_LISTED_MAX]) + (", …" if len(names) > _LISTED_MAX else "")
    return warn(topic, f"does not list {wanted!r}; it has {shown}", "set `upstream_model` to one of them")


def _names(body: bytes) -> list[str]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    data = value.get("data") if isinstance(value, dict) else None
    return [str(each.get("id")) for each in data if isinstance(each, dict)] if isinstance(data, list) else []


def _skew_s(date: str | None) -> float | None:
    """How far a clock is ahead of ours, by the `Date` header that it wrote; None when it wrote none."""
    if not date:
        return None
    try:
        return parsedate_to_datetime(date).timestamp() - clock.wall()
    except (ValueError, OverflowError):
        return None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)


def _connected(place: _Place, entry: ModelEntry, probe_s: float) -> http.client.HTTPConnection:
    """Open a connection, TLS included."""
    connection: http.client.HTTPConnection
    if place.socket_path is not None:
        connection = _UnixConnection(place.socket_path, probe_s)
    elif place.tls:
        context = ssl.create_default_context(cafile=entry.ca)
        if entry.client_cert is not None:
            context.load_cert_chain(entry.client_cert, entry.client_key)
        connection = http.client.HTTPSConnection(place.host, place.port, timeout=probe_s, context=context)
    else:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=probe_s)
    connection.connect()
    return connection


def _place(entry: ModelEntry) -> _Place:
    if entry.endpoint.startswith("unix:"):
        socket_path, _, path = entry.endpoint.removeprefix("unix:").partition(":")
        return _Place(False, "localhost", 0, path, socket_path)
    parts = urlsplit(entry.endpoint)
    tls = parts.scheme in ("https", "mcps")
    return _Place(tls, parts.hostname or "", parts.port or (443 if tls else 80), parts.path.rstrip("/"), None)


def _topic(entry: ModelEntry) -> str:
    """Name an endpoint in the report: its model and its address, which holds no secret by the configuration's rules."""
    return f"model {entry.name}" if entry.dialect == "embedded" else f"model {entry.name} at {entry.endpoint}"
