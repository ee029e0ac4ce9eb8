"""Checks that look at several values of a configuration at once.

Each takes the finished configuration and records what does not fit together. A check keeps silent about
values that were refused before, so that one mistake is one problem.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from open_autoglm.config.cluster_checks import cluster_problems
from open_autoglm.config.keys import NAME_RULE, is_name, nearest
from open_autoglm.config.problems import Problems
from open_autoglm.config.schema import WILDCARD, ModelEntry, ServerConfig
from open_autoglm.config.tls_checks import tls_problems
from open_autoglm.config.tree import shorten
from open_autoglm.secret import Secret

HOST_CHARACTERS_MAX = 253
"""Of a host name (RFC 1035, without the root's dot)."""

AUDIT_KEY_CHARACTERS_MIN = 16

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*)|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
_EVERY_NETWORK = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_ORDERS = (
    ("concurrency", ("min", "max")),
    ("overload", ("soft", "hard", "full")),
    ("overload", ("lag_soft_s", "lag_hard_s", "lag_full_s")),
)
_STORES = re.compile(r"memory|sqlite|rediss?://\S+")


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of one configuration.

    Attributes:
        config: the configuration.
        problems: where problems are recorded.
        warnings: where warnings are recorded.
        written: path of each model and key, by its identity.
        flat: names of virtual models in the flat form.
        insecure: whether a public address without authentication was asked for.
        trusted: whether functions that it names may be imported.
    """

    config: ServerConfig
    problems: Problems
    warnings: list[str]
    written: dict[int, str]
    flat: frozenset[str]
    insecure: bool
    trusted: bool

    def run(self) -> None:
        """Run all checks."""
        self._addresses()
        self._public()
        self._tls()
        self._models()
        self._names()
        self._keys()
        self._orders()
        self._hedges()
        self._cluster()
        self._cooperation()
        self._tools()
        self._context()
        self._audit()
        self._workers()
        self._planned()

    def _addresses(self) -> None:
        server = self.config.server
        for path, host in (("server.host", server.host), ("server.admin_host", server.admin_host)):
            if _HOST.fullmatch(host) is None or len(host) > HOST_CHARACTERS_MAX:
                hint = "; write 0.0.0.0 for every network" if host in ("*", "") else ""
                self._add(path, f"{shorten(host)} is no IP address or host name{hint}")
        same_host = server.host == server.admin_host or {server.host, server.admin_host} & set(_EVERY_NETWORK)
        if server.port and server.port == server.admin_port and same_host:
            path = "server.admin_port" if self.problems.written("server.admin_port") else "server.port"
            message = f"both listeners would use port {server.port}; write another `server.admin_port`, or 0"
            self._add(path, message)
        if server.grpc_port and server.grpc_port in (server.port, server.admin_port if same_host else 0):
            message = f"another listener would use port {server.grpc_port} too; write another one, or 0"
            self._add("server.grpc_port", message)

    def _public(self) -> None:
        server = self.config.server
        if self._refused("server.host") or self._refused("auth"):
            return
        if not is_loopback(server.host):
            if not self.config.auth.enabled and not self.insecure:
                self._add(
                    "server.host",
                    f"{server.host!r} can be reached from other machines, and authentication is off; "
                    "set `auth.api_key`, bind 127.0.0.1, or start with --insecure",
                )
            if self.config.tls.cert is None:
                self.warnings.append(
                    f"`server.host`: {server.host} can be reached from other machines, and keys and prompts travel "
                    "unencrypted; set `tls.cert` and `tls.key`"
                )
        if not is_loopback(server.admin_host):
            self.warnings.append(
                f"`server.admin_host`: {server.admin_host} can be reached from other machines, and the admin listener "
                "is not encrypted; bind 127.0.0.1"
            )

    def _tls(self) -> None:
        tls = self.config.tls
        for path, message in tls_problems(self.config, self._path):
            self._add(path, message)
        for has, lacks in (("cert", "key"), ("key", "cert"), ("client_ca", "cert")):
            if self._given(f"tls.{has}") and not self._given(f"tls.{lacks}"):
                self._add(f"tls.{has}", f"needs `tls.{lacks}` beside it")
        if tls.key is not None and others_can_read(tls.key):
            self.warnings.append(f"`tls.key`: others can read {tls.key}; run `chmod 600` on it")

    def _given(self, path: str) -> bool:
        """Whether something is at a path of `tls`, be it right or wrong."""
        return path in self.problems.bad or getattr(self.config.tls, path.removeprefix("tls.")) is not None

    def _models(self) -> None:
        seen: dict[tuple[object, ...], str] = {}
        weights: dict[str, float] = {}
        models = self.config.models + self.config.models_unavailable
        for model in models:
            path = self._path(model)
            same = (model.name, model.endpoint, model.upstream_model, model.token)
            if same in seen:
                self._add(path, f"is the same endpoint for {model.name!r} as {seen[same]}; keep one")
            seen.setdefault(same, path)
            weights[model.name] = weights.get(model.name, 0.0) + model.weight
        for model in models:
            if weights.pop(model.name, 1.0) == 0:
                self._add(f"{self._path(model)}.weight", f"every entry of {model.name!r} has weight 0; raise one")
        if not (models or self.config.cluster.secret or self._refused("model")):
            self.warnings.append("`models`: there is none; the server starts, but is not ready")
        self._continuations(models)

    def _continuations(self, models: list[ModelEntry]) -> None:
        """Who asks that streams go on must say which endpoints can; otherwise nothing happens, and nobody notices."""
        wanted = dict.fromkeys(m.name for m in models if m.dialect == "openai" and m.stream_failure == "continue")
        able = {m.name for m in models if m.dialect != "openai" or m.continuation != "none"}
        names = [name for name in wanted if name not in able]
        if names:
            self.warnings.append(
                f"`stream_failure`: no entry of {shorten(', '.join(names))} says by `continuation` how it goes on with "
                "a conversation; only streams of completions will be continued"
            )

    def _path(self, entry: object) -> str:
        return self.written[id(entry)]

    def _names(self) -> None:
        """Models that are named elsewhere must exist. A refused entry might have been the one that is meant."""
        models = self._known_models()
        if models is None:
            return
        known = dict.fromkeys([*models, *self.config.cooperation])
        for path, name in self._named():
            if name not in known and path not in self.problems.bad:
                hint = f"; the nearest is {nearest(name, known)!r}" if known and not self.problems.full else ""
                self._add(path, f"no model is called {shorten(name)}{hint}")

    def _known_models(self) -> list[str] | None:
        """Names of models; None where any name may be one, as that of a model of a node that joins later."""
        known = [model.name for model in self.config.models + self.config.models_unavailable]
        if WILDCARD in known or self.config.cluster.secret is not None or self._refused("model"):
            return None
        return known

    def _named(self) -> Iterator[tuple[str, str]]:
        """Every place that names a model."""
        routing = self.config.routing
        if routing.default is not None:
            yield "routing.default", routing.default
        for name, fallbacks in routing.fallbacks.items():
            yield f"routing.fallbacks.{name}", name
            tried = {name}
            for index, fallback in enumerate(fallbacks):
                path = f"routing.fallbacks.{name}[{index}]"
                if fallback in tried:
                    self._add(path, f"{shorten(fallback)} has been tried by then; remove it")
                tried.add(fallback)
                yield path, fallback
        for key in self.config.auth.keys:
            for position, name in enumerate(key.models or ()):
                yield f"{self.written[id(key)]}.models[{position}]", name

    def _keys(self) -> None:
        auth = self.config.auth
        other_means = auth.jwt is not None or auth.signing.enabled
        if auth.enabled and not (auth.keys or other_means or self._refused("auth")):
            self._add(
                "auth.enabled",
                "authentication is on, but there is no key; write `api_key: ${MCP_API_KEY}` or `api_key: file:PATH` "
                "beside it, or `enabled: false`",
            )
        names: set[str] = set()
        owners: dict[Secret, str] = {}
        for key in auth.keys:
            path = self.written[id(key)]
            if not is_name(key.name):
                self._add(f"{path}.name", f"{shorten(key.name)} is no name of a key; a name is {NAME_RULE}")
            elif key.name in names:
                self._add(f"{path}.name", f"{shorten(key.name)} is the name of another key too; names are unique")
            elif key.key in owners:
                self._add(path, f"is the same key as that of {owners[key.key]!r}; each key is one client's")
            names.add(key.name)
            owners.setdefault(key.key, key.name)

    def _orders(self) -> None:
        """Of values that follow each other none may be lower than the one before it."""
        for section, names in _ORDERS:
            values = getattr(self.config, section)
            for before, name in pairwise(names):
                lower, higher = getattr(values, before), getattr(values, name)
                first, second = (f"{section}.{each.removesuffix('_s')}" for each in (before, name))
                if higher < lower and first not in self.problems.bad:
                    told = second if self.problems.written(second) else first
                    self._add(told, f"`{second}` ({higher:g}) must not be lower than `{first}` ({lower:g})")

    def _hedges(self) -> None:
        """Who asks for a second attempt at a time when streams are given up already will wait for it in vain."""
        places = [("", self.config.timeouts)]
        places += [(f"{self._path(model)}.", model.timeouts) for model in self.config.models]
        for place, timeouts in places:
            path = f"{place}timeouts.first_token_hedge"
            hedge_s, first_token_s = timeouts.first_token_hedge_s, timeouts.first_token_s
            if self.problems.written(path) and hedge_s >= first_token_s and not self._refused(f"{place}timeouts"):
                self.warnings.append(
                    f"`{path}`: after {hedge_s:g} s no stream is waited for any more, by `timeouts.first_token` "
                    f"({first_token_s:g} s); only answers in one piece get a second attempt"
                )

    def _cluster(self) -> None:
        if not self._refused("cluster"):
            for path, message in cluster_problems(self.config.cluster):
                self._add(path, message)

    def _cooperation(self) -> None:
        if self.config.cooperation and not self._refused("cooperation"):
            from open_autoglm.config.cooperation_checks import cooperation_problems, team_members  # every strategy

            for path, message in cooperation_problems(
                self.config, self._known_models(), self.flat, trusted=self.trusted
            ):
                self._add(path, message)
            priced = {model.name for model in self.config.models if model.price is not None}
            teams = self.config.cooperation.items()
            priced |= {name for name, entry in teams if priced.intersection(entry.members)}
            for name, entry in teams:
                tools = any(member.price for member in team_members(self.config, entry) if member.kind == "tool")
                if entry.budget.money and not tools and not priced.intersection(entry.members):
                    self.warnings.append(
                        f"`cooperation.{name}.budget.money`: no member has a `price`, so that no answer costs anything"
                    )

    def _tools(self) -> None:
        if self.problems.written("tools") and not self._refused("tools"):
            from open_autoglm.config.tool_checks import tool_problems  # most configurations name no tool

            for path, message in tool_problems(self.config.tools):
                self._add(path, message)

    def _context(self) -> None:
        if self.problems.written("context") and not self._refused("context") and not self._refused("tools"):
            from open_autoglm.config.offer_checks import offer_problems

            for path, message in offer_problems(self.config.context, self.config.tools):
                self._add(path, message)

    def _audit(self) -> None:
        audit = self.config.audit
        if audit.required and not audit.enabled:
            self._add("audit.required", "records cannot be required while `audit.enabled` is false; keep one of them")
        if audit.key is not None and len(audit.key.reveal()) < AUDIT_KEY_CHARACTERS_MIN:
            message = f"is shorter than {AUDIT_KEY_CHARACTERS_MIN} characters; make one with `autoglm keys new`"
            self._add("audit.key", message)

    def _workers(self) -> None:
        """What several processes cannot do together."""
        if self.config.server.workers > 1:
            if self.config.cluster.secret is not None:
                self._add("server.workers", "several workers cannot be one member of a cluster; write 1 with `cluster`")
            if self.config.server.grpc_port == 0:
                self._add("server.grpc_port", "several workers need one port for all; write a number, or workers: 1")

    def _planned(self) -> None:
        """Sections of later versions: what they hold must make sense already."""
        config = self.config
        if _STORES.fullmatch(config.sessions.store) is None:
            self._add("sessions.store", "expected memory, sqlite or redis://HOST:PORT")
        if config.sync.election_timeout_s <= config.sync.heartbeat_interval_s:
            path = "election_timeout" if self.problems.written("election_timeout") else "heartbeat_interval"
            self._add(path, "the election timeout must be longer than the heartbeat interval")

    def _refused(self, prefix: str) -> bool:
        """Whether anything whose path begins so was refused, and what follows from it is unknown."""
        return any(path.startswith(prefix) for path in self.problems.bad)

    def _add(self, path: str, message: str) -> None:
        if path not in self.problems.bad:
            self.problems.add(path, message)


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine alone."""
    return _LOOPBACK.fullmatch(host) is not None


def others_can_read(path: str) -> bool:
    """Whether group or world may read a file; False when it is not there."""
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o044)
    except OSError:
        return False
