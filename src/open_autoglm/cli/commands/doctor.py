"""`autoglm doctor`: look at the installation, the machine, the configuration and the endpoints; say what to do."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from open_autoglm import clock
from open_autoglm.cli.doctor.files import check_admin_key, check_data_folder, check_tls
from open_autoglm.cli.doctor.finding import Finding, fail, ok, warn
from open_autoglm.cli.doctor.installation import check_installation
from open_autoglm.cli.doctor.machine import check_clock, check_open_files, check_port, open_file_limits
from open_autoglm.cli.failure import DONE, FAILED
from open_autoglm.cli.terminal import Terminal
from open_autoglm.errors import ConfigError

if TYPE_CHECKING:
    from open_autoglm.config import Loaded, ServerConfig

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--config", metavar="FILE", help="the server's configuration; without one: what the environment says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Check everything; exit code 1 when something will not work."""
    findings = [*check_installation(), *_check_configured(arguments.config, terminal)]
    failed = any(finding.state == "fail" for finding in findings)
    if arguments.json:
        terminal.json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings, terminal)
    return FAILED if failed else DONE


def print_findings(findings: list[Finding], terminal: Terminal) -> None:
    """Print one line for each, with what to do below it, and a sum."""
    for finding in findings:
        state = terminal.styled(f"{finding.state:<4}", _STYLES[finding.state])
        terminal.line(f"{state}  {terminal.shown(finding.topic)}: {terminal.shown(finding.message)}")
        if finding.advice:
            terminal.line(f"      -> {terminal.shown(finding.advice)}")
    counts = {state: sum(finding.state == state for finding in findings) for state in _STYLES}
    terminal.line()
    terminal.line(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} to mend")


def _check_configured(path: str | None, terminal: Terminal) -> list[Finding]:
    from open_autoglm.config import load_config

    try:
        loaded = load_config(path, terminal.environ)
    except ConfigError as error:
        advice = "mend it; `autoglm config check` shows only these lines"
        wrong = [fail("configuration", f"{error.source}: {problem}", advice) for problem in error.problems]
        return [*wrong, check_clock(clock.wall(), {})]
    return [*_configuration(loaded), *check_machine(loaded.config), *_check_endpoints(loaded.config)]


def _configuration(loaded: Loaded) -> list[Finding]:
    count = len(loaded.config.models)
    findings = [ok("configuration", f"{loaded.source}: {count} endpoint{'s' if count != 1 else ''}")]
    warnings = loaded.warnings
    if not count:
        warnings = [warning for warning in warnings if not warning.startswith("`models`:")]
        advice = "name models in a file, or set OPENAI_API_KEY or OLLAMA_HOST"
        findings = [warn("configuration", f"{loaded.source}: no model, so the server is not ready", advice)]
        if loaded.config.cluster.secret is not None:
            findings = [ok("configuration", f"{loaded.source}: models of the cluster's nodes alone")]
    return findings + [warn("configuration", warning, "see docs/configuration.md") for warning in warnings]


def check_machine(config: ServerConfig) -> list[Finding]:
    """Check ports, files and limits that a configuration asks for."""
    from open_autoglm.membership.member import split_address
    from open_autoglm.transport.ports import holder_of

    server = config.server
    more = []
    if server.grpc_port is not None:
        more.append(check_port("server.grpc_port", server.host, server.grpc_port, holder_of))
    if config.cluster.secret is not None:
        more.append(check_port("cluster.bind", *split_address(config.cluster.bind), holder_of))
    data_folder = Path(server.data_dir)
    return [
        check_port("server.port", server.host, server.port, holder_of),
        check_port("server.admin_port", server.admin_host, server.admin_port, holder_of),
        *more,
        check_data_folder(data_folder),
        *check_admin_key(data_folder / "admin.key"),
        *check_tls(config.tls, clock.wall()),
        check_open_files(*open_file_limits(), server.max_connections),
    ]


def _check_endpoints(config: ServerConfig) -> list[Finding]:
    from open_autoglm.cli.doctor.endpoints import probe_all

    probes = probe_all(config.models)
    skews_s = {
        entry.endpoint: probe.skew_s
        for entry, probe in zip(config.models, probes, strict=True)
        if probe.skew_s is not None
    }
    return [check_clock(clock.wall(), skews_s), *(probe.finding for probe in probes)]
