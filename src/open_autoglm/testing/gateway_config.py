"""Configurations under which gateways can be drilled: each case's group of two endpoints, and its fallback.

Each is what its gateway's documentation advises for reliability, not what would suit the drill; ours is its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from open_autoglm.testing.cases import Case
from open_autoglm.testing.judge import FALLBACK_MODEL
from open_autoglm.testing.outage import DOWN

CONTEXT_WINDOW: Final = 4096
LARGE_CONTEXT_WINDOW: Final = 32_768


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a configuration is for.

    Attributes:
        cases: each gets a model.
        urls: of the upstreams, by name, up to `/v1`.
        port: that the gateway listens at.
        going_on: broken streams are continued, where the gateway can do that.
    """

    cases: Sequence[Case]
    urls: Mapping[str, str]
    port: int = 8080
    going_on: bool = False


def open_autoglm(wanted: Wanted) -> str:
    """Return a configuration of this server, YAML."""
    cases, urls, going_on = wanted.cases, wanted.urls, wanted.going_on
    lines = [f"server: {{host: 127.0.0.1, port: {wanted.port}}}", "models:"]
    for case in cases:
        for endpoint in _group(case):
            entry = {"name": case.model, "endpoint": urls[endpoint], "upstream_model": "drill-model"}
            entry |= {"continuation": "prefill"} if going_on else {}
            lines.append(f"  - {_flow(entry | {'context_window': CONTEXT_WINDOW})}")
        large = {"name": f"{case.model}-large", "endpoint": urls["fallback"], "upstream_model": FALLBACK_MODEL}
        lines.append(f"  - {_flow(large | {'context_window': LARGE_CONTEXT_WINDOW})}")
    lines += ["routing:", "  fallbacks:"]
    lines += [f"    {case.model}: [{case.model}-large]" for case in cases]
    if going_on:
        lines.append("stream_failure: continue")
    return "\n".join(lines) + "\n"


def litellm(wanted: Wanted) -> str:
    """Return a configuration of LiteLLM's proxy, YAML, with what its page on reliability shows."""
    cases, urls = wanted.cases, wanted.urls
    lines = ["model_list:"]
    for case in cases:
        lines += [f"  - {_deployment(case.model, 'drill-model', urls[endpoint])}" for endpoint in _group(case)]
        lines.append(f"  - {_deployment(FALLBACK_MODEL + case.model[5:], FALLBACK_MODEL, urls['fallback'])}")
    fallbacks = json.dumps([{case.model: [FALLBACK_MODEL + case.model[5:]]} for case in cases])
    lines += [
        "router_settings:",
        "  routing_strategy: simple-shuffle",
        "  num_retries: 2",
        "  allowed_fails: 3",
        "  cooldown_time: 30",
        "litellm_settings:",
        "  request_timeout: 10",
        "  telemetry: false",
        f"  fallbacks: {fallbacks}",
        f"  context_window_fallbacks: {fallbacks}",
        "general_settings:",
        "  master_key: os.environ/MCP_API_KEY",
    ]
    return "\n".join(lines) + "\n"


def nginx(wanted: Wanted) -> str:
    """Return a configuration of nginx as a plain proxy; drill it with `--model any`, since it does not see models."""
    places = {name: url.removeprefix("http://").partition("/")[0] for name, url in wanted.urls.items()}
    return f"""\
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  upstream models {{
    server {places["primary"]} max_fails=3 fail_timeout=10s;
    server {places["secondary"]} max_fails=3 fail_timeout=10s;
    server {places["fallback"]} backup;
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{wanted.port};
    location / {{
      proxy_pass http://models;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_read_timeout 30s;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 http_429 non_idempotent;
      proxy_next_upstream_tries 3;
      proxy_next_upstream_timeout 60s;
    }}
  }}
}}
"""


CONFIGURATIONS: Final[Mapping[str, Callable[[Wanted], str]]] = {
    "open-autoglm": open_autoglm,
    "litellm": litellm,
    "nginx": nginx,
}
"""By the gateway's name."""


def _group(case: Case) -> tuple[str, str]:
    return ("outage" if case.fault == DOWN else "primary", "secondary")


def _deployment(name: str, model: str, url: str) -> str:
    parameters = {"model": f"openai/{model}", "api_base": url, "api_key": "none"}
    return _flow({"model_name": name, "litellm_params": parameters})


def _flow(value: Mapping[str, Any]) -> str:
    """Write a map in one line; JSON is YAML."""
    return json.dumps(value)
