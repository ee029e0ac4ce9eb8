"""The data listener of a server, as `chat` and `bench` find it: `--server`, then `MCP_SERVER_URL`, then the default."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from open_autoglm.cli.http_call import Target, parse_address
from open_autoglm.cli.keys import key_from
from open_autoglm.cli.terminal import Terminal

DEFAULT_URL = "http://127.0.0.1:8080"


def add_data_options(parser: ArgumentParser) -> None:
    """Add the options by which a data listener and its key are found."""
    found = parser.add_argument_group("the server")
    found.add_argument("--server", metavar="URL", help=f"its address; default: MCP_SERVER_URL, else {DEFAULT_URL}")
    found.add_argument("--key-file", metavar="FILE", help="file with an API key of it; default: the key in MCP_API_KEY")
    found.add_argument(
        "--ca", metavar="FILE", help="PEM file of the authorities to trust for https; default: the system's"
    )


def find_data(arguments: Namespace, terminal: Terminal) -> Target:
    """Find the data listener.

    Raises:
        CommandFailed: an option cannot be used.
    """
    url = arguments.server or terminal.environ.get("MCP_SERVER_URL") or DEFAULT_URL
    return Target(parse_address(url), key_from(terminal, "MCP_API_KEY", arguments.key_file), arguments.ca)
