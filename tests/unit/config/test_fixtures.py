"""The sample files work as they stand."""

from pathlib import Path

import pytest

from open_autoglm.config import Loaded, load_config

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"
EXAMPLE = Path(__file__).parents[3] / "examples" / "mcp_config.yaml"


def loaded(name: str) -> Loaded:
    return load_config(str(FIXTURES / name), {})


def keys_warned_of(result: Loaded) -> list[str]:
    """What each warning calls by name."""
    assert all(warning.startswith("`") for warning in result.warnings)
    return [warning.split(": ")[0] for warning in result.warnings]


def test_mcp_config() -> None:
    config = loaded("mcp_config.yaml").config
    assert (config.server.host, config.server.port) == ("0.0.0.0", 8080)
    [model] = config.models
    assert (model.name, model.endpoint) == ("glm-large", "http://localhost:8001/generate")
    assert (model.dialect, model.upstream_model, model.max_retries) == ("generate", "glm-large", 3)
    assert model.token is not None
    assert model.token.reveal() == "your-secret-token"
    assert config.auth.enabled
    [key] = config.auth.keys
    assert (key.name, key.key.reveal(), key.models) == ("default", "global-access-key-123", None)


def test_mcp_config_warns_of_what_is_risky_and_of_nothing_else(tmp_path: Path) -> None:
    private = tmp_path / "mcp_config.yaml"
    private.write_bytes((FIXTURES / "mcp_config.yaml").read_bytes())
    private.chmod(0o600)
    assert keys_warned_of(load_config(str(private), {})) == ["`server.host`"]
    private.chmod(0o644)
    [_, warning] = load_config(str(private), {}).warnings
    assert "others can read it" in warning
    assert str(private) in warning


def test_application() -> None:
    result = loaded("application.yaml")
    config = result.config
    assert (config.server.port, config.server.context_path) == (8080, "/api")
    assert (config.server.max_connections, config.wire.connections, config.server.workers) == (10000, 10000, 4)
    assert (config.logging.level, config.logging.file) == ("INFO", "logs/app.log")
    assert config.database is not None
    assert config.database.url == "postgresql://localhost:5432/myapp"
    assert (config.database.pool_size, config.database.connection_timeout_s) == (20, 30.0)
    assert not config.auth.enabled
    assert keys_warned_of(result) == ["`database`", "`models`"]


def test_service() -> None:
    result = loaded("service.json")
    config = result.config
    assert (config.server.port, config.service.name) == (8080, "user-service")
    assert config.service.registry == "http://nacos:8848"
    assert (config.mcp.enabled, config.mcp.timeout_s) == (True, 5.0)
    assert keys_warned_of(result) == ["`service.registry`", "`models`"]


def test_cooperation() -> None:
    result = loaded("cooperation.json")
    assert [(model.name, model.endpoint, model.dialect) for model in result.config.models] == [
        ("api.model-a.com", "https://api.model-a.com/v1", "openai"),
        ("api.model-b.org", "https://api.model-b.org/inference", "generate"),
    ]
    entry = result.config.cooperation["dynamic_voting"]
    assert entry.members == ["api.model-a.com", "api.model-b.org"]
    assert (entry.timeout_s, entry.fallback) == (30.0, "api.model-a.com")
    assert entry.strategy == "dynamic_voting"
    assert result.warnings == []


def test_sync() -> None:
    result = loaded("sync.yaml")
    sync = result.config.sync
    assert (sync.sync_mode, sync.heartbeat_interval_s, sync.election_timeout_s) == ("raft", 0.5, 2.0)
    assert sync.replication_workers == 4
    assert keys_warned_of(result) == [
        "`sync_mode`, `heartbeat_interval`, `election_timeout`, `replication_workers`",
        "`models`",
    ]


def test_the_example() -> None:
    names = ("MCP_ADMIN_KEY", "OPENAI_API_KEY", "MCP_API_KEY", "MCP_BATCH_KEY")
    result = load_config(str(EXAMPLE), {name: f"value-of-{name}" for name in names})
    assert result.warnings == []
    config = result.config
    assert [model.name for model in config.models] == ["chat", "chat", "chat-vendor", "plain", "small"]
    assert config.models[1].timeouts.first_token_s == 20.0
    assert config.routing.fallbacks == {"chat": ["chat-vendor", "small"]}
    assert [key.name for key in config.auth.keys] == ["default", "batch"]
    assert config.auth.keys[1].limits.requests_per_second == 5.0


