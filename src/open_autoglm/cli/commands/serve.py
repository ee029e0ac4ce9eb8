"""`autoglm serve`: the server, until a signal ends it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from open_autoglm.cli.arguments import port_number
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.server.options import Started


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--config", metavar="FILE", help="YAML or JSON; without one: OPENAI_API_KEY, OLLAMA_HOST, MCP__…"
    )
    parser.add_argument("--host", help="address to listen on, instead of server.host")
    parser.add_argument("--port", type=port_number, help="instead of server.port; 0 takes a free one")
    parser.add_argument(
        "--admin-port", metavar="PORT", type=port_number, help="instead of server.admin_port; 0 takes a free one"
    )
    parser.add_argument("--insecure", action="store_true", help="allow a public address without authentication")
    parser.add_argument("--standard-loop", action="store_true", help="asyncio's own event loop instead of uvloop")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Serve."""
    from open_autoglm.server.options import ServeOptions
    from open_autoglm.server.run import serve

    options = ServeOptions(
        config_path=arguments.config,
        insecure=arguments.insecure,
        host=arguments.host,
        port=arguments.port,
        admin_port=arguments.admin_port,
        standard_loop=arguments.standard_loop,
    )
    return serve(options, lambda started: announce(started, terminal))


def announce(started: Started, terminal: Terminal) -> None:
    """Print where a server listens and what it serves."""
    terminal.line(f"listening on {terminal.styled(data_url(started), 'bold')}")
    if started.grpc_port:
        terminal.line(f"gRPC at port {started.grpc_port}")
    if started.admin_address is not None:
        terminal.line(f"admin listener on {admin_url(started)}")
    for warning in started.warnings:
        terminal.warn(warning)
    if started.models:
        terminal.line()
        print_models(started, terminal)
    elif started.clustered:
        terminal.line("no model yet: those of the cluster's nodes are served as these are found")
    if started.form != "plain":
        terminal.line(f"the request path is {started.form}")
    terminal.out.flush()


def print_models(started: Started, terminal: Terminal) -> None:
    """Print the table of models."""
    columns = ("name", "dialect", "endpoint", "state")
    rows = [[model.get(column) for column in columns] for model in started.models]
    print_table(terminal, ("model", *columns[1:]), rows)


def data_url(started: Started) -> str:
    """Return the address that clients use."""
    return f"{'https' if started.tls else 'http'}://{authority(started.data_address)}{started.context_path}"


def admin_url(started: Started) -> str:
    """Return the address of the admin listener; empty when there is none."""
    return f"http://{authority(started.admin_address)}" if started.admin_address else ""


def authority(address: tuple[str, int]) -> str:
    """Write host and port as a URL has them."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
