"""A document made into the server's configuration: short forms, inheritance and guesses carried out.

Problems are recorded like those of the walker; a value that the walker refused is passed over in silence.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET
from msgspec import structs as struct_of

from open_autoglm.admission.networks import Networks
from open_autoglm.cluster.settings import ClusterSettings, ClusterTls
from open_autoglm.config.document import ConfigDocument, KeyLimitsDocument, LimitsDocument, ModelDocument
from open_autoglm.config.endpoints import Address, read_address
from open_autoglm.config.keys import NAME_RULE, is_name, nearest
from open_autoglm.config.planned import DatabaseSettings, SyncSettings, unavailable
from open_autoglm.config.problems import Problems
from open_autoglm.config.schema import WILDCARD, AuthSettings, KeyEntry, ModelEntry, ServerConfig, ServerSettings
from open_autoglm.config.substitution import Refused, Substitution
from open_autoglm.config.tree import shorten
from open_autoglm.cooperation.settings import CooperationEntry
from open_autoglm.exchange.settings import AnswerLimits
from open_autoglm.resilience.settings import KeyLimits
from open_autoglm.routing.settings import RoutingSettings
from open_autoglm.tools.offer_settings import ContextSettings
from open_autoglm.transport.settings import TlsFiles, WireLimits

SERVED_DIALECTS = ("openai", "generate", "embedded", "mcp")
"""Dialects that this version speaks."""

_CONTEXT_PATH = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

_SYNC_KEYS = ("sync_mode", "heartbeat_interval", "election_timeout", "replication_workers")


class Written(NamedTuple):
    """An entry of `models`, and where it was written; entries of `model_endpoints` are turned into such."""

    document: ModelDocument
    path: str
    endpoint_path: str


class Resolver:
    """Makes one `ServerConfig`.

    Args:
        document: what was written.
        substitution: for paths of files.
        problems: where problems are recorded.

    Attributes:
        warnings: one for each thing that is understood but will not happen.
        written: path of each model and key, by its identity.
        flat: name of the virtual model that is written in the flat form, if one is.
    """

    __slots__ = ("_document", "_problems", "_substitution", "flat", "warnings", "written")

    def __init__(self, document: ConfigDocument, substitution: Substitution, problems: Problems) -> None:
        self._document = document
        self._substitution = substitution
        self._problems = problems
        self.warnings: list[str] = []
        self.written: dict[int, str] = {}
        self.flat: frozenset[str] = frozenset()

    def config(self) -> ServerConfig:
        """Make it. What was wrong is in the problems."""
        document = self._document
        self._warn_of_sections()
        models = self._models()
        served = [model for model in models if model.dialect in SERVED_DIALECTS]
        wire, answers = self._sizes(document.limits)
        limits = _global_limits(document.limits)
        return ServerConfig(
            server=self._server(),
            models=served,
            models_unavailable=[model for model in models if model.dialect not in SERVED_DIALECTS],
            routing=document.routing,
            timeouts=document.timeouts,
            retries=document.retries,
            breaker=document.breaker,
            concurrency=document.concurrency,
            outliers=document.outliers,
            throttling=document.throttling,
            health=document.health,
            hedging=document.hedging,
            stream_failure=document.stream_failure,
            limits=limits,
            when_exceeded=document.limits.when_exceeded,
            admission=document.admission,
            overload=document.overload,
            sources=document.sources,
            wire=wire,
            frames=document.limits.frames,
            pool=document.limits.upstream,
            answers=answers,
            auth=self._auth(limits),
            tls=self._tls(),
            drain=document.drain,
            logging=document.logging,
            explain=document.explain,
            audit=document.audit,
            tickets=document.tickets,
            mcp=document.mcp,
            cluster=self._cluster(document.cluster),
            service=document.service,
            sync=SyncSettings(
                document.sync_mode,
                document.heartbeat_interval_s,
                document.election_timeout_s,
                document.replication_workers,
            ),
            budgets=document.budgets,
            sessions=document.sessions,
            cooperation=self._cooperation(models),
            tools=document.tools,
            context=self._context(document.context),
            runs=document.runs,
            database=self._database(),
        )

    def _warn_of_sections(self) -> None:
        """One warning for each part that is asked for and not built yet."""
        document, written = self._document, self._problems.written
        asked = {
            "auth.jwt": document.auth.jwt is not None,
            "auth.signing": document.auth.signing.enabled,
            "budgets": written("budgets"),
            "sessions": written("sessions"),
            "database": document.database is not None,
            "service.registry": document.service.registry is not None,
            "mcp.enabled": not document.mcp.enabled,
        }
        self.warnings += [unavailable(key) for key, is_asked in asked.items() if is_asked]
        sync = [key for key in _SYNC_KEYS if written(key)]
        if sync:
            self.warnings.append(unavailable("sync_mode", "`, `".join(sync)))
        flat = [key for key in ("timeout_seconds", "fallback_enabled") if written(key)]
        if flat and not written("cooperation_strategy"):
            names = "`, `".join(flat)
            self.warnings.append(f"`{names}`: for a virtual model over `model_endpoints`; write `cooperation_strategy`")

    def _server(self) -> ServerSettings:
        server, service = self._document.server, self._document.service
        if service.port is not None:
            own, other = self._origin("server.port"), self._origin("service.port")
            # The environment, and what was typed, goes over the file.
            if own is not None and bool(own) == bool(other) and service.port != server.port:
                message = f"says {service.port}, but `server.port` says {server.port}; keep one"
                self._problems.add("service.port", message)
            if not own or other:
                server = struct_of.replace(server, port=service.port)
        path = server.context_path.strip("/")
        if path and _CONTEXT_PATH.fullmatch(path) is None:
            self._problems.add("server.context_path", f"expected a path like /api or /a/b, got {shorten(path)}")
        for index, text in enumerate(server.trusted_proxies):
            try:
                if Networks([text]).everywhere:
                    self.warnings.append(
                        f"`server.trusted_proxies[{index}]`: {text} is every address, so that any client can say in "
                        "`x-forwarded-for` who it is; name the addresses of your proxies"
                    )
            except ValueError:
                self._problems.add(
                    f"server.trusted_proxies[{index}]",
                    f"expected an address or a network like 10.0.0.0/8, got {shorten(text)}",
                )
        return struct_of.replace(server, context_path=f"/{path}" if path else "")

    def _origin(self, path: str) -> str | None:
        """The environment variable that a value came from, empty for the file; None when nothing was written."""
        place = self._problems.places.get(path)
        return None if place is None else place.origin

    def _models(self) -> list[ModelEntry]:
        entries: list[ModelEntry] = []
        for written in self._written_models():
            entry = self._model(written)
            if entry is not None:
                entries.append(entry)
                self.written[id(entry)] = written.path
        return entries

    def _written_models(self) -> Iterable[Written]:
        for index, document in enumerate(self._document.models):
            yield Written(document, f"models[{index}]", f"models[{index}].endpoint")
        for index, endpoint in enumerate(self._document.model_endpoints):
            path = f"model_endpoints[{index}]"
            yield Written(ModelDocument(name="", endpoint=endpoint), path, path)

    def _model(self, written: Written) -> ModelEntry | None:
        document, bad = written.document, self._problems.bad
        if written.path in bad:
            return None
        address = None if written.endpoint_path in bad else self._address(written)
        flat = written.path == written.endpoint_path
        name = document.name
        if flat:
            name = address.host if address else ""
        elif f"{written.path}.name" not in bad and not is_name(name):
            self._problems.add(f"{written.path}.name", f"{shorten(name)} is no name of a model; a name is {NAME_RULE}")
        if address is None or not is_name(name):
            return None
        own = {field: value for field, value in struct_of.asdict(document.timeouts).items() if value is not UNSET}
        if document.continuation != "none" and address.dialect != "openai":
            message = "is for endpoints that speak openai; others need no word for it, or cannot go on; leave it out"
            self._problems.add(f"{written.path}.continuation", message)
        if address.dialect not in SERVED_DIALECTS:
            label = f"{written.path}.dialect: {address.dialect}"
            self.warnings.append(unavailable(f"dialect {address.dialect}", label))
        return ModelEntry(
            name=name,
            endpoint=address.url,
            dialect=address.dialect,
            upstream_model=document.upstream_model or (None if name == WILDCARD else name),
            token=document.token,
            weight=document.weight,
            max_retries=document.max_retries,
            context_window=document.context_window,
            price=document.price,
            timeouts=struct_of.replace(self._document.timeouts, **own),
            stream_usage=document.stream_usage,
            continuation=document.continuation,
            stream_failure=document.stream_failure or self._document.stream_failure,
            hedged=self._document.hedging.enabled if document.hedged is None else document.hedged,
            ca=self._readable(f"{written.path}.ca", document.ca),
            client_cert=self._readable(f"{written.path}.client_cert", document.client_cert),
            client_key=self._readable(f"{written.path}.client_key", document.client_key),
        )

    def _address(self, written: Written) -> Address | None:
        document = written.document
        # A dialect that was refused is a problem already; what the address means by itself would be a second one.
        dialect = None if f"{written.path}.dialect" in self._problems.bad else document.dialect
        try:
            address = read_address(document.endpoint, dialect)
        except Refused as refused:
            self._problems.add(written.endpoint_path, str(refused))
            return None
        if address.dialect == "embedded" and address.host not in (shipped := _embedded_names()):
            hint = f"the nearest is {nearest(address.host, shipped)!r}"
            message = f"no embedded model is called {shorten(address.host)}; {hint}"
            self._problems.add(written.endpoint_path, message)
            return None
        if dialect is None and address.dialect == "generate" and address.url.endswith("/completions"):
            self.warnings.append(
                f"`{written.endpoint_path}`: read as dialect generate; write an OpenAI-compatible server up to /v1"
            )
        return address

    def _sizes(self, limits: LimitsDocument) -> tuple[WireLimits, AnswerLimits]:
        """Client and answer limits, with the two that may be written in two places."""
        wire = limits.wire
        if limits.body_bytes is not None:
            self._same("limits.body_bytes", limits.body_bytes, "limits.wire.body_bytes", wire.body_bytes)
            wire = struct_of.replace(wire, body_bytes=limits.body_bytes)
        if self._problems.written("server.max_connections") or not self._problems.written("limits.wire.connections"):
            connections = self._document.server.max_connections
            self._same("server.max_connections", connections, "limits.wire.connections", wire.connections)
            wire = struct_of.replace(wire, connections=connections)
        return wire, AnswerLimits(limits.response_bytes, limits.stream_bytes)

    def _same(self, path: str, value: int, other: str, other_value: int) -> None:
        if self._problems.written(other) and value != other_value:
            self._problems.add(other, f"says {other_value}, but `{path}` says {value}; keep one")

    def _auth(self, limits: KeyLimits) -> AuthSettings:
        auth = self._document.auth
        keys: list[KeyEntry] = []
        single = len(auth.api_key) == 1
        otherwise = self._document.limits.when_exceeded
        for index, secret in enumerate(auth.api_key):
            name = "default" if single else f"key-{index + 1}"
            entry = KeyEntry(name, secret, None, limits, otherwise)
            self._add_key(keys, entry, f"auth.api_key[{index}]")
        for index, key in enumerate(auth.api_keys):
            own = _key_limits(key.limits, limits)
            exceeded = key.limits.when_exceeded or otherwise
            entry = KeyEntry(key.name, key.key, key.models, own, exceeded, key.priority, key.certificates)
            self._add_key(keys, entry, f"auth.api_keys[{index}]")
        asked = bool(keys) or auth.jwt is not None or auth.signing.enabled
        return AuthSettings(asked if auth.enabled is None else auth.enabled, keys, auth.jwt, auth.signing)

    def _add_key(self, keys: list[KeyEntry], key: KeyEntry, path: str) -> None:
        if not {path, f"{path}.key"} & self._problems.bad:
            keys.append(key)
            self.written[id(key)] = path

    def _tls(self) -> TlsFiles:
        tls = self._document.tls
        return TlsFiles(
            cert=self._readable("tls.cert", tls.cert),
            key=self._readable("tls.key", tls.key),
            client_ca=self._readable("tls.client_ca", tls.client_ca),
        )

    def _cluster(self, cluster: ClusterSettings) -> ClusterSettings:
        """The same with absolute paths."""
        tls = cluster.tls
        if tls is None:
            return cluster
        readable = ClusterTls(
            ca=self._readable("cluster.tls.ca", tls.ca) or tls.ca,
            cert=self._readable("cluster.tls.cert", tls.cert),
            key=self._readable("cluster.tls.key", tls.key),
        )
        return struct_of.replace(cluster, tls=readable)

    def _context(self, offer: ContextSettings) -> ContextSettings:
        """The same with absolute paths."""
        resources = [
            struct_of.replace(each, file=self._readable(f"context.resources[{position}].file", each.file))
            for position, each in enumerate(offer.resources)
        ]
        return struct_of.replace(offer, resources=resources)

    def _readable(self, path: str, written: str | None) -> str | None:
        """Make the path of a file that will be read absolute, and see that it can be."""
        if written is None or path in self._problems.bad:
            return None
        try:
            return self._substitution.readable(written)
        except Refused as refused:
            self._problems.add(path, str(refused))
            return None

    def _cooperation(self, models: list[ModelEntry]) -> dict[str, CooperationEntry]:
        """Virtual models; the flat form is one, named after its strategy."""
        document = self._document
        name = document.cooperation_strategy
        if name is None or "cooperation_strategy" in self._problems.bad:
            return document.cooperation
        endpoints = [model for model in models if self.written[id(model)].startswith("model_endpoints")]
        members = list(dict.fromkeys(model.name for model in endpoints))
        if name in document.cooperation:
            self._problems.add(
                "cooperation_strategy", f"`cooperation` has a virtual model {name!r} too; rename that one"
            )
        elif not members and not any(path.startswith("model_endpoints") for path in self._problems.bad):
            self._problems.add("cooperation_strategy", "needs `model_endpoints`, which work together")
        if name in document.cooperation or not members:
            return document.cooperation
        self.flat = frozenset((name,))
        fallback = members[0] if document.fallback_enabled else None
        flat = CooperationEntry(strategy=name, members=members, timeout_s=document.timeout_seconds, fallback=fallback)
        return {name: flat, **document.cooperation}

    def _database(self) -> DatabaseSettings | None:
        database = self._document.database
        if database is None:
            return None
        return struct_of.replace(database, url=database.url.removeprefix("jdbc:"))


def _embedded_names() -> tuple[str, ...]:
    from open_autoglm.engines.embedded import catalog  # brings numpy, which only its users should wait for

    return catalog.names()


def _global_limits(limits: LimitsDocument) -> KeyLimits:
    rate = limits.requests_per_second
    return KeyLimits(rate, limits.burst or _second_of(rate), limits.requests_per_minute, limits.concurrency)


def _key_limits(own: KeyLimitsDocument, limits: KeyLimits) -> KeyLimits:
    """A key's own limits, and the global ones for what it leaves out; its burst follows its own rate."""
    rate = limits.requests_per_second if own.requests_per_second is None else own.requests_per_second
    burst = limits.burst if own.requests_per_second is None and own.burst is None else own.burst
    return KeyLimits(
        requests_per_second=rate,
        burst=burst or _second_of(rate),
        requests_per_minute=limits.requests_per_minute if own.requests_per_minute is None else own.requests_per_minute,
        concurrency=limits.concurrency if own.concurrency is None else own.concurrency,
    )


def _second_of(rate: float) -> int:
    """Size of a bucket that holds one second of a rate; 0 when there is no rate."""
    return max(1, math.ceil(rate)) if rate else 0


def served_routing(routing: RoutingSettings, served: set[str]) -> RoutingSettings:
    """Leave out of the routing what names models that are not served; with `*` every name is."""
    if WILDCARD in served:
        return routing
    fallbacks = {
        name: kept
        for name, names in routing.fallbacks.items()
        if name in served and (kept := [each for each in names if each in served])
    }
    default = routing.default if routing.default in served else None
    return struct_of.replace(routing, default=default, fallbacks=fallbacks)
