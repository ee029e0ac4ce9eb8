"""What is measured: how each target is configured, started and asked for its version.

Configurations lie in `benchmarks/targets/`, with `@PORT@`-like places for what changes per run. A target that is not
installed is not an error: it is reported with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.rig.payload import KEY, answer_body, models_body

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIGS: Final = ROOT / "benchmarks" / "targets"
VENVS: Final = ROOT / ".venvs"
OURS: Final = "open-autoglm"
COMPILED: Final = "open-autoglm-native"
"""Ours with its request path compiled; see `docs/how-to/compile.md`."""
DIRECT: Final = "direct"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target runs: its ports, its two upstreams, and a folder of its own."""

    port: int
    admin_port: int
    upstream_ports: tuple[int, int]
    folder: Path


@dataclass(frozen=True, slots=True)
class Target:
    """One gateway.

    Attributes:
        name: as in the tables.
        features: what is switched on, for the reader.
        config: the file of `benchmarks/targets/` that configures it; empty for `direct`.
        program: the command, a path inside the repository or a name on the PATH; empty for `direct`.
        arguments: what follows; `@...@` places are filled in.
        version: a command that prints the version.
        env: added to the environment.
        slow: it answers about a hundred requests a second, so it gets fewer streams and held connections, and longer
        windows. default: it is part of a run that names no targets.
    """

    name: str
    features: str
    config: str = ""
    program: str = ""
    arguments: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    default: bool = True


def _in_venv(name: str, package: str) -> tuple[str, ...]:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return (f".venvs/{name}/bin/python", "-c", code)


_AUTOGLM_ENV: Final = {"PYTHONPATH": str(ROOT / "src")}
_AUTOGLM_VERSION: Final = (
    sys.executable,
    "-c",
    "import open_autoglm as a; print(getattr(a, '__version__', 'in development'))",
)
_LITELLM_ENV: Final = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    # Without it the start waits for a price list from the internet.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

TARGETS: Final = (
    Target(DIRECT, "no gateway: the load speaks to the upstream"),
    Target(
        OURS,
        "API key, rate limit, least connections, circuit breaker, metrics, explain records, JSON request log",
        config="open-autoglm.yaml",
        program=sys.executable,
        arguments=("-m", "mcp_server", "--config", "@CONFIG@"),
        version=_AUTOGLM_VERSION,
        env=_AUTOGLM_ENV,
    ),
    Target(
        COMPILED,
        "the same with the request path compiled (`make native`)",
        config="open-autoglm.yaml",
        program=".venvs/native/bin/python",
        arguments=("-m", "mcp_server", "--config", "@CONFIG@"),
        version=_AUTOGLM_VERSION,
        env={"PYTHONPATH": str(VENVS / "native" / "src")},
    ),
    Target(
        "open-autoglm-asyncio",
        "the same on the standard event loop",
        config="open-autoglm.yaml",
        program=sys.executable,
        arguments=("-m", "mcp_server", "serve", "--standard-loop", "--config", "@CONFIG@"),
        version=_AUTOGLM_VERSION,
        env=_AUTOGLM_ENV,
        default=False,
    ),
    Target(
        "nginx",
        "plain proxy, least connections; no key, limit, metrics or log",
        config="nginx.conf",
        program="nginx",
        arguments=("-e", "stderr", "-p", "@DIR@", "-c", "@CONFIG@"),
        version=("nginx", "-v"),
    ),
    Target(
        "haproxy",
        "plain proxy, least connections; no key, limit, metrics or log",
        config="haproxy.cfg",
        program="haproxy",
        arguments=("-db", "-f", "@CONFIG@"),
        version=("haproxy", "-v"),
    ),
    Target(
        "vllm-router",
        "round robin, retries, circuit breaker, health checks, metrics; checks no client key; no request log",
        config="vllm-router.args",
        program=".venvs/vllm-router/bin/vllm-router",
        arguments=("@ARGS@",),
        version=_in_venv("vllm-router", "vllm-router"),
    ),
    Target(
        "sglang-router",
        "round robin, retries, circuit breaker, health checks, metrics; checks no client key; no request log",
        config="sglang-router.args",
        program=".venvs/sglang-router/bin/sglang-router",
        arguments=("launch", "@ARGS@"),
        version=_in_venv("sglang-router", "sglang-router"),
    ),
    Target(
        "smg",
        "round robin, retries, circuit breaker, health checks, metrics; checks no client key; no request log",
        config="smg.args",
        program=".venvs/smg/bin/smg",
        arguments=("launch", "@ARGS@"),
        version=_in_venv("smg", "smg"),
    ),
    Target(
        "aiohttp",
        "API key, least connections; no limit, breaker, metrics or log",
        config="aiohttp_proxy.py",
        program=".venvs/aiohttp-proxy/bin/python",
        arguments=("@CONFIG@", "@PORT@", "@KEY@", "http://127.0.0.1:@UPSTREAM_A@", "http://127.0.0.1:@UPSTREAM_B@"),
        version=_in_venv("aiohttp-proxy", "aiohttp"),
    ),
    Target(
        "litellm",
        "master key, simple shuffle, retries and cooldowns; no database, budgets or request log",
        config="litellm.yaml",
        program=".venvs/litellm/bin/litellm",
        arguments=(
            "--config",
            "@CONFIG@",
            "--host",
            "127.0.0.1",
            "--port",
            "@PORT@",
            "--num_workers",
            "1",
            "--keepalive_timeout",
            "600",
        ),
        version=_in_venv("litellm", "litellm"),
        env=_LITELLM_ENV,
        slow=True,
    ),
)


