"""Sections of the configuration for parts of the system that this version does not have yet.

They are read and checked like all others, so a file written for a later version works; each one that is used is
answered with one warning by name. When a part is built, its settings move to that part and its note goes from here.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Seconds
from open_autoglm.secret import Secret


class BudgetSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Money and tokens that keys may spend.

    Attributes:
        on_store_failure: whether requests are let in while the ledger cannot be reached.
    """

    on_store_failure: Literal["open", "closed"] = "open"


class SessionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Context that is kept between the requests of a session.

    Attributes:
        store: `memory`, `sqlite`, or an address `redis://HOST:PORT`.
        ttl_s: a session that is not used for so long ends.
    """

    store: str = "sqlite"
    ttl_s: Seconds = field(default=3600.0, name="ttl")


class JwtSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """JSON Web Tokens in place of keys.

    Attributes:
        issuer: who must have issued a token.
        audience: for whom a token must have been issued.
        jwks: address or file of the issuer's public keys.
        secret: shared secret, instead of `jwks`.
        max_lifetime_s: a token that is valid for longer is refused.
    """

    issuer: str | None = None
    audience: str | None = None
    jwks: str | None = None
    secret: Secret | None = None
    max_lifetime_s: Seconds = field(default=259_200.0, name="max_lifetime")


class SigningSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Signed requests.

    Attributes:
        enabled: whether signatures are understood.
        window_s: a signature that is older, or younger, than this is refused.
    """

    enabled: bool = False
    window_s: Seconds = field(default=300.0, name="window")


class DatabaseSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A relational database shared by several servers.

    Attributes:
        url: address; a leading `jdbc:` is dropped. A password in it is never shown.
        pool_size: connections that are kept open.
        connection_timeout_s: to open one.
    """

    url: str
    pool_size: Annotated[int, Meta(ge=1, le=1000)] = 10
    connection_timeout_s: Seconds = field(default=30.0, name="connection_timeout")


class SyncSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Consistency between several servers. In a file its fields stand at the top level.

    Attributes:
        sync_mode: how servers agree.
        heartbeat_interval_s: between two signs of life of the leader.
        election_timeout_s: without one, a new leader is elected.
        replication_workers: followers that are written to at once.
    """

    sync_mode: Literal["raft"] | None = None
    heartbeat_interval_s: Seconds = field(default=0.5, name="heartbeat_interval")
    election_timeout_s: Seconds = field(default=2.0, name="election_timeout")
    replication_workers: Annotated[int, Meta(ge=1, le=64)] = 4


class ServiceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """This server among other services.

    Attributes:
        name: under which it is known.
        port: the same as `server.port`.
        registry: address of the registry where it announces itself.
    """

    name: str = "open-autoglm"
    port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    registry: str | None = None


class McpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The Model Control Protocol.

    Attributes:
        enabled: whether its routes are served.
        timeout_s: in which `service.registry` must be reached.
    """

    enabled: bool = True
    timeout_s: Seconds = field(default=5.0, name="timeout")


NOTES: dict[str, str] = {
    "dialect anthropic": "such models are listed, but not served",
    "auth.jwt": "only API keys are let in",
    "auth.signing": "only API keys are let in",
    "budgets": "nothing is budgeted",
    "sessions": "no session is kept; send the history with each request",
    "database": "nothing is stored there",
    "service.registry": "the server does not announce itself",
    "mcp.enabled": "the routes under /mcp/v1 are served all the same",
    "sync_mode": "this server runs alone",
}
"""What happens instead, for each key or section that is understood but not available."""


def unavailable(key: str, named: str | None = None) -> str:
    """Word the warning for a key of `NOTES`; `named` when it is to be called by another name.

    Raises:
        KeyError: the key is not in `NOTES`.
    """
    return f"`{named or key}`: understood, not available in this version; {NOTES[key]}"