PUBLISHED = """\
# yaml-language-server: $schema=./mcp_config.schema.json
server: {host: 127.0.0.1, port: 8080, admin_host: 127.0.0.1, admin_port: 8081, admin_key: ${MCP_ADMIN_KEY}, workers: 1, context_path: "", max_connections: 10000, data_dir: data}
models:                       # entries of one name form a balancing group
  - name: chat
    endpoint: http://127.0.0.1:8001/v1     # or embedded:glm-nano, mcp://host:port, unix:…
    dialect: openai           # openai | anthropic | generate | mcp | embedded; guessed from the endpoint when left out
    upstream_model: glm-4     # the name sent upstream; default: name
    token: ${UPSTREAM_TOKEN}  # value, ${ENV} or file:PATH
    weight: 1
    max_retries: 3
    context_window: 128000    # tokens; decides where a too long prompt may go
    price: {input_per_million: 0.5, output_per_million: 1.5}
  - {name: chat-backup, endpoint: "http://127.0.0.1:8002/v1"}
  - {name: a, endpoint: "http://127.0.0.1:8003/v1", price: {output_per_million: 1.5}}
  - {name: b, endpoint: "http://127.0.0.1:8004/v1"}
  - {name: c, endpoint: "http://127.0.0.1:8005/v1"}
routing: {strategy: least_connections, fallbacks: {chat: [chat-backup]}}
timeouts: {connect: 1s, first_token_hedge: 12s, first_token: 60s, gap: 30s, total: 600s}   # also per model
retries: {max: 2, budget_ratio: 0.1}
breaker: {profile: adaptive}            # or classic: 5 failures, 10 s, 1 probe; or the fields one by one
hedging: {enabled: false, quantile: 0.95, max_ratio: 0.02}
stream_failure: terminate               # or continue
limits: {requests_per_second: 100, burst: 100, concurrency: 0, body_bytes: 32MiB, response_bytes: 64MiB, stream_bytes: 256MiB}
auth: {enabled: true, api_key: ${MCP_API_KEY}, jwt: {issuer: me, audience: you, jwks: https://idp/keys, max_lifetime: 72h}, signing: {enabled: false, window: 300s}}
budgets: {on_store_failure: open}
sessions: {store: sqlite, ttl: 1h}      # memory | sqlite | redis://…
cooperation:                            # virtual models
  vote-3: {strategy: dynamic_voting, members: [a, b, c], quorum: 2, timeout: 30s, budget: {tokens: 20000, money: 0.05}, fallback: a}
tls: {cert: null, key: null, client_ca: null}
logging: {level: INFO, format: json, file: null, prompts: false}
"""  # noqa: E501 - as it is published


@pytest.mark.parametrize("line_ending", ["\n", "\r\n"])
def test_the_published_sections(tmp_path: Path, line_ending: str) -> None:
    """Every section with its published spelling, unquoted references inside braces included."""
    path = tmp_path / "mcp_config.yaml"
    path.write_text(PUBLISHED, encoding="utf-8", newline=line_ending)
    result = load_config(str(path), {"MCP_ADMIN_KEY": "a", "UPSTREAM_TOKEN": "b", "MCP_API_KEY": "c"})
    config = result.config
    assert config.server.admin_key is not None
    assert (config.server.admin_key.reveal(), config.server.admin_key.origin) == ("a", "env")
    assert config.models[0].upstream_model == "glm-4"
    assert config.models[0].price is not None
    assert config.models[0].price.output_per_million == 1.5
    assert config.auth.keys[0].key.reveal() == "c"
    assert config.auth.jwt is not None
    assert config.auth.jwt.max_lifetime_s == 72 * 3600
    assert config.wire.body_bytes == 32 * 2**20
    assert config.cooperation["vote-3"].budget.money == 0.05
    assert keys_warned_of(result) == [
        "`auth.jwt`",
        "`budgets`",
        "`sessions`",
    ]