def executable(target: Target) -> str | None:
    """The path of the target's program, or `None` when it is not installed."""
    return _resolved(target.program)


def _resolved(program: str) -> str | None:
    if "/" not in program:
        return shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin:/usr/local/bin")
    path = ROOT / program
    return str(path) if path.exists() else None


def fill(text: str, place: Place, config: Path | None = None) -> str:
    """`text` with the places of a run filled in."""
    values = {
        "PORT": str(place.port),
        "ADMIN_PORT": str(place.admin_port),
        "UPSTREAM_A": str(place.upstream_ports[0]),
        "UPSTREAM_B": str(place.upstream_ports[1]),
        "DIR": str(place.folder),
        "KEY": KEY,
        "CONFIG": str(config),
        "ANSWER": answer_body().decode(),
        "MODELS": models_body().decode(),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def write_config(config: str, place: Place) -> Path:
    """Fills the configuration `config` of `benchmarks/targets/` and writes it into the place's folder."""
    path = place.folder / config
    path.write_text(fill((CONFIGS / config).read_text(), place))
    # Some hold the key; our server warns when others could read it.
    path.chmod(0o600)
    return path


def parse_arguments(text: str) -> list[str]:
    """The arguments of an `.args` file: one per line, comments and empty lines left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def command(target: Target, place: Place) -> list[str]:
    """The command that starts the target at `place`; writes its configuration first.

    Raises:
        FileNotFoundError: the program is not installed.
    """
    program = executable(target)
    if program is None:
        raise FileNotFoundError(f"{target.program} is not installed; run benchmarks/setup.sh")
    config = write_config(target.config, place)
    argv = [program]
    for argument in target.arguments:
        argv += parse_arguments(config.read_text()) if argument == "@ARGS@" else [fill(argument, place, config)]
    return argv


def version(target: Target) -> str:
    """The version that the target's program names, or an empty string."""
    program = _resolved(target.version[0]) if target.version else None
    if program is None:
        return ""
    argv = [program, *target.version[1:]]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/bin", **target.env},
    )
    return parse_version(done.stdout + done.stderr)


def parse_version(text: str) -> str:
    """The first word of the output that begins with a digit, or holds one after a slash; else the first line."""
    for word in text.replace("/", " ").split():
        if word[0].isdigit():
            return word
    return text.strip().splitlines()[0][:60] if text.strip() else ""
