"""The admin listener of a running server, as commands see it: found, called, its refusals put into words.

| what | from, the first that is there |
|---|---|
| address | `--server`, `MCP_ADMIN_URL`, `server.admin_host` and `admin_port` of the configuration |
| key | `--admin-key file:PATH`, `MCP_ADMIN_KEY`, `server.admin_key`, `admin.key` in the configuration's `data_dir` |

`--key-file PATH` is the same as `--admin-key file:PATH`. The configuration is `--config FILE`, else what the
environment says, else the defaults.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from open_autoglm.cli.arguments import wait_s
from open_autoglm.cli.failure import CommandFailed
from open_autoglm.cli.http_call import Address, Answer, Target, call, error_message, parse_address
from open_autoglm.cli.keys import key_from, key_path, read_key
from open_autoglm.cli.terminal import Terminal
from open_autoglm.errors import ConfigError, ConfigProblem
from open_autoglm.secret import Secret

if TYPE_CHECKING:
    from open_autoglm.config import ServerConfig

_PREFIX = "/admin/v1"
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server binds, and where it is then called


def add_admin_options(parser: ArgumentParser, *, json: bool = True) -> None:
    """Add the options by which a running server is found, and `--json`."""
    found = parser.add_argument_group("the running server")
    found.add_argument("--config", metavar="FILE", help="its configuration; says where its admin listener and key are")
    found.add_argument(
        "--server", metavar="URL", help="its admin listener; default: MCP_ADMIN_URL, else the configuration's"
    )
    key = found.add_mutually_exclusive_group()
    key.add_argument(
        "--admin-key",
        metavar="file:PATH",
        help="file with its admin key; default: MCP_ADMIN_KEY, else DATA_DIR/admin.key",
    )
    key.add_argument(
        "--key-file", dest="admin_key_file", metavar="PATH", help="the same, as other commands write it: the file alone"
    )
    found.add_argument(
        "--timeout", metavar="SECONDS", type=wait_s, default=10.0, help="longest wait, default %(default)g"
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")


class NotThere(CommandFailed):
    """The server knows no such thing."""


@dataclass(frozen=True, slots=True)
class Admin:
    """An admin listener.

    Attributes:
        target: address and key.
        timeout_s: for one call.
    """

    target: Target
    timeout_s: float = 10.0

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a route below `/admin/v1`; query values of None are left out.

        Raises:
            CommandFailed: no connection, or a refusal; `NotThere` when it knows no such thing.
            ConfigError: the server found a configuration wrong.
        """
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._json("GET", path + (f"?{urlencode(given)}" if given else ""), None)

    def post(self, path: str, body: object = None, **query: object) -> Any:
        """Post to a route below `/admin/v1`; JSON, or bytes as they are. Raises as `get`."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._json("POST", path + (f"?{urlencode(given)}" if given else ""), body)

    def raw(self, path: str) -> Answer:
        """Get a route outside `/admin/v1`, whatever its status."""
        return call(self.target, "GET", path, timeout_s=self.timeout_s)

    def _json(self, method: str, path: str, body: object) -> Any:
        answer = call(self.target, method, _PREFIX + path, body, timeout_s=self.timeout_s)
        value = answer.json()
        if 200 <= answer.status < 300 and value is not None:
            return value
        raise _refusal(answer, value, self.target)


def segment(text: str) -> str:
    """Quote a text so that it is one segment of a path."""
    return quote(text, safe="")


def find_admin(arguments: Namespace, terminal: Terminal) -> Admin:
    """Find the admin listener; see the module.

    Raises:
        CommandFailed: an option cannot be used.
        ConfigError: the configuration is wrong.
    """
    environ = terminal.environ
    url = arguments.server or environ.get("MCP_ADMIN_URL")
    path = key_path(arguments.admin_key) if arguments.admin_key else arguments.admin_key_file
    key = key_from(terminal, "MCP_ADMIN_KEY", path)
    if url and key:
        return Admin(Target(parse_address(url), key), arguments.timeout)
    from open_autoglm.config import load_config  # only when it is needed: it is most of the start

    config = load_config(arguments.config, environ, insecure=True).config
    address = parse_address(url) if url else _address(config)
    return Admin(Target(address, key or _kept_key(config)), arguments.timeout)


def _address(config: ServerConfig) -> Address:
    host = config.server.admin_host
    return Address(False, _ANY_ADDRESS.get(host, host), config.server.admin_port)


def _kept_key(config: ServerConfig) -> Secret | None:
    if config.server.admin_key is not None:
        return config.server.admin_key
    path = os.path.join(config.server.data_dir, "admin.key")
    return read_key(path) if os.path.exists(path) else None


def _refusal(answer: Answer, value: Any, target: Target) -> Exception:
    """Put a refusal into an exception that says what to do."""
    if answer.status in (401, 403):
        what = "refused the key" if target.key is not None else "asks for a key"
        return CommandFailed(
            f"{target.address} {what}; set MCP_ADMIN_KEY, or name that server's DATA_DIR/admin.key "
            "with --admin-key file:PATH"
        )
    problems = _problems(value)
    if problems:
        return ConfigError(str(target.address), problems)
    message = error_message(value)
    if not message:
        message = f"answered {answer.status} without saying why; is it the admin listener (port 8081 by default)?"
    refusal = NotThere if answer.status == 404 and error_message(value) else CommandFailed
    return refusal(f"{target.address}: {message}")


def _problems(value: Any) -> list[ConfigProblem]:
    error = value.get("error") if isinstance(value, dict) else None
    listed = error.get("problems") if isinstance(error, dict) else None
    if not isinstance(listed, list):
        return []
    return [
        ConfigProblem(str(each.get("path", "")), int(each.get("line") or 0), str(each.get("message", "")))
        for each in listed
        if isinstance(each, dict)
    ]
