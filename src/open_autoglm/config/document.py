"""What may be written in a configuration: the type of the file, section by section.

A field that is left out, or null, takes its default. Short forms that a reader of the file likes and the server does
not need (`auth.api_key`, `limits.body_bytes`, the flat form of cooperation) exist here only; `resolve.py` turns a
document into a `ServerConfig`.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

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
)
from open_autoglm.config.schema import Dialect, DrainSettings, Price, ServerSettings
from open_autoglm.cooperation.run_settings import RunSettings
from open_autoglm.cooperation.settings import CooperationEntry, CooperationStrategy
from open_autoglm.dialects.continuation import Continuation
from open_autoglm.exchange.settings import Hedging, Retries, StreamFailure, Timeouts
from open_autoglm.quantities import Bytes, Count, Seconds
from open_autoglm.resilience.settings import (
    BreakerSettings,
    ConcurrencySettings,
    HealthSettings,
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


class ModelTimeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of time of one endpoint; those left out are the global ones of `timeouts`.

    Attributes:
        connect_s: to open a connection to it.
        first_token_hedge_s: without a first token after this, a second endpoint is tried beside it.
        first_token_s: from sending the request to the first content of an answer.
        gap_s: between two pieces of an answer.
        total_s: from the arrival of a request to the end of its answer, over all attempts.
    """

    connect_s: Seconds | UnsetType = field(default=UNSET, name="connect")
    first_token_hedge_s: Seconds | UnsetType = field(default=UNSET, name="first_token_hedge")
    first_token_s: Seconds | UnsetType = field(default=UNSET, name="first_token")
    gap_s: Seconds | UnsetType = field(default=UNSET, name="gap")
    total_s: Seconds | UnsetType = field(default=UNSET, name="total")


class ModelDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint that answers for a model name. Entries of one name form a balancing group.

    Attributes:
        name: under which clients ask for it; `*` takes every name without an entry of its own and sends it on.
        endpoint: `http://…`, `https://…`, `unix:PATH`, `embedded:NAME`, `mcp://HOST:PORT` or `mcps://…`.
        dialect: what it speaks; guessed from the endpoint when left out.
        upstream_model: the name that is sent upstream; `name` when left out.
        token: credential for the endpoint: the value, `${ENV}` or `file:PATH`.
        weight: share of the group's requests under weighted strategies, relative to the others.
        max_retries: retries of requests for this name; `retries.max` when left out.
        context_window: tokens that fit; decides where a too long prompt may go.
        price: decides the strategy `cost`, and what is metered.
        timeouts: the entry's own limits of time.
        stream_usage: ask the endpoint to count tokens at the end of a stream. Off for servers that refuse to be asked.
        continuation: how the endpoint goes on with a given beginning of an answer: `prefill` where a conversation may
            end with it as the assistant's message, `vllm` where it must be told to go on with that message.
        stream_failure: what happens when a stream of this name breaks after content; the global one when left out.
        hedged: whether slow requests for this name get a second attempt by the rules of `hedging`; as
            `hedging.enabled` when left out.
        ca: PEM file of the authorities that are trusted for this endpoint; the system's when left out.
        client_cert: PEM file of the certificate that is shown to an endpoint that asks for one.
        client_key: PEM file of the private key of `client_cert`.
    """

    name: str
    endpoint: str
    dialect: Dialect | None = None
    upstream_model: str | None = None
    token: Secret | None = None
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    max_retries: Annotated[int, Meta(ge=0, le=20)] | None = None
    context_window: Annotated[int, Meta(ge=1)] | None = None
    price: Price | None = None
    timeouts: ModelTimeouts = ModelTimeouts()
    stream_usage: bool = True
    continuation: Continuation = "none"
    stream_failure: StreamFailure | None = None
    hedged: bool | None = None
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


class KeyLimitsDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """What one key may ask for; what is left out is as in `limits`. Zero means no limit.

    Attributes:
        requests_per_second: refill of the key's token bucket.
        burst: size of the bucket; as many as a second refills when left out.
        requests_per_minute: over a sliding window of 60 s, beside the bucket.
        concurrency: requests in flight.
        when_exceeded: `refuse` answers a request beyond these limits with 429; `wait` lets it wait its turn, as
            `admission` says.
    """

    requests_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    burst: Count | None = None
    requests_per_minute: Count | None = None
    concurrency: Count | None = None
    when_exceeded: WhenExceeded | None = None


class LimitsDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """What a key may ask for, and how large requests and answers may be. Zero means no limit for the first four.

    Attributes:
        requests_per_second: per key: refill of its token bucket.
        burst: per key: size of the bucket; as many as a second refills when left out.
        requests_per_minute: per key: over a sliding window of 60 s, beside the bucket.
        concurrency: per key: requests in flight.
        when_exceeded: `refuse` answers a request beyond these limits with 429; `wait` lets it wait its turn, as
            `admission` says.
        body_bytes: of a request's body; 32 MiB when left out.
        response_bytes: of a unary answer of an upstream.
        stream_bytes: of a streamed answer of an upstream.
        wire: limits and timers of client connections.
        frames: limits and timers of clients' framed connections.
        upstream: connections to one endpoint.
    """

    requests_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 100.0
    burst: Count | None = None
    requests_per_minute: Count = 0
    concurrency: Count = 0
    when_exceeded: WhenExceeded = "refuse"
    body_bytes: Bytes | None = None
    response_bytes: Bytes = 64 * 2**20
    stream_bytes: Bytes = 256 * 2**20
    wire: WireLimits = WireLimits()
    frames: FrameLimits = FrameLimits()
    upstream: PoolLimits = PoolLimits()


class KeyDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """One API key with a name.

    Attributes:
        name: in logs and metrics.
        key: what the client sends: the value, `${ENV}` or `file:PATH`.
        models: names that it may use; all when left out.
        limits: what it may ask for.
        priority: the highest class of its requests: `sheddable` is given up first, then `sheddable_plus`, `critical`,
            `critical_plus`. The header `x-mcp-priority` lowers it for one request.
        certificates: names of certificates, as `dns:NAME` or `uri:URI`, whose framed clients are let in as this key
            without showing it; needs `tls.client_ca`.
    """

    name: str
    key: Secret
    models: list[str] | None = None
    limits: KeyLimitsDocument = KeyLimitsDocument()
    priority: Priority = "critical"
    certificates: list[str] = []


class AuthDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is let in.

    Attributes:
        enabled: whether a key is asked for at all; when left out, yes as soon as there is a key.
        api_key: one key or a list of them: the value, `${ENV}` or `file:PATH`.
        api_keys: keys with names, models and limits.
        jwt: JSON Web Tokens.
        signing: signed requests.
    """

    enabled: bool | None = None
    api_key: list[Secret] = []
    api_keys: list[KeyDocument] = []
    jwt: JwtSettings | None = None
    signing: SigningSettings = SigningSettings()


class ConfigDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        server: the server's own addresses and places.
        models: the endpoints; entries of one name form a balancing group.
        routing: how a model name becomes an endpoint.
        timeouts: limits of time.
        retries: how often an answer is tried again.
        breaker: when an endpoint is given a rest.
        concurrency: how many attempts may run at one endpoint at once.
        outliers: when an endpoint that does worse than the others of its group gets no requests for a while.
        throttling: how requests are held back from an endpoint that turns many away.
        health: how endpoints that are away are looked after.
        hedging: second attempts beside slow first ones.
        stream_failure: what happens when a stream breaks after content.
        limits: rates per key, sizes, connections.
        admission: how long requests wait for room.
        overload: when the server has too much to do.
        sources: keys and addresses that behave unusually.
        auth: who is let in.
        tls: certificate of the data listener.
        drain: how long requests may finish when the server stops.
        logging: what is written down.
        explain: records of requests for `autoglm trace`.
        audit: records of what virtual models did.
        tickets: by which clients ask nodes themselves.
        budgets: money and tokens.
        sessions: context that is kept.
        cooperation: virtual models, by name.
        tools: what tasks of virtual models may call.
        context: what clients of the context protocol are offered.
        runs: task graphs that outlive the process.
        database: a shared database.
        service: this server among other services.
        mcp: the Model Control Protocol.
        cluster: servers and nodes that find each other.
        sync_mode: how several servers agree.
        heartbeat_interval_s: between two signs of life of the leader.
        election_timeout_s: without one, a new leader is elected.
        replication_workers: followers that are written to at once.
        cooperation_strategy: flat form of one virtual model over `model_endpoints`.
        timeout_seconds: for an answer of that virtual model.
        model_endpoints: addresses; each becomes a model named after its host.
        fallback_enabled: whether the first of them answers alone when cooperation fails.
    """

    server: ServerSettings = ServerSettings()
    models: list[ModelDocument] = []
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
    limits: LimitsDocument = LimitsDocument()
    admission: AdmissionSettings = AdmissionSettings()
    overload: OverloadSettings = OverloadSettings()
    sources: SourceSettings = SourceSettings()
    auth: AuthDocument = AuthDocument()
    tls: TlsFiles = TlsFiles()
    drain: DrainSettings = DrainSettings()
    logging: LoggingSettings = LoggingSettings()
    explain: ExplainSettings = ExplainSettings()
    audit: AuditSettings = AuditSettings()
    tickets: TicketSettings = TicketSettings()
    budgets: BudgetSettings = BudgetSettings()
    sessions: SessionSettings = SessionSettings()
    cooperation: dict[str, CooperationEntry] = {}
    tools: ToolSettings = ToolSettings()
    context: ContextSettings = ContextSettings()
    runs: RunSettings = RunSettings()
    database: DatabaseSettings | None = None
    service: ServiceSettings = ServiceSettings()
    mcp: McpSettings = McpSettings()
    cluster: ClusterSettings = ClusterSettings()
    sync_mode: Literal["raft"] | None = None
    heartbeat_interval_s: Seconds = field(default=0.5, name="heartbeat_interval")
    election_timeout_s: Seconds = field(default=2.0, name="election_timeout")
    replication_workers: Annotated[int, Meta(ge=1, le=64)] = 4
    cooperation_strategy: CooperationStrategy | None = None
    timeout_seconds: Seconds = 30.0
    model_endpoints: list[str] = []
    fallback_enabled: bool = False
