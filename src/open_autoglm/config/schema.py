"""The configuration as the server uses it: one frozen tree, complete, checked, with every default filled in.

`ServerConfig` is built whole or not at all. What may be written in a file, with its short forms, is in `document.py`;
a section that is the same on both sides is one struct here or beside its role.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.admission.classes import Priority
from open_autoglm.admission.settings import AdmissionSettings, OverloadSettings, SourceSettings, WhenExceeded
from open_autoglm.cluster.settings import ClusterSettings
from open_autoglm.config.planned import (
    BudgetSettings,
    DatabaseSettings,
    JwtSettings,
    McpSettings,
    ServiceSettings,
    SessionSettings,
    SigningSettings,
    SyncSettings,
)
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.cooperation.settings import CooperationEntry
from open_autoglm.dialects.continuation import Continuation
from open_autoglm.exchange.settings import AnswerLimits, Hedging, Retries, StreamFailure, Timeouts
from open_autoglm.quantities import Delay, Port
from open_autoglm.resilience.settings import (
    BreakerSettings,
    ConcurrencySettings,
    HealthSettings,
    KeyLimits,
    OutlierSettings,
    ThrottlingSettings,
)
from open_autoglm.routing.settings import RoutingSettings
from open_autoglm.secret import Secret
from open_autoglm.security.settings import TicketSettings
from open_autoglm.telemetry.settings import AuditSettings, ExplainSettings, LoggingSettings
from open_autoglm.tools.offer_settings import ContextSettings
from open_autoglm.tools.settings import ToolSettings
from open_autoglm.transport.settings import FrameLimits, PoolLimits, TlsFiles, WireLimits

Dialect = Literal["openai", "anthropic", "generate", "mcp", "embedded"]
"""What an endpoint speaks."""

WILDCARD = "*"
"""A model of this name takes every request whose model has no entry of its own; the name is sent on as it is."""


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The server's own addresses and places.

    Attributes:
        host: address of the data listener: an IP address or a host name; `0.0.0.0` or `::` for every network.
        port: of the data listener; 0 asks the system for a free one.
        admin_host: address of the admin listener.
        admin_port: of the admin listener; 0 asks the system for a free one.
        admin_key: key of the admin listener; made at the first start and kept in `data_dir/admin.key` when left out.
        workers: server processes, which share the port; see `docs/how-to/use-several-workers.md` for what each has of
            its own. Also written `worker_threads`.
        context_path: before every route of the data listener, as `/api`.
        max_connections: client connections open at once, of all workers together.
        data_dir: folder for what the server keeps, from the working directory.
        unix: path of a Unix socket at which the data listener listens too, without TLS.
        grpc_port: of the gRPC listener, on `host` and with the data listener's TLS; 0 asks the system for a free one,
            none is opened when left out. Needs the extra `grpc`.
        trusted_proxies: addresses or networks (`10.0.0.0/8`, `unix` for Unix sockets) whose `x-forwarded-for` is
            believed: the client is the right-most address there that is none of them.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    admin_key: Secret | None = None
    workers: Annotated[int, Meta(ge=1, le=1024)] = 1
    context_path: str = ""
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    data_dir: str = "data"
    unix: str | None = None
    grpc_port: Port | None = None
    trusted_proxies: list[str] = []


class DrainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a server that was told to stop goes on, each counted from the signal.

    Attributes:
        accept_s: new connections are taken, while balancers learn that it is leaving; Ctrl-C does not wait for it.
        unary_s: unary requests may finish; what is left then is answered with 503.
        stream_s: streams may finish; what is left then ends with an error event, and nothing lasts longer than this.
            Keep it below the time after which systemd or Kubernetes kills.
    """

    accept_s: Delay = field(default=5.0, name="accept")
    unary_s: Delay = field(default=30.0, name="unary")
    stream_s: Delay = field(default=300.0, name="stream")


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint costs, in any one currency.

    Attributes:
        input_per_million: for a million tokens of prompts.
        output_per_million: for a million tokens of answers.
    """

    input_per_million: Annotated[float, Meta(ge=0)] = 0.0
    output_per_million: Annotated[float, Meta(ge=0)] = 0.0


class ModelEntry(Struct, frozen=True):
    """One endpoint that answers for a model name. Entries of one name form a balancing group.

    Attributes:
        name: under which clients ask for it; `*` takes every name that has no entry of its own.
        endpoint: `http://…`, `https://…`, `unix:PATH`, `embedded:NAME`, `mcp://HOST:PORT` or `mcps://…`; an address of
            the openai dialect has a path, without a slash at its end.
        dialect: what the endpoint speaks.
        upstream_model: the name that is sent upstream; None for `*`: the name that was asked for.
        token: credential for the endpoint.
        weight: share of the group's requests under weighted strategies, relative to the others.
        max_retries: retries of requests for this name; `retries.max` when None.
        context_window: tokens that fit; None when unknown.
        price: None when unknown.
        timeouts: the global ones with this entry's own in their place.
        stream_usage: ask the endpoint to count tokens at the end of a stream.
        continuation: how a conversation that ends with the beginning of an answer is gone on with.
        stream_failure: what happens when a stream of this name breaks after content.
        hedged: whether slow requests for this name may get a second attempt early.
        ca: file of the authorities that are trusted for this endpoint, absolute; the system's when None.
        client_cert, client_key: files of the certificate that is shown to it, absolute; none when None.
        tls_name: that its certificate must have; the host of `endpoint` when None.
    """

    name: str
    endpoint: str
    dialect: Dialect
    upstream_model: str | None
    token: Secret | None
    weight: float
    max_retries: int | None
    context_window: int | None
    price: Price | None
    timeouts: Timeouts
    stream_usage: bool
    continuation: Continuation
    stream_failure: StreamFailure
    hedged: bool
    ca: str | None
    client_cert: str | None = None
    client_key: str | None = None
    tls_name: str | None = None


class KeyEntry(Struct, frozen=True):
    """One API key.

    Attributes:
        name: in logs and metrics; unique.
        key: what the client sends.
        models: names that it may use; None for all.
        limits: what it may ask for.
        when_exceeded: what becomes of a request beyond those limits.
        priority: the highest class of its requests.
        certificates: whose names stand for it, as `dns:…` and `uri:…`.
    """

    name: str
    key: Secret
    models: list[str] | None
    limits: KeyLimits
    when_exceeded: WhenExceeded = "refuse"
    priority: Priority = "critical"
    certificates: list[str] = []


class AuthSettings(Struct, frozen=True):
    """Who is let in.

    Attributes:
        enabled: whether a key is asked for at all.
        keys: the API keys; empty only while authentication is off or by other means.
        jwt: None when tokens are not configured.
        signing: signed requests.
    """

    enabled: bool = False
    keys: list[KeyEntry] = []
    jwt: JwtSettings | None = None
    signing: SigningSettings = SigningSettings()


class ServerConfig(Struct, frozen=True):
    """Everything that the server is told.

    Attributes:
        server: addresses and places.
        models: endpoints that are served.
        models_unavailable: endpoints that are understood but not served by this version; shown, never called.
        routing: how a name becomes an endpoint; it names served models only.
        timeouts, retries, breaker, hedging, stream_failure: how an exchange behaves.
        concurrency, outliers, throttling, health: how endpoints are judged and looked after.
        limits: per key, for keys without limits of their own, and for the one client there is without authentication.
        when_exceeded: the same as `limits`, for a request beyond them.
        admission, overload, sources: who is let in when not everybody fits.
        wire, frames, pool, answers: limits of client connections, framed ones, upstream connections, and upstream
            answers.
        auth: who is let in.
        tls: files of the data listener, absolute.
        drain: how it stops.
        logging, explain, audit: what is written down.
        tickets: by which clients ask nodes themselves.
        cluster: how members find each other; there is none without a secret.
        cooperation: virtual models, by name.
        tools: what their tasks may call.
        context: what clients of the context protocol are offered.
        runs: task graphs that outlive the process.
        mcp, service, sync, budgets, sessions, database: mostly for later versions; see `planned.py`.
    """

    server: ServerSettings = ServerSettings()
    models: list[ModelEntry] = []
    models_unavailable: list[ModelEntry] = []
    routing: RoutingSettings = RoutingSettings()
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    breaker: BreakerSettings = BreakerSettings()
    concurrency: ConcurrencySettings = ConcurrencySettings()
    outliers: OutlierSettings = OutlierSettings()
    throttling: ThrottlingSettings = ThrottlingSettings()
    health: HealthSettings = HealthSettings()
    hedging: Hedging = Hedging()
    stream_failure: StreamFailure = "terminate"
    limits: KeyLimits = KeyLimits()
    when_exceeded: WhenExceeded = "refuse"
    admission: AdmissionSettings = AdmissionSettings()
    overload: OverloadSettings = OverloadSettings()
    sources: SourceSettings = SourceSettings()
    wire: WireLimits = WireLimits()
    frames: FrameLimits = FrameLimits()
    pool: PoolLimits = PoolLimits()
    answers: AnswerLimits = AnswerLimits()
    auth: AuthSettings = AuthSettings()
    tls: TlsFiles = TlsFiles()
    drain: DrainSettings = DrainSettings()
    logging: LoggingSettings = LoggingSettings()
    explain: ExplainSettings = ExplainSettings()
    audit: AuditSettings = AuditSettings()
    tickets: TicketSettings = TicketSettings()
    mcp: McpSettings = McpSettings()
    cluster: ClusterSettings = ClusterSettings()
    service: ServiceSettings = ServiceSettings()
    sync: SyncSettings = SyncSettings()
    budgets: BudgetSettings = BudgetSettings()
    sessions: SessionSettings = SessionSettings()
    cooperation: dict[str, CooperationEntry] = {}
    tools: ToolSettings = ToolSettings()
    context: ContextSettings = ContextSettings()
    runs: RunSettings = RunSettings()
    database: DatabaseSettings | None = None
